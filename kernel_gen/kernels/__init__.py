"""Kernels, one per module, each with a function `build(settings, image_shape)` that returns a `Kernel`.

A module also declares properties of its kernel in constants, which other modules read without building the kernel.
`READS` lists the settings that the kernel reads. `TRACE_GRID` states whether the default ridges of kernel ridge
regression scale with the trace of the Gram matrix. `GRADIENTS` is the condition on settings under which the kernel has
gradients in closed form, and `ROTATION_INVARIANT` the condition under which it depends on inner products and norms
alone. A module may have functions `check` and `check_rows`, which raise errors for settings and inputs that do not fit
the kernel.
"""
