"""Transformations of a data set before learning: published noise, preprocessing, and their cache."""
