"""Reader of LIBSVM's text format, with one line "label column:value column:value ..." per row.

Column numbers start at 0, as scikit-learn writes them by default, if a row of the file or of its test part has a column
0. Otherwise they start at 1, as in LIBSVM.

The file may have any suffix or none. If there is a file with the same name and the additional suffix .t, as in LIBSVM's
collection, it holds the test rows.
"""

import re
from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import TEXT_LIMIT, opened
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import FileFormat
from linearized.settings.memory import refuse_beyond_machine
from linearized.settings.own_settings import OwnDataSettings

NUMBER = rb"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?"
LINE = re.compile(rb"\s*" + NUMBER + rb"(?:\s+[0-9]+:" + NUMBER + rb")+\s*(?:#.*)?$")
HEAD = 2**20  # bytes within which comments and the first line must end
MOST_COLUMNS = 10**7


class LibSvm(FileFormat):
    """Reader of LIBSVM files, whose sparse rows become dense float32 arrays."""

    suffixes, kind = (".libsvm", ".svm", ".svmlight"), "a LIBSVM file"
    limit = TEXT_LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the path `text` has a suffix of LIBSVM, or its first line after comments has this format."""
        if super().fits(text):
            return True
        if not Path(text).is_file():
            return False
        with opened(text, self.kind) as file:
            lines = (line.strip() for line in file.read(HEAD).split(b"\n"))
            first = next((line for line in lines if line and not line.startswith(b"#")), b"")
            return LINE.match(first) is not None

    def paths(self, text: str) -> list[str]:
        """Return the file `text`, and the file of the test rows, `text` with the suffix .t, if it exists."""
        return [text, f"{text}.t"] if Path(f"{text}.t").is_file() else [text]

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the rows as dense float32 arrays, and the labels.

        Args:
            text: Path of the file, the value of --data.
            options: Not used.

        Raises `UserError` for a file that is missing or damaged, and for rows that do not fit in memory.
        """
        from sklearn.datasets import load_svmlight_file

        parts = []
        for path in self.paths(text):
            with opened(path, self.kind, limit=self.limit) as file:
                parts.append(load_svmlight_file(file, dtype=np.float64, zero_based=True))
        if all(not x.nnz or x.indices.min() > 0 for x, _y in parts):
            parts = [(x[:, 1:], y) for x, y in parts]
        columns = max(x.shape[1] for x, _y in parts)
        if columns > MOST_COLUMNS:
            raise UserError(f"{text} has a column {columns:,}, more than {MOST_COLUMNS:,}. Number the columns anew.")
        rows = sum(x.shape[0] for x, _y in parts)
        refuse_beyond_machine(4 * rows * columns, f"{text}, {rows:,} rows of {columns:,} columns,", "Give fewer rows.")
        arrays: list[np.ndarray] = []
        for x, y in parts:
            x.resize((x.shape[0], columns))
            with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are refused with their row
                arrays += [x.astype(np.float32).toarray(), y]
        return OwnArrays(*arrays)


LIBSVM = LibSvm()
