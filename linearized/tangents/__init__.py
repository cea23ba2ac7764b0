"""Empirical neural tangent kernels (NTK) of Keras models, with faster computation for standard types of layers.

`linearized.empirical_ntk` is the main function. It supports any Keras model with one input and one output.
"""
