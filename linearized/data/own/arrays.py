"""Interface of readers of the user's own data (`Reader`), and the inputs and labels that they return (`OwnArrays`)."""

import dataclasses
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.settings.own_settings import OwnDataSettings


@dataclasses.dataclass(frozen=True)
class OwnArrays:
    """Inputs and labels of the user's own data, as stored in a file or given in Python.

    Inputs are arrays (n, ...) of any real number type, or a pandas data frame (n rows). Another object, such as a
    memory map, can be used too. It must have `shape`, `dtype` and a length, and accept a slice or an array of row
    numbers as its index. Only the selected rows of such an object are read.

    Attributes:
        x: Inputs of the train rows, or of all rows if there are no test rows.
        y: Labels of any type (n,), or targets (n, k); None if the format has none.
        x_test, y_test: Test rows; None: the rows of `x` are split at random into train and test rows, reproducibly for
            a seed.
        x_validation, y_validation: Validation rows; None: the flag `--validation` states how many train rows are held
            out.
        images: Whether inputs are images (n, h, w) or (n, h, w, c); None: their shape decides, see
            `linearized.data.own.prepare.image_shape`.
        class_names: Names of the classes 0, 1, ... if labels are their numbers; None: the labels are the names.
        notes: Facts about what the reader left out, by a short name, such as the number of unreadable pictures. They
            become a part of `Dataset.notes` and of the record of a run.
    """

    x: Any
    y: np.ndarray | None
    x_test: Any = None
    y_test: np.ndarray | None = None
    x_validation: Any = None
    y_validation: np.ndarray | None = None
    images: bool | None = None
    class_names: tuple[str, ...] | None = None
    notes: dict[str, str | int] = dataclasses.field(default_factory=dict)

    def parts(self) -> dict[str, tuple[Any, np.ndarray | None]]:
        """Return the pair (inputs, labels) of each existing part by name: train, validation, test."""
        named = {"train": (self.x, self.y), "validation": (self.x_validation, self.y_validation),
                 "test": (self.x_test, self.y_test)}  # fmt: skip
        return {name: pair for name, pair in named.items() if pair[0] is not None}


@runtime_checkable
class Reader(Protocol):
    """Interface of the classes that read the user's own data, one class for each format of the flag `--data`.

    Attributes:
        reads: Names of the format-specific flags of `OwnDataSettings` that this reader uses.
    """

    reads: tuple[str, ...]

    def fits(self, text: str) -> bool:
        """Return whether `text` has this format, judged by its suffix, its prefix (such as "keras:") or the content.

        Args:
            text: Value of --data, such as a path or "keras:mnist".
        """

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """Return a digest of the content, which changes when the content does; computing it is fast.

        Args:
            text: Value of --data, such as a path or "keras:mnist".
            options: Settings of the user's own data, such as the column of labels.

        Raises `UserError` if the content does not exist.
        """

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Read the content.

        Args:
            text: Value of --data, such as a path or "keras:mnist".
            options: Settings of the user's own data, such as the column of labels.

        Raises `UserError` if the content is missing or damaged.
        """


def rows_of(x: Any, rows: slice | np.ndarray) -> np.ndarray:
    """Return some rows of an array, in memory.

    Rows of a memory map are read from its file, not through the map: each access to the map would load many pages
    around a row, which count as memory of the process.

    Args:
        x: An array, or another object whose index is a slice or an array of row numbers. It must not be a part of a
            larger memory map.
        rows: Slice or row numbers.

    Raises `UserError` if the file became shorter while it was read.
    """
    if not isinstance(x, np.memmap) or not x.flags.c_contiguous or x.filename is None:
        return np.asarray(x[rows])
    numbers = np.arange(len(x))[rows]
    out = np.empty((len(numbers), *x.shape[1:]), x.dtype)
    ends = np.flatnonzero(np.diff(numbers) != 1) + 1
    with Path(x.filename).open("rb", buffering=0) as file:
        for start, stop in zip([0, *ends.tolist()], [*ends.tolist(), len(numbers)], strict=True):
            if start < stop:
                file.seek(x.offset + int(numbers[start]) * x[0].nbytes)
                view, done = memoryview(out[start:stop]).cast("B"), 0
                while done < len(view):
                    if not (count := file.readinto(view[done:])):
                        raise UserError(f"{x.filename} became shorter while it was read. Run again.")
                    done += count
    return out


# Common names of arrays in files, in lower case, for each name of `OwnArrays`.
NAMES = {
    "x": ("x", "data", "images", "inputs", "features", "x_all"),
    "y": ("y", "target", "targets", "labels", "label", "y_all"),
    "x_train": ("x_train", "train_x", "xtrain", "train_images", "train_data", "data_train", "images_train"),
    "y_train": ("y_train", "train_y", "ytrain", "train_labels", "labels_train", "train_targets", "target_train"),
    "x_test": ("x_test", "test_x", "xtest", "test_images", "test_data", "data_test", "images_test"),
    "y_test": ("y_test", "test_y", "ytest", "test_labels", "labels_test", "test_targets", "target_test"),
    "x_validation": ("x_validation", "x_val", "x_valid", "val_x", "valid_x", "val_images"),
    "y_validation": ("y_validation", "y_val", "y_valid", "val_y", "valid_y", "val_labels"),
}


def found_names(names: list[str], where: str) -> dict[str, str]:
    """Find out which arrays of a file are inputs and labels, by their names.

    Args:
        names: Names of the arrays in the file.
        where: Name of the file, with which messages begin.

    Returns: The name of an array in the file for each meaning, such as {"x_train": "data", "y_train": "labels"}. The
        keys of `NAMES` are the possible meanings, its values the possible names.

    Raises `UserError` if two arrays have the same meaning, or if inputs or labels are missing; the message lists the
    existing names.
    """
    found: dict[str, str] = {}
    for meaning, known in NAMES.items():
        mine = [name for name in names if name.lower().replace("-", "_") in known]
        if len(mine) > 1:
            raise UserError(f"{where} has {' and '.join(mine)}, which both mean {meaning}. Keep one of them.")
        if mine:
            found[meaning] = mine[0]
    for letter in "xy":  # with a test part, the plain names are the train part
        if f"{letter}_train" not in found and letter in found:
            found[f"{letter}_train"] = found[letter]
        found.pop(letter, None)
    missing = [meaning for meaning in ("x_train", "y_train") if meaning not in found]
    missing += [f"{a}_{part}" for part in ("test", "validation") for a, b in ("xy", "yx")
                if f"{b}_{part}" in found and f"{a}_{part}" not in found]  # fmt: skip
    if missing:
        what = {"x": "inputs", "y": "labels"}
        there = ", ".join(names[:20]) or "nothing"
        raise UserError(
            f"{where} has no {what[missing[0][0]]} ({' or '.join(NAMES[missing[0]][:2])}, or x and y). It has: {there}."
        )
    return found


def from_names(arrays: dict[str, Any], where: str) -> OwnArrays:
    """Sort the arrays of a file into inputs and labels by their names.

    Args:
        arrays: Arrays by name, such as "x_train" and "labels"; `NAMES` lists the names.
        where: Name of the file, with which messages begin.

    Raises `UserError` if two arrays have the same meaning, or if inputs or labels are missing.
    """
    named = {meaning.removesuffix("_train"): np.asarray(arrays[name]) if meaning[0] == "y" else arrays[name]
             for meaning, name in found_names(list(arrays), where).items()}  # fmt: skip
    return OwnArrays(**named)
