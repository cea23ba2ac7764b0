"""Scalar functions and their duals: what a layer of them does to a kernel, entry by entry."""
