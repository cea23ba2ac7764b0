"""Kernels of neural networks of infinite width, other kernels, and features that approximate them.

`gram` computes the kernel matrix of arrays in memory, and `embedding` returns a function that maps such arrays to
features. `python -m kernel_gen` computes the Gram matrix of a dataset and writes it to files. `KERNELS` lists the
kernels. `Elementwise` makes an activation from a user's function; `HermiteDual` and `MonteCarlo` are activations whose
kernels are computed approximately. This is the only package that imports Numba. JAX is imported by this package and, if
JAX is the backend of Keras, by `linearized.tangents`.
"""

import importlib

from linearized.settings.gram_settings import KERNELS

_LAZY = {
    "gram": "kernel_gen.gram_in_memory", "embedding": "kernel_gen.embedding_in_memory",
    "Elementwise": "kernel_gen.activations.elementwise",
    "HermiteDual": "kernel_gen.activations.approximations", "MonteCarlo": "kernel_gen.activations.approximations",
}  # fmt: skip

__all__ = ["KERNELS", "Elementwise", "HermiteDual", "MonteCarlo", "embedding", "gram"]


def __getattr__(name: str):
    """Import and return the public object `name` when it is first used, so that this package stays quick to import.

    Raises `AttributeError` for other names.
    """
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
