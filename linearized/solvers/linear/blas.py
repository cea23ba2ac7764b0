"""Symmetric BLAS routines that work in place on a part of a larger array, which NumPy and SciPy would copy first.

`symmetric_product` reads one triangle, and `symmetric_update` writes one triangle. Both call SciPy's BLAS through the
pointers that scipy.linalg.cython_blas exports, and run at the speed of a large matrix product.
"""

import ctypes
from functools import cache

import numpy as np
from scipy.linalg import cython_blas

from linearized.base.shapes import Float

_CHAR_L, _CHAR_N = ctypes.c_char_p(b"L"), ctypes.c_char_p(b"N")
_LETTERS = {np.dtype(np.float32): ("s", ctypes.c_float), np.dtype(np.float64): ("d", ctypes.c_double)}


def symmetric_product(a: Float[np.ndarray, "m m"], v: Float[np.ndarray, "m c"]) -> Float[np.ndarray, "m c"]:
    """Return A v for the symmetric matrix A with the lower triangle of `a`; the upper triangle of `a` is not read.

    Args:
        a: Array or part of an array, whose columns have unit stride.
        v: Matrix of the same dtype.
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
    """Replace the lower triangle of `a` by that of A - v wᵀ - w vᵀ; the upper triangle is neither read nor written.

    Args:
        a: Array or part of an array, whose columns have unit stride. Its lower triangle is that of the symmetric A.
        v: Matrix of the same dtype.
        w: Matrix of the same dtype.
    """
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
    """Return a Fortran routine of SciPy's BLAS as a function; all its arguments are pointers.

    Args:
        name: Name of the routine without the letter of the data type, such as "symm".
        dtype: float32 or float64.
        arguments: Number of arguments of the routine.
    """
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
    """Return the leading dimension of a column-major array for BLAS: the distance between columns, in entries.

    Raises ValueError if the columns do not have unit stride.
    """
    if array.strides[0] != array.itemsize:
        raise ValueError(f"Columns must have unit stride. Received: strides {array.strides} of {array.dtype}.")
    return _int(max(array.strides[1] // array.itemsize, array.shape[0], 1))
