"""Transformations of a data set before learning: noise on images, preprocessing, and a cache of noisy images."""
