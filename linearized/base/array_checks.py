"""Checks that library calls share: arrays of real numbers, and entries that are not finite."""

from typing import Any

import numpy as np

from linearized.base.errors import UserError

ROWS = 8192  # rows that are examined together, so that a memory map is never read at once


def dense(value: Any, name: str) -> Any:
    """Return what a user gives for an array as one: sparse matrices become dense, and data frames stay as they are.

    Args:
        value: An array, a data frame, a sparse matrix, or whatever NumPy can turn into an array, of any type.
        name: How the error message calls it.

    Raises `UserError` for nested sequences of different lengths.
    """
    if hasattr(value, "iloc"):
        return value
    try:
        return np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be an array. NumPy cannot read it: {error}.") from error


def real_array(value: Any, name: str, *, dtype: np.dtype | type | None = None) -> np.ndarray:
    """Return `value` as an array of real numbers.

    Args:
        value: An array, or whatever NumPy can turn into one.
        name: How the error message calls it.
        dtype: Type of the result; None keeps the type of `value`.

    Raises `UserError` for nested sequences of different lengths, and for text, objects and complex numbers.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be an array of real numbers. NumPy cannot read it: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name} must be an array of real numbers. Received: an array of {array.dtype}.")
    with np.errstate(over="ignore"):  # entries that overflow are found by the check for finite numbers
        return array if dtype is None else array.astype(dtype, copy=False)


def first_not_finite(array: np.ndarray) -> tuple[int, ...] | None:
    """Return the index of the first entry that is NaN or infinite, or None if all are finite.

    Costs one sum over the array where all entries are finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if not array.size or array.dtype.kind in "iub" or np.isfinite(array.sum(dtype=np.float64)):
            return None
    for start in range(0, len(array), ROWS):
        bad = np.argwhere(~np.isfinite(array[start : start + ROWS]))
        if len(bad):
            return (start + int(bad[0][0]), *(int(index) for index in bad[0][1:]))
    return None


def refuse_not_finite(array: np.ndarray, name: str, advice: str = "Correct or drop these rows.") -> None:
    """Raise `UserError` that names the first entry of `array` that is NaN or infinite."""
    where = first_not_finite(array)
    if where is not None:
        place = ", ".join(str(index) for index in where)
        raise UserError(f"{name} must be finite. Received: {array[where]} in entry [{place}]. {advice}")
