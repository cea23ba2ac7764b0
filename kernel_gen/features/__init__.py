"""Features φ of kernels: functions of rows with φ(x)·φ(z) ≈ k(x, z), so that a linear model on φ approximates a kernel.

Each `*_features` module provides the features of one kernel by `build(settings, image_shape, dim)`. The other modules
are the components of these: layers of a network, and random sketches. In them features are arrays (rows, columns): a
row is one feature, and a column one input, or one pixel of an image.
"""
