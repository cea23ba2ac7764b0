"""Functions that find missing values (NaN, empty cells, absent labels) and infinite values, or refuse them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.own.arrays import rows_of

ADVICE = "--missing=drop leaves such rows out, --missing=mean fills in the mean of the train rows"
BLOCK = 2**24  # bytes of rows that are checked together
SHOWN_ROWS = 5
LARGEST = float(np.finfo(np.float32).max)  # larger inputs become infinite as float32


def missing_rows(x: Any) -> np.ndarray:
    """Return a mask (n,) of the rows of `x` that have a missing value; all rows are read, in blocks.

    Args:
        x: Inputs (n, ...) as in `OwnArrays`, or a data frame.
    """
    if hasattr(x, "isna"):
        return x.isna().any(axis=1).to_numpy()
    return _rows_with(x, np.isnan)


def infinite(values: np.ndarray) -> np.ndarray:
    """Return a mask, of the shape of `values`, of values that are infinite or become infinite as float32."""
    if values.dtype.kind == "O":
        flat = [isinstance(value, float) and abs(value) > LARGEST for value in values.reshape(-1)]
        return np.array(flat, bool).reshape(values.shape)
    if values.dtype.kind != "f":
        return np.zeros(values.shape, bool)
    return np.abs(values) > LARGEST if values.dtype.itemsize > 4 else np.isinf(values)


def infinite_rows(x: Any) -> np.ndarray:
    """Return a mask (n,) of the rows of `x` with a value that is infinite or too large for float32.

    All rows are read, in blocks.

    Args:
        x: Inputs (n, ...) as in `OwnArrays`, or a data frame.
    """
    return infinite(_numbers(x)).any(axis=1) if hasattr(x, "isna") else _rows_with(x, infinite)


def _numbers(frame: Any) -> np.ndarray:
    """Return the floating-point columns of a data frame as float64 (n, columns); other columns are NaN."""
    from pandas.api import types

    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    return np.stack([one.to_numpy(np.float64, na_value=np.nan) if types.is_float_dtype(one.dtype)
                     else np.full(len(frame), np.nan) for one in columns], axis=1)  # fmt: skip


def _rows_with(x: Any, bad: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return a mask (n,) of the rows of an array that have a bad value; reads all rows, in blocks.

    Args:
        x: Inputs (n, ...) as in `OwnArrays`; only floating-point values can be bad.
        bad: Function that returns a mask of the bad values of some rows, of shape (rows, values per row).
    """
    if x.dtype.kind != "f" or not len(x):
        return np.zeros(len(x), bool)
    size = max(1, BLOCK // max(1, x.dtype.itemsize * int(np.prod(x.shape[1:]))))
    blocks = (rows_of(x, slice(start, start + size)) for start in range(0, len(x), size))
    return np.concatenate([bad(block.reshape(len(block), -1)).any(axis=1) for block in blocks])


def missing_labels(y: np.ndarray) -> np.ndarray:
    """Return a mask (n,) of the rows with a missing label, or with at least one missing target.

    Args:
        y: Labels (n,) or targets (n, k) of any type.
    """
    if y.dtype.kind == "f":
        absent = np.isnan(y)
    elif y.dtype.kind == "O":
        absent = np.frompyfunc(lambda value: value is None or value != value or str(value) == "<NA>", 1, 1)(y)
        absent = absent.astype(bool)
    else:
        absent = np.zeros(y.shape, bool)
    return absent.reshape(len(y), -1).any(axis=1)


def refuse_missing(x: Any, where: str, numbers: np.ndarray | None = None) -> None:
    """Raise `UserError` if a value of some inputs in memory is missing; the message names the rows and columns.

    Args:
        x: Inputs (n, ...) or a data frame.
        where: Name of the data in the error message.
        numbers: Row numbers (n,), from 0, that the message states; None: indices of rows in `x`.
    """
    rows = np.flatnonzero(missing_rows(x))
    if not len(rows):
        return
    if hasattr(x, "isna"):
        columns = ", ".join(str(name) for name in x.columns[x.isna().any(axis=0)][:10])
    else:
        absent = np.isnan(np.asarray(x[rows]).reshape(len(rows), -1)).any(axis=0)
        columns = ", ".join(map(str, np.flatnonzero(absent)[:10]))
    raise UserError(f"{where}: values are missing in {_listed(rows if numbers is None else numbers[rows])}, columns "
                    f"{columns}. {ADVICE}.")  # fmt: skip


def refuse_infinite(x: Any, where: str, numbers: np.ndarray | None = None) -> None:
    """Raise `UserError` if a value of some inputs in memory is infinite or too large for float32.

    The message names the rows and columns.

    Args:
        x: Inputs (n, ...) or a data frame.
        where: Name of the data in the error message.
        numbers: Row numbers (n,), from 0, that the message states; None: indices of rows in `x`.
    """
    rows = np.flatnonzero(infinite_rows(x))
    if not len(rows):
        return
    if hasattr(x, "isna"):
        names = [str(name) for name in x.columns[infinite(_numbers(x.iloc[rows])).any(axis=0)]]
    else:
        names = np.flatnonzero(infinite(np.asarray(x[rows]).reshape(len(rows), -1)).any(axis=0)).astype(str).tolist()
    raise UserError(f"{where}: values are infinite, or too large for float32, in "
                    f"{_listed(rows if numbers is None else numbers[rows])}, columns {', '.join(names[:10])}. Mend "
                    "them, or leave out these rows or columns.")  # fmt: skip


def refuse_infinite_labels(y: np.ndarray, where: str) -> None:
    """Raise `UserError` if a label or target is infinite or too large for float32; the message names the rows.

    Args:
        y: Labels (n,) or targets (n, k) of any type.
        where: Name of the data in the error message.
    """
    bad = infinite(y).reshape(len(y), -1).any(axis=1)
    if bad.any():
        raise UserError(f"{where}: labels are infinite, or too large for float32, in {_listed(np.flatnonzero(bad))}. "
                        "Mend them, or leave out these rows.")  # fmt: skip


def refuse_missing_labels(absent: np.ndarray, where: str) -> None:
    """Raise `UserError` if labels are missing; the message names the rows.

    Args:
        absent: Mask (n,) of the rows without a label.
        where: Name of the data in the error message.
    """
    if absent.any():
        raise UserError(f"{where}: labels are missing in {_listed(np.flatnonzero(absent))}. --missing=drop leaves such "
                        "rows out.")  # fmt: skip


def _listed(rows: np.ndarray) -> str:
    """Return a phrase such as "3 rows (4, 17, 90)" with the first row numbers, from 0."""
    first = ", ".join(map(str, rows[:SHOWN_ROWS]))
    return f"{len(rows)} row{'s' * (len(rows) > 1)} ({first}{', ...' * (len(rows) > SHOWN_ROWS)}; counted from 0)"
