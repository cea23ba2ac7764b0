"""Reduction of a Gram matrix to a band, after which each ridge needs one banded Cholesky factorisation."""
