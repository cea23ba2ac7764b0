"""Features φ of kernels k: functions of rows with φ(x)·φ(z) ≈ k(x, z), for linear models that approximate a kernel.

Each `*_features` module provides the features of one kernel by its function `build(settings, image_shape, dim)`. The
other modules contain their components: layers of a network, and random sketches. In these modules features are arrays
(rows, columns) in which a row is one feature and a column is one input, or one pixel of an image.
"""
