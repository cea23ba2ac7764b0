"""Readers of tables: .csv and .tsv, whose first line names the columns, and .parquet.

`--target` names the column of labels. Two text tables separated by a comma, `--data=train.csv,test.csv`, are the train
and the test rows.
"""

import csv
import dataclasses
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.extras import require
from linearized.base.messages import log_once
from linearized.base.nearest import hint
from linearized.base.reading import TEXT_LIMIT, opened, parsing, read_bytes
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import FileFormat
from linearized.settings.memory import refuse_beyond_machine
from linearized.settings.own_settings import OwnDataSettings

TARGETS = ("target", "targets", "label", "labels", "class", "y")  # names of columns that are the target by default
READS = ("target", "drop_columns")
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}  # bytes of a value of Parquet's physical types; 8 for the others
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?|[+-]?\d+")
HEAD = 2**16  # bytes within which the first line must end


class TextTable(FileFormat):
    """Reader of tables as text (.csv, .tsv).

    Fields are separated by tabs in a .tsv; in a .csv by commas, or by `;`, tabs or `|` if its header has no comma. If
    they are not separated by commas, numbers may have decimal commas.
    """

    suffixes, kind, reads, limit = (".csv", ".tsv"), "a table", READS, TEXT_LIMIT

    def paths(self, text: str) -> list[str]:
        """Return the path of the table that `text` names, or of two tables that are separated by a comma.

        Raises `UserError` for more than two tables.
        """
        texts = [one.strip() for one in text.split(",")]
        if Path(text).exists() or not all(Path(one).suffix.lower() in self.suffixes for one in texts):
            return [text]
        if len(texts) > 2:
            raise UserError(f"--data takes one table, or two: those of the train and of the test rows. Received: "
                            f"{len(texts)} in {text[:200]}.")  # fmt: skip
        return texts

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the inputs, as data frames, and the labels of one table, or of a train and a test table.

        Args:
            text: Path of a table, or two paths with a comma, the value of --data.
            options: Settings of the user's own data, of which `target` and `drop_columns` are used.

        Raises `UserError` for a file that is missing or damaged, for a column that does not exist, and if train and
        test tables differ in their columns.
        """
        paths = self.paths(text)
        frames = [_frame(path, self.limit) for path in paths]
        if odd := sorted(set(frames[0].columns) ^ set(frames[-1].columns)):
            raise UserError(f"{' and '.join(paths)} must have the same columns. In one of them alone: "
                            f"{', '.join(odd)[:200]}.")  # fmt: skip
        train = of_frame(frames[0], paths[0], options)
        if len(frames) == 1:
            return train
        test = of_frame(frames[1][frames[0].columns], paths[1], options)
        return dataclasses.replace(train, x_test=test.x, y_test=test.y)


def _frame(path: str, limit: int | None) -> Any:
    """Return the data frame of a text table.

    Args:
        path: File of the table.
        limit: Largest size of the file in bytes; None for no limit.

    Raises `UserError` for a file that is missing, not UTF-8, without a header or with rows longer than the header.
    """
    import pandas as pd

    content = read_bytes(path, "a table", limit=limit)
    with parsing(path, "a table in UTF-8", "Save it as CSV in UTF-8."):
        head = content[:HEAD].split(b"\n")[0].decode("utf-8-sig").rstrip("\r")
        separator = "\t" if Path(path).suffix.lower() == ".tsv" else _separator(head)
        names = _header(next(csv.reader([head], delimiter=separator), []), path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            try:
                frame = _read(content, separator, ".")
                if separator != "," and any(map(_has_decimal_commas, frame.select_dtypes(exclude="number").items())):
                    frame = _read(content, separator, ",")
            except pd.errors.ParserWarning as warning:
                raise UserError(f"{path} has rows with more values than its header has names ({len(names)}). "
                                "Name every column in the first line.") from warning  # fmt: skip
        frame.columns = names
    return _without_unnamed(frame, path)


def _separator(head: str) -> str:
    """Return the character that separates the names in the first line of a table.

    It is a comma if the line has one, otherwise the most frequent of `;`, tab and `|`, or a comma if the line has none
    of these.
    """
    found = "," if "," in head else max(";\t|", key=head.count)
    return found if found in head else ","


def _read(content: bytes, separator: str, decimal: str) -> Any:
    import pandas as pd

    return pd.read_csv(io.BytesIO(content), sep=separator, decimal=decimal, encoding="utf-8-sig", skipinitialspace=True,
                       low_memory=False, index_col=False)  # fmt: skip


def _has_decimal_commas(column: tuple[Any, Any]) -> bool:
    """Return whether all texts of a column are numbers such as 1,5, and there is at least one.

    Args:
        column: Name and values of the column, as `DataFrame.items` yields them.
    """
    values = [value for value in column[1] if isinstance(value, str)]
    return bool(values) and all(DECIMAL_COMMA.fullmatch(value.strip()) for value in values)


def _without_unnamed(frame: Any, path: str) -> Any:
    """Remove the unnamed column in which pandas and R number or name the rows of a table, if there is one.

    Its values are whole numbers or text, and all differ. An unnamed column without any value is removed too; a
    separator at the end of each line causes it. Raises `UserError` for any other unnamed column.

    Args:
        frame: The table.
        path: File of the table, for the error message.
    """
    if "" not in frame.columns:
        return frame
    values = frame[""]
    if not values.isna().all():
        if values.dtype.kind == "f" or not values.is_unique:
            raise UserError(
                f"{path}: column {list(frame.columns).index('') + 1} has no name. Name it in the first line."
            )
        log_once(logging.INFO, "%s: the column without a name, which names or counts the rows, is left out.", path)
    return frame.drop(columns="")


class Parquet(FileFormat):
    """Reader of tables in Apache Parquet format, by pyarrow."""

    suffixes, kind, reads = (".parquet", ".pq"), "a Parquet file", READS

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the inputs, as a data frame, and the labels of a Parquet file.

        Args:
            text: Path of the file, the value of --data.
            options: Settings of the user's own data, of which `target` and `drop_columns` are used.

        Raises `UserError` for a file that is missing, damaged or too large, and for a column that does not exist.
        """
        import pandas as pd

        require("pyarrow", "parquet", f"--data={text}")
        import pyarrow.parquet as pq

        with opened(text, "a Parquet file") as file:
            _refuse_large(pq.ParquetFile(file).metadata, text)
            file.seek(0)
            frame = pd.read_parquet(file, engine="pyarrow")
        return of_frame(frame, text, options)


