"""Scalable neural network kernels: layers, features, fits to dense layers, bundling and uptraining."""
