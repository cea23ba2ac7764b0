"""Predictions of learning theory: the error of kernels and random features from eigenvalues, with NumPy and SciPy."""
