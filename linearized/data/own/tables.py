"""Conversion of tables to float32 rows, by scikit-learn's ColumnTransformer fitted on train rows.

Numeric columns are kept unchanged, in their order, and come first. A categorical column (text, categories, truth
values) becomes one column of 0 and 1 per category of the train rows, in alphabetical order; a category that the train
rows lack is 0 in all of these columns.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from linearized.base.errors import UserError, shown
from linearized.data.own.marks import without_marks

CATEGORIES = 50  # distinct values up to which a column of text is categorical, whatever the number of rows
TEXT_SHARE = 0.2  # fraction of distinct values in the rows above which a column is free text, not categories


@dataclasses.dataclass(frozen=True)
class TableColumns:
    """A fitted conversion of data frames to float32 rows.

    Attributes:
        names: Names of the columns of the train rows.
        transformer: The fitted ColumnTransformer of scikit-learn.
    """

    names: tuple[str, ...]
    transformer: Any

    def __call__(self, frame: Any) -> np.ndarray:
        """Convert a data frame to float32 rows (n, d); missing numbers stay NaN unless the conversion fills them in.

        Raises `UserError` for missing columns, and for anything except numbers in a numeric column.
        """
        if not hasattr(frame, "columns"):
            raise UserError(f"The train rows were a table with the columns {', '.join(self.names)[:200]}. Give a data "
                            "frame.")  # fmt: skip
        lacking = [name for name in self.names if name not in map(str, frame.columns)]
        if lacking:
            raise UserError(f"The table has no column {', '.join(lacking)[:200]}, which the train rows have.")
        columns = {kind: names for kind, _transformer, names in self.transformer.transformers_}
        frame, _marks = without_marks(frame, columns.get("numeric", ()))
        frame = plain(frame, columns.get("categorical", ()))[list(self.names)]
        for name in columns.get("numeric", ()):
            if frame[name].dtype == object:
                raise UserError(f"Column {name} holds numbers in the train rows. Give numbers in these rows too.")
        return np.asarray(self.transformer.transform(frame), np.float32)


def plain(frame: Any, text: Iterable[str] = ()) -> Any:
    """Return a copy of a data frame whose column names and categories are text; missing categories become None.

    Args:
        frame: The data frame, which is not changed.
        text: Columns that count as categorical even if they hold numbers.
    """
    frame = frame.copy()
    frame.columns = [str(name) for name in frame.columns]
    for name in {*categorical(frame), *text}:
        column = frame[name].astype(object)
        frame[name] = column.where(frame[name].notna(), None).map(lambda value: None if value is None else _text(value))
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return frame


def _text(value: Any) -> str:
    """Return the name of a category; whole numbers are written without a decimal point.

    In a column with missing values, pandas stores whole numbers as floating-point numbers.
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def categorical(frame: Any) -> list[str]:
    """Return the names of the columns of a data frame that are not numeric, including columns of truth values."""
    from pandas.api import types

    return [str(name) for name, kind in frame.dtypes.items()
            if types.is_bool_dtype(kind) or not types.is_numeric_dtype(kind)]  # fmt: skip


def fit_columns(frame: Any, *, impute: bool) -> TableColumns:
    """Fit the conversion of a table to rows on the train rows.

    Args:
        frame: Inputs of the train rows, a data frame.
        impute: Whether missing values are filled in: with the mean in numeric columns, with the most frequent category
            in the others.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = plain(frame)
    text = [name for name in frame.columns if frame[name].dtype == object]
    numbers = [name for name in frame.columns if name not in text]
    codes = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    if impute:
        filled = SimpleImputer(strategy="most_frequent", missing_values=None)
        steps = [("numeric", SimpleImputer(keep_empty_features=True), numbers),
                 ("categorical", make_pipeline(filled, codes), text)]  # fmt: skip
    else:
        steps = [("numeric", "passthrough", numbers), ("categorical", codes, text)]
    transformer = ColumnTransformer([step for step in steps if step[2]]).fit(frame)
    return TableColumns(tuple(frame.columns), transformer)


def refuse_text(frame: Any, where: str) -> None:
    """Raise `UserError` for a table whose columns cannot become inputs.

    A table is refused if it has no column or two columns of the same name, if a column holds dates or several values
    per row (lists, arrays), and if a column of text has too many distinct values. There are too many if their number
    exceeds both `CATEGORIES` and the fraction `TEXT_SHARE` of the number of rows, or if all values differ and there are
    more than `CATEGORIES` / 2 rows.

    Args:
        frame: Inputs as a data frame, without the target.
        where: Name of the data, with which messages begin.
    """
    if not len(frame.columns):
        raise UserError(f"{where} has no column beside the target. Give inputs.")
    names = [str(name) for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where} has two columns {twice[0]}. Rename one of them.")
    for name in categorical(frame):
        column = frame[name]
        if column.dtype.kind in "mM":
            raise UserError(f"{where}: column {name} holds dates. Leave it out with --drop_columns={name}, or give "
                            "numbers.")  # fmt: skip
        odd = next((value for value in column if isinstance(value, list | tuple | dict | set | np.ndarray)), None)
        if odd is not None:
            raise UserError(f"{where}: column {name} holds several values per row, such as {shown(odd)}. Leave it out "
                            f"with --drop_columns={name}, or give one column for each value.")  # fmt: skip
        distinct = column.astype(str).nunique()
        if distinct > max(CATEGORIES, TEXT_SHARE * len(frame)) or (distinct == len(frame) > CATEGORIES // 2):
            raise UserError(f"{where}: column {name} is text with {distinct} distinct values in {len(frame)} rows, no "
                            f"categories. Leave it out with --drop_columns={name}.")  # fmt: skip
