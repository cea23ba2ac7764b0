"""The convolutional neural tangent kernel: fused recursions on CPU and GPU, and a general one in JAX."""
