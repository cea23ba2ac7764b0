"""Features: φ with φ(x)·φ(z) ≈ a kernel, one kernel a file, each with `build(settings, image_shape) -> Features`."""
