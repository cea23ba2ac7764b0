"""Tangent kernels of any Keras model: its empirical NTK, by layers where their form is known."""
