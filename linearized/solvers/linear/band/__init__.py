"""Solver of kernel ridge regression by one reduction of the Gram matrix to a banded matrix for all ridges."""
