"""Neural networks against kernel methods: training, kernel ridge regression, linearization and comparison of both.

The public names below are imported when they are first used, so that `import linearized` imports no framework and takes
milliseconds.
"""

import importlib
from typing import Any

_HOMES = {
    "DATASETS": "linearized.data",
    "Dataset": "linearized.data",
    "KernelRidgePath": "linearized.kernel_ridge.estimator",
    "RidgePath": "linearized.kernel_ridge.ridge_path",
    "UserError": "linearized.base.errors",
    "compare": "linearized.api.calls",
    "collect": "linearized.storage.results",
    "conjugate_kernel": "linearized.tangents.empirical",
    "empirical_ntk": "linearized.tangents.empirical",
    "fit_embedding": "linearized.kernel_ridge.embedded_fit",
    "fit_linearization": "linearized.api.linearization",
    "from_arrays": "linearized.data.own.memory",
    "krr": "linearized.api.calls",
    "layer_features": "linearized.tangents.empirical",
    "linearize": "linearized.layers.linearization",
    "load": "linearized.data",
    "open_embedding": "linearized.storage.embeddings",
    "open_gram": "linearized.storage.gram",
    "plot": "linearized.api.calls",
    "summary": "linearized.storage.results",
    "theory": "linearized.api.calls",
    "train": "linearized.api.calls",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import and return the public object `name` of the package when it is first used.

    Raises `AttributeError` for other names.
    """
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
