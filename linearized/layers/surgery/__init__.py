"""Replacement of layers inside a trained model."""
