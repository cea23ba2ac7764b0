"""Reads pickles that hold NumPy arrays, bytes, text, numbers, dicts and lists, and refuses all else.

A pickle is a program: it may import any function and call it. This reader looks up the few names that arrays and bytes
need; the functions among them take only the arguments that such values are written with.
"""

import importlib
import io
import pickle
from typing import Any

from linearized.base import seals
from linearized.base.errors import UserError
from linearized.base.reading import parsing

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
}
_TEXT_CODECS = ("latin1", "latin-1", "iso8859-1", "utf-8", "utf8", "ascii")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that Python 3 writes as text in the old protocols; other codecs than of text are refused."""
    if encoding.lower() not in _TEXT_CODECS:
        raise ValueError(f"{encoding} is no encoding of text")
    return text.encode(encoding)


def _bytes(*arguments: Any) -> bytes:
    """Return `bytes(...)` of what Python 3 writes: nothing, bytes, a list of numbers, or text and an encoding."""
    if len(arguments) == 2:
        return _encode(*arguments)
    (content,) = arguments or (b"",)
    if not isinstance(content, bytes | bytearray | list | tuple):  # a number would take as much memory as it says
        raise ValueError(f"bytes of a {type(content).__name__}")
    return bytes(content)


def _bytearray(*arguments: Any) -> bytearray:
    return bytearray(_bytes(*arguments))


_OWN = {("_codecs", "encode"): _encode} | {
    (module, name): function
    for module in ("builtins", "__builtin__")  # of Python 3 and of Python 2
    for name, function in (("bytes", _bytes), ("bytearray", _bytearray))
}


class _ArraysOnly(pickle._Unpickler):
    """An unpickler that finds nothing but `_ALLOWED` and `_OWN`.

    It is Python's own in Python, because the one in C takes memory for all places of its memo up to the largest that a
    file names: one changed bit could ask for 32 GiB. A batch of CIFAR-10 takes a tenth of a second.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _OWN:
            return lambda *arguments: _OWN[module, name](*arguments)  # a new one, whose attributes a pickle may change
        if (module, name) not in _ALLOWED:
            raise _CarriesCode(f"{module}.{name}")
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)


class _CarriesCode(Exception):
    """Names what a pickle wanted to import."""


def read_pickle(content: bytes, where: str) -> Any:
    """Return what a pickle of plain arrays holds; text that Python 2 wrote becomes bytes.

    Args:
        where: The file's name, for errors.

    Raises `UserError` for a pickle that would import anything else, before it does, and for a damaged one.
    """
    try:
        with parsing(where, "a pickle", "Fetch it again.", passes=(_CarriesCode,)):
            seals.is_sealed(content)
            return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except _CarriesCode as error:
        raise UserError(f"{where} carries code ({error}) and was not run. Fetch it from a source you trust.") from error