def _refuse_large(metadata: Any, where: str) -> None:
    """Raise `UserError` if the unpacked columns of a Parquet file take more memory than the machine has.

    The size of the file does not bound the memory, because repeated values take almost no space in the file. The memory
    of each column is estimated from its number of values times the bytes per value (8 for text, the size of a pointer),
    or from its uncompressed size in the file if this is larger.

    Args:
        metadata: Metadata of the file, from pyarrow.
        where: Name of the file in the error message.
    """
    needed = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            column = row_group.column(place)
            width = WIDTHS.get(column.physical_type, 8)
            needed += max(width * column.num_values, column.total_uncompressed_size)
    refuse_beyond_machine(needed, f"{where}, unpacked,", "Keep fewer rows or columns in it.")


def of_frame(frame: Any, where: str, options: OwnDataSettings) -> OwnArrays:
    """Separate the columns of a table into labels and inputs.

    Args:
        frame: The table; its column names are converted to text in place.
        where: Name of the data in error messages.
        options: Settings of the user's own data. `target` names the columns of the labels; if it is empty, the labels
            are the only column whose name is in `TARGETS`. `drop_columns` names columns that are left out. All others
            are inputs.

    Raises `UserError` for a table without rows, for a column that does not exist or is both a target and left out, and
    if `target` is empty and none or several of the columns have a usual name.
    """
    if not len(frame):
        raise UserError(f"{where} has no row below its header.")
    names = [str(name) for name in frame.columns]
    frame.columns = names
    asked = [name.strip() for name in options.target.split(",") if name.strip()]
    dropped = [name.strip() for name in options.drop_columns.split(",") if name.strip()]
    for flag, wanted in (("target", asked), ("drop_columns", dropped)):
        for name in wanted:
            if name not in names:
                raise UserError(f"{where} has no column {name!r}, which --{flag} names.{hint(name, names)} It has: "
                                f"{', '.join(names)[:400]}.")  # fmt: skip
    if both := sorted(set(asked) & set(dropped)):
        raise UserError(f"--target and --drop_columns both name {both[0]}. Leave it out of one of them.")
    targets = asked or [name for name in names if name.lower() in TARGETS]
    if len(targets) != 1 and not asked:
        found = f"several may be: {', '.join(targets)}" if targets else "none is called " + ", ".join(TARGETS)
        raise UserError(f"Name the column to predict with --target, because {found}. {where} has: "
                        f"{', '.join(names)[:400]}.")  # fmt: skip
    inputs = frame.drop(columns=list(dict.fromkeys(targets + dropped)))
    labels = frame[targets].to_numpy() if len(targets) > 1 else frame[targets[0]].to_numpy()
    return OwnArrays(inputs, np.asarray(labels))


def _header(names: list[str], where: str) -> list[str]:
    """Return the names of the columns in the first line of a table, without blanks around them.

    Some of the names may be numbers, as pandas writes them. If more than half are numbers, they must count from 0 or 1
    in order, and there must be other names too.

    Args:
        names: Fields of the first line.
        where: Name of the file in error messages.

    Raises `UserError` if the first line is empty, has a name twice, or consists mostly of other numbers.
    """
    names = [name.strip() for name in names]
    if not any(names):
        raise UserError(f"{where} has an empty first line, which must name the columns.")
    numbers = [name for name in names if _number(name)]
    counted = numbers in [[str(place + first) for place in range(len(numbers))] for first in (0, 1)]
    if len(numbers) * 2 > len(names) and not (counted and 2 < len(numbers) < len(names)):
        raise UserError(f"{where} has no header: its first line is {', '.join(names)[:60]}. Add a line that names the "
                        "columns.")  # fmt: skip
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where} has two columns {twice[0]!r}. Rename one of them.")
    return names


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


TEXT, PARQUET = TextTable(), Parquet()
