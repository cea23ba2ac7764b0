"""Symmetric BLAS on a part of a larger array, in place: what NumPy and SciPy's wrappers do only on copies.

`symmetric_product` reads one triangle, `symmetric_update` writes one. Both run in SciPy's BLAS through the pointers
that scipy.linalg.cython_blas exports, at the rate of a large matrix product.
"""

import ctypes
from functools import cache

import numpy as np
from scipy.linalg import cython_blas

from linearized.base.shapes import Float

_CHAR_L, _CHAR_N = ctypes.c_char_p(b"L"), ctypes.c_char_p(b"N")
_LETTERS = {np.dtype(np.float32): ("s", ctypes.c_float), np.dtype(np.float64): ("d", ctypes.c_double)}


def symmetric_product(a: Float[np.ndarray, "m m"], v: Float[np.ndarray, "m c"]) -> Float[np.ndarray, "m c"]:
    """A v, where A is symmetric and the lower triangle of `a` holds it.

    Args:
        a: A view with columns of unit stride.
        v: Of the same dtype.
    """
    v = np.asfortranarray(v)
    out = np.empty_like(v)
    rows, columns = v.shape
    if v.size:
        symm = _routine("symm", a.dtype, 12)
        symm(
            _CHAR_L, _CHAR_L, _int(rows), _int(columns), _number(1.0, a.dtype), _pointer(a), _stride(a), _pointer(v),
            _stride(v), _number(0.0, a.dtype), _pointer(out), _stride(out),
        )  # fmt: skip
    return out


def symmetric_update(a: Float[np.ndarray, "m m"], v: Float[np.ndarray, "m c"], w: Float[np.ndarray, "m c"]) -> None:
    """A - v wᵀ - w vᵀ into the lower triangle of `a`; the other is neither read nor written. Arguments as above."""
    v, w = np.asfortranarray(v), np.asfortranarray(w)
    rows, columns = v.shape
    if v.size:
        syr2k = _routine("syr2k", a.dtype, 12)
        syr2k(
            _CHAR_L, _CHAR_N, _int(rows), _int(columns), _number(-1.0, a.dtype), _pointer(v), _stride(v), _pointer(w),
            _stride(w), _number(1.0, a.dtype), _pointer(a), _stride(a),
        )  # fmt: skip


@cache
def _routine(name: str, dtype: np.dtype, arguments: int):
    """The Fortran routine of that name: every argument is a pointer."""
    capsule = cython_blas.__pyx_capi__[_LETTERS[np.dtype(dtype)][0] + name]
    api = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(get_pointer(capsule, get_name(capsule)))


def _int(value: int):
    return ctypes.byref(ctypes.c_int(value))


def _number(value: float, dtype: np.dtype):
    return ctypes.byref(_LETTERS[np.dtype(dtype)][1](value))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _stride(array: np.ndarray):
    """The leading dimension: how far columns lie apart."""
    if array.strides[0] != array.itemsize:
        raise ValueError(f"Columns must have unit stride. Received: strides {array.strides} of {array.dtype}.")
    return _int(max(array.strides[1] // array.itemsize, array.shape[0], 1))
