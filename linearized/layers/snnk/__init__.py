"""Scalable neural network kernels (SNNKs): dense layers as products of random features of inputs and of weights.

The package contains the layers, the features, fits to trained dense layers, and bundling and uptraining of models
("Scalable Neural Network Kernels", ICLR 2024).
"""
