"""Solver of kernel ridge regression by a banded matrix: one reduction of K, then one banded factor per ridge."""
