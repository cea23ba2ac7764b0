"""Marks of missing values, such as "?" and "n/a", in columns whose other values are numbers.

A file of text writes a missing number as it likes. Such a column would be read as text, and its numbers as categories;
here it becomes a column of numbers with missing values, to which `--missing` applies. Columns with any other text are
left as they are: there "?" may be a category.
"""

import collections
from collections.abc import Iterable
from typing import Any

import numpy as np

MARKS = frozenset(("", "?", "-", "--", ".", "*", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing"))


def without_marks(frame: Any, columns: Iterable[str] | None = None) -> tuple[Any, dict[str, str]]:
    """Return a data frame with marks of missing values in columns of numbers as NaN, and what was found by column.

    The frame that is given is not changed.

    Args:
        columns: Names of those that may be columns of numbers, such as those of the train rows; None: any.
    """
    found: dict[str, str] = {}
    asked = None if columns is None else set(columns)
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        looked = _is_text(column) and (asked is None or str(name) in asked)
        numbers, marks = _numbers(column.to_numpy(dtype=object)) if looked else (None, "")
        if numbers is not None:
            frame = frame.copy() if not found else frame
            frame.isetitem(place, numbers)
            found[str(name)] = marks
    return frame, found


def labels_without_marks(y: np.ndarray) -> tuple[np.ndarray, str]:
    """Return labels with marks of missing values among numbers as NaN, and the marks that were found ("" for none)."""
    if y.dtype.kind not in "OU" or not y.size:
        return y, ""
    numbers, marks = _numbers(y.reshape(-1).astype(object))
    return (y, "") if numbers is None else (numbers.reshape(y.shape), marks)


def _is_text(column: Any) -> bool:
    from pandas.api import types

    return types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)


def _numbers(values: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Return values (n,) as float64 with marks as NaN, and the marks; None where there are none or other text."""
    numbers, marks = np.full(len(values), np.nan), collections.Counter()
    for place, value in enumerate(values):
        if isinstance(value, str) and value.strip().lower() in MARKS:
            marks[value.strip()] += 1
        elif isinstance(value, bool | np.bool_ | bytes):
            return None, ""
        elif value is not None and value == value and str(value) != "<NA>":  # NaN is not equal to itself
            try:
                numbers[place] = float(value)
            except (TypeError, ValueError):
                return None, ""
    if not marks or np.isnan(numbers).all():
        return None, ""
    return numbers, ", ".join(f"{mark!r} {count} times" for mark, count in marks.items())
