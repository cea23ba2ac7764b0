"""The convolutional neural tangent kernel (CNTK).

`architecture` describes the networks, such as Myrtle-5. The recursion is implemented in `recursion_numba` (CPU),
`recursion_cuda` (GPU) and `recursion_jax` (plain JAX); `general_jax` supports any activation.
"""
