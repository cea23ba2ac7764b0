"""Kernels, one per module, each with a function `build(settings, image_shape)` that returns a `Kernel`.

A module also declares properties in constants, which other modules read without building the kernel: `READS`, the
settings that its kernel reads; `TRACE_GRID`, whether ridges scale with the trace of the Gram matrix; `GRADIENTS`, the
condition on settings under which the kernel has gradients in closed form; and `ROTATION_INVARIANT`, the condition under
which it depends on inner products and norms alone. Functions `check` and `check_rows`, if any, raise errors for
settings and inputs that do not fit.
"""
