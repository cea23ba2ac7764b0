"""Reader of pickles of plain arrays, gzipped or not, such as the well-known mnist.pkl.gz.

The pickle holds one of the following; lists may replace tuples:

    ((x, y), (x, y), (x, y))    train, validation and test rows, as in mnist.pkl.gz
    ((x, y), (x, y))            train and test rows
    (x, y)                      rows that are split at random into train and test rows, reproducibly for a seed
    {"x_train": ..., ...}       arrays under the same names as in .npz files

A pickle can execute any code when it is loaded. `linearized.storage.pickles` reads only NumPy arrays, text, numbers and
containers of them, and refuses everything else before it is executed.
"""

from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import parsing, read_bytes
from linearized.data.own.arrays import OwnArrays, from_names
from linearized.data.own.formats import FileFormat
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import is_gzipped, unzipped
from linearized.storage.pickles import read_pickle

LIMIT = 2**31  # bytes of a pickle, ten times mnist.pkl, because a few bytes of gzip may expand without end
ADVICE = 'Save the arrays with np.savez("data.npz", x=inputs, y=labels), or as ((x, y), (x, y), (x, y)).'
PARTS = {1: ("",), 2: ("", "_test"), 3: ("", "_validation", "_test")}  # suffixes in `OwnArrays`, by number of pairs


class Pickle(FileFormat):
    """Reader of files with one pickle that holds arrays of inputs and labels."""

    suffixes, kind, advice, limit = (".pkl", ".pickle"), "a pickle", ADVICE, LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the path `text` ends with .pkl or .pickle, perhaps followed by .gz."""
        path = Path(text.lower())
        return (path.with_suffix("") if path.suffix == ".gz" else path).suffix in self.suffixes

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the inputs and labels in the pickle.

        Args:
            text: Path of the file, the value of --data.
            options: Not used.

        Raises `UserError` for a file that is missing or damaged, or that holds anything except such arrays.
        """
        content = read_bytes(text, self.kind, ADVICE, limit=LIMIT)
        if is_gzipped(content):
            with parsing(text, "a gzipped pickle", ADVICE):
                content = unzipped(content, LIMIT + 1)
                if len(content) > LIMIT:
                    raise ValueError(f"it holds more than {LIMIT:,} bytes")
        value = read_pickle(content, text)
        if isinstance(value, dict):
            return from_names(_named(value), text)
        pairs = [value] if _is_pair(value) else value
        if not isinstance(pairs, tuple | list) or len(pairs) not in PARTS or not all(map(_is_pair, pairs)):
            raise UserError(f"{text} holds {_described(value)}, and not pairs (x, y) of arrays. {ADVICE}")
        arrays = {f"{letter}{part}": np.asarray(array) for part, pair in zip(PARTS[len(pairs)], pairs, strict=True)
                  for letter, array in zip("xy", pair, strict=True)}  # fmt: skip
        return OwnArrays(**arrays)


def _is_pair(value: Any) -> bool:
    """Return whether a value of a pickle is a pair (x, y): an array of inputs, and one label per row."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    x, y = value
    return _is_plain(x) and x.ndim > 1 and (_is_labels(y) or (_is_plain(y) and y.ndim > 0)) and len(x) == len(y)


def _is_plain(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.dtype.hasobject


def _named(values: dict[Any, Any]) -> dict[str, np.ndarray]:
    """Return the arrays, and the lists of labels, in a pickled dictionary by name; other entries are left out.

    Names that Python 2 wrote are bytes, and are decoded.
    """
    named = {key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key): value
             for key, value in values.items()}  # fmt: skip
    return {name: np.asarray(value) for name, value in named.items() if _is_plain(value) or _is_labels(value)}


def _is_labels(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, int | float | str | bytes) for one in value)


def _described(value: Any) -> str:
    """Return a short description of a pickle's content for an error message."""
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {value.shape}"
    if isinstance(value, tuple | list):
        kinds = ", ".join(type(one).__name__ for one in value[:4]) + (", ..." if len(value) > 4 else "")
        return f"a {type(value).__name__} of {len(value)} ({kinds})"
    return f"a {type(value).__name__}"


PICKLE = Pickle()
