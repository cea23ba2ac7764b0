"""Kernels, one a file, each with `build(settings, image_shape) -> Kernel`."""
