"""Reduction of a Gram matrix to a band, after which every ridge is a banded Cholesky factor."""
