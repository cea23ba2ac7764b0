"""Kernels of any architecture of the library neural_tangents.stax; the only package that imports neural_tangents.

`network` parses architectures and builds their kernels, `activation` makes layers of the activations of this suite, and
`compat` adapts neural_tangents to current JAX.
"""
