"""Tangent kernels of any Keras model: the empirical NTK, computed layer by layer for layers of known form."""
