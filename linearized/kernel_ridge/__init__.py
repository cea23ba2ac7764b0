"""Kernel ridge regression as a library: ridge paths, the estimator, and Gram matrices that are loaded or computed."""
