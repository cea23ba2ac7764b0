"""Theoretical predictions of the errors of kernel ridge regression and random features; needs only NumPy and SciPy.

Most of them need the eigenvalues of the kernel and the coefficients of the target in its eigenfunctions.
"""
