"""Solvers of least-squares problems, for a whole grid of ridges at once."""
