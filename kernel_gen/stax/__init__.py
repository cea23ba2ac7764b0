"""Kernels of any architecture of the library neural_tangents.stax; the only package that imports neural_tangents.

`network` reads architectures and makes kernels of them, `activation` adds the activations of this suite, and `compat`
adapts neural_tangents to current JAX.
"""
