"""Tangent kernels of any Keras model: the empirical NTK, computed layer by layer where the layer's form is known."""
