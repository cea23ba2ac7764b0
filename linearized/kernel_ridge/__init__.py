"""Kernel ridge regression as a library: ridge paths, the estimator, Gram matrices that are found or made."""
