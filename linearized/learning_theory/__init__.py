"""Theoretical predictions of the errors of kernel ridge regression and random features, with NumPy and SciPy alone.

Most of them need the eigenvalues of the kernel and the coefficients of the target in its eigenfunctions.
"""
