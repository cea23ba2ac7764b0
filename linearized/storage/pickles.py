"""Safe reader of pickles, which accepts only NumPy arrays, bytes, text, numbers, dicts and lists.

Loading a pickle can import and call any function. This reader resolves only the few names that pickles of arrays and
bytes contain. The functions among them accept only the arguments that occur in such pickles.
"""

import importlib
import io
import pickle
from typing import Any

from linearized.base import seals
from linearized.base.errors import UserError
from linearized.base.reading import parsing

# Names of the same functions in the modules of NumPy 1 (also in pickles of Python 2) and of NumPy 2.
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
    """Return the bytes of a text in an encoding; pickles in old protocols call this function to restore bytes.

    Raises ValueError for an encoding other than Latin-1, UTF-8 and ASCII.
    """
    if encoding.lower() not in _TEXT_CODECS:
        raise ValueError(f"{encoding} is no encoding of text")
    return text.encode(encoding)


def _bytes(*arguments: Any) -> bytes:
    """Replace the function `bytes` for a pickle: return its result, but accept only harmless arguments.

    Args:
        *arguments: Nothing, or bytes, or a list of numbers, or a text and its encoding.

    Raises ValueError for other arguments. For example, `bytes(n)` would allocate n bytes.
    """
    if len(arguments) == 2:
        return _encode(*arguments)
    (content,) = arguments or (b"",)
    if not isinstance(content, bytes | bytearray | list | tuple):  # bytes(number) would allocate that many bytes
        raise ValueError(f"bytes of a {type(content).__name__}")
    return bytes(content)


def _bytearray(*arguments: Any) -> bytearray:
    return bytearray(_bytes(*arguments))


_OWN = {("_codecs", "encode"): _encode} | {
    (module, name): function
    for module in ("builtins", "__builtin__")  # names in Python 3 and in Python 2
    for name, function in (("bytes", _bytes), ("bytearray", _bytearray))
}


class _ArraysOnly(pickle._Unpickler):
    """An unpickler that resolves only the names in `_ALLOWED` and `_OWN`, which NumPy arrays and bytes need.

    The base class is the unpickler in pure Python. The one in C allocates a table up to the largest index in the file,
    so that one changed bit could request 32 GiB. Reading a batch file of CIFAR-10 takes a tenth of a second.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _OWN:
            return lambda *arguments: _OWN[module, name](*arguments)  # new, because a pickle may change its attributes
        if (module, name) not in _ALLOWED:
            raise _CarriesCode(f"{module}.{name}")
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)


class _CarriesCode(Exception):
    """An error for a pickle that would import an object that is not allowed; its message is the object's name."""


def read_pickle(content: bytes, where: str) -> Any:
    """Return the content of a pickle of plain arrays; text written by Python 2 becomes bytes.

    Args:
        content: Bytes of the pickle.
        where: Name of the file, for error messages.

    Raises `UserError` for a damaged pickle, and for a pickle of other objects before it imports anything for them.
    """
    try:
        with parsing(where, "a pickle", "Fetch it again.", passes=(_CarriesCode,)):
            seals.is_sealed(content)
            return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except _CarriesCode as error:
        raise UserError(f"{where} carries code ({error}) and was not run. Fetch it from a source you trust.") from error
