"""Kernels, one per module, each with `build(settings, image_shape) -> Kernel`."""
