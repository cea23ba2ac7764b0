"""Functions that replace marks of missing values, such as "?" and "n/a", by NaN in columns of numbers.

Text files mark missing numbers in various ways. Without these functions, a column with marks would be read as text, and
its numbers as categories. Here it becomes a column of numbers with missing values, to which `--missing` applies.
Columns with any other text are left unchanged, because there "?" may be a category.
"""

import collections
from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

MARKS = frozenset(("", "?", "-", "--", ".", "*", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing"))


def without_marks(frame: Any, columns: Iterable[str] | None = None) -> tuple[Any, dict[str, str]]:
    """Replace texts such as "?" that mark missing values by NaN in the numeric columns of a table.

    Columns of type object that hold only numbers, such as `decimal.Decimal`, become float64 too. The given frame is not
    changed.

    Args:
        frame: The data frame.
        columns: Names of the columns to convert if their other values are numbers, such as the numeric columns of the
            train rows; None: all columns.

    Returns: The new data frame, and, by name of the column, a description of the marks that were found in it.
    """
    found: dict[str, str] = {}
    changed = frame
    asked = None if columns is None else set(columns)
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        looked = _is_text(column) and (asked is None or str(name) in asked)
        numbers, marks = _numbers(column.to_numpy(dtype=object)) if looked else (None, "")
        if numbers is not None:
            changed = frame.copy() if changed is frame else changed
            changed.isetitem(place, numbers)
            found |= {str(name): marks} if marks else {}
    return changed, found


def labels_without_marks(y: np.ndarray) -> tuple[np.ndarray, str]:
    """Replace texts such as "?" that mark missing values by NaN in labels that are numbers otherwise.

    Returns: The labels, and a description of the marks that were found; the labels unchanged and "" if there are none.
    """
    if y.dtype.kind not in "OU" or not y.size:
        return y, ""
    numbers, marks = _numbers(y.reshape(-1).astype(object))
    return (y, "") if numbers is None or not marks else (numbers.reshape(y.shape), marks)


def _is_text(column: Any) -> bool:
    from pandas.api import types

    return types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)


def _numbers(values: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Convert values to float64, with NaN for missing ones and for texts such as "?" that mark them.

    Args:
        values: Values (n,) of type object.

    Returns: The numbers (n,), and a description of the marks. Instead of the numbers, None is returned in three cases:
        a value is neither a number nor a mark, no value is a number, or numbers are stored as text and there is no
        mark.
    """
    numbers, marks, texts = np.full(len(values), np.nan), collections.Counter(), 0
    for place, value in enumerate(values):
        if isinstance(value, str) and value.strip().lower() in MARKS:
            marks[value.strip()] += 1
        elif value is None or str(value) in ("<NA>", "nan", "NaT"):
            continue
        elif isinstance(value, str | Decimal | Real) and not isinstance(value, bool | np.bool_):
            texts += isinstance(value, str)
            try:
                numbers[place] = float(value)
            except ValueError:
                return None, ""
        else:
            return None, ""
    if np.isnan(numbers).all() or (texts and not marks):
        return None, ""
    return numbers, ", ".join(f"{mark!r} {count} times" for mark, count in marks.items())
