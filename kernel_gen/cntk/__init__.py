"""The convolutional neural tangent kernel.

`architecture` describes Myrtle-5 and its like; the recursion is in `recursion_numba` (CPU), `recursion_cuda` (GPU) and
`recursion_jax` (plain); `general_jax` takes any activation.
"""
