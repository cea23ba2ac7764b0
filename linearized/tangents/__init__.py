"""Empirical neural tangent kernels (NTK) of Keras models, computed layer by layer where the type of a layer is known.

`linearized.empirical_ntk` is the main entry point. It takes any Keras model with one input and one output.
"""
