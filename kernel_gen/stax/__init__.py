"""Architectures of neural_tangents.stax as kernels; the only package that imports neural_tangents."""
