"""Checks of arrays that library calls share: real numbers and finite entries."""

from typing import Any

import numpy as np

from linearized.base.errors import UserError

ROWS = 8192  # number of rows that are examined together, so that a memory map is never read as a whole


def dense(value: Any, name: str) -> Any:
    """Convert a user's input to a dense array; data frames are returned unchanged.

    Args:
        value: An array, a data frame, a sparse matrix, or any object that NumPy can convert, of any type.
        name: Name of the value in error messages.

    Raises `UserError` for nested sequences of different lengths.
    """
    if hasattr(value, "iloc"):
        return value
    try:
        return np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be an array. NumPy cannot read it: {error}.") from error


def real_array(value: Any, name: str, *, dtype: np.dtype | type | None = None) -> np.ndarray:
    """Convert `value` to an array of real numbers.

    Args:
        value: An array, or any object that NumPy can convert.
        name: Name of the value in error messages.
        dtype: Type of the result; None keeps the type of `value`.

    Raises `UserError` for nested sequences of different lengths, and for text, objects and complex numbers.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be an array of real numbers. NumPy cannot read it: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name} must be an array of real numbers. Received: an array of {array.dtype}.")
    with np.errstate(over="ignore"):  # the check for finite numbers finds entries that overflow
        return array if dtype is None else array.astype(dtype, copy=False)


def first_not_finite(array: np.ndarray) -> tuple[int, ...] | None:
    """Return the index of the first entry that is NaN or infinite, or None if all are finite.

    Costs one sum over the array if all entries are finite.
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
    """Raise `UserError` for the first entry of an array that is NaN or infinite.

    Args:
        array: Array of numbers.
        name: Name of the array in the error message.
        advice: Sentence at the end of the error message that says what to do.
    """
    where = first_not_finite(array)
    if where is not None:
        place = ", ".join(str(index) for index in where)
        raise UserError(f"{name} must be finite. Received: {array[where]} in entry [{place}]. {advice}")
