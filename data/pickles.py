"""Reads pickles that hold NumPy arrays, bytes, text, numbers, dicts and lists, and refuses all else.

A pickle is a program: it may import any function and call it. This reader looks up the few names that arrays need.
"""

import importlib
import io
import pickle
import struct
from typing import Any

from data.errors import UserError

# Module names of NumPy 1 (and of Python 2) and of NumPy 2 for the same functions.
_ALLOWED = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _CarriesCode(f"{module}.{name}")
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)


class _CarriesCode(Exception):
    """Names what a pickle wanted to import."""


def read_pickle(content: bytes, where: str) -> Any:
    """What a pickle of plain arrays holds; text that Python 2 wrote comes as bytes.

    Args:
        where: The file's name, for errors.

    Raises `UserError` for a pickle that would import anything else, before it does, and for a damaged one.
    """
    try:
        return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except _CarriesCode as error:
        raise UserError(f"{where} carries code ({error}) and was not run. Fetch it from a source you trust.") from error
    except (
        pickle.UnpicklingError, struct.error, ArithmeticError, AssertionError, AttributeError, BufferError, EOFError,
        ImportError, LookupError, MemoryError, NotImplementedError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise UserError(f"{where} is damaged: it is no whole pickle ({error}). Fetch it anew.") from error
