"""Kernels of neural networks of infinite width, other kernels, and features that approximate them.

`gram` returns kernel matrices of arrays in memory, `embedding` features of them, and `python -m kernel_gen` computes
the Gram matrix of a dataset in files. `KERNELS` lists the kernels; `Elementwise`, `HermiteDual` and `MonteCarlo` are
user-defined and approximate activations. This is the only package that imports Numba. JAX is imported here, and by
`linearized.tangents` where Keras runs on it.
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
