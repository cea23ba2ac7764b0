"""The convolutional neural tangent kernel (CNTK) of networks of infinite width.

`architecture` describes the networks, such as Myrtle-5. `diagonal` computes the variances of the pixels in each layer,
which depend on one image alone. The recursion through the layers of ReLU networks is implemented in `recursion_numba`
(CPU), `recursion_cuda` (GPU) and `recursion_jax` (plain JAX, the most readable one). `engine` runs the recursion on
many pairs of images, and `fused` provides the result as a `Kernel`. `general_jax` supports any activation.
"""
