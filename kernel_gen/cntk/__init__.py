"""The convolutional neural tangent kernel (CNTK) of networks of infinite width.

`architecture` describes the networks, such as Myrtle-5, and `diagonal` computes what depends on one image alone. The
recursion through the layers is implemented in `recursion_numba` (CPU), `recursion_cuda` (GPU) and `recursion_jax`
(plain JAX, readable) for ReLU networks; `general_jax` supports any activation. `engine` computes blocks of pairs of
images, and `fused` provides them as a `Kernel`.
"""
