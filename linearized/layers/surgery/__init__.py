"""Exchanging layers inside a trained model."""
