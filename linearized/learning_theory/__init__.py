"""Predictions of learning theory with NumPy and SciPy: the error of kernels and random features from eigenvalues."""
