"""Registry of arrays and data frames from Python, which the flag `--data=arrays:DIGEST` then names like a file.

The process that registered the arrays finds them in memory. Another process, such as one that makes a Gram matrix,
finds them in the folder `arrays` below data_dir once `keep` has written them there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.array_checks import dense
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.keywords import suggests_keywords
from linearized.data.dataset import Dataset, fingerprint
from linearized.data.own.arrays import OwnArrays
from linearized.settings.data_settings import DataSettings
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import read_npz
from linearized.storage.files import whole_file

SCHEME = "arrays:"
_INPUTS, _LABELS = ("x", "x_test", "x_validation"), ("y", "y_test", "y_validation")  # fields of `OwnArrays`
_registered: dict[str, OwnArrays] = {}


def register(
    x: Any, y: Any, x_test: Any = None, y_test: Any = None, *, images: bool | None = None, x_validation: Any = None,
    y_validation: Any = None, class_names: tuple[str, ...] | None = None,
) -> str:  # fmt: skip
    """Register arrays in this process, and return the value "arrays:DIGEST" of `--data` for them.

    Args:
        x: Inputs, an array (n, ...) or a data frame; sparse matrices become dense.
        y: Labels (n,) of any type, or targets (n, k).
        x_test: Inputs of test rows, as `x`; None: a part of `x` is held out later.
        y_test: Labels of test rows, as `y`.
        images: Whether inputs are images (n, h, w) or (n, h, w, c); None: their shape decides.
        x_validation: Inputs of validation rows, as `x`.
        y_validation: Labels of validation rows, as `y`.
        class_names: Names of the classes 0, 1, ... if labels are their numbers; None: the labels are the names.

    Raises `UserError` if test or validation inputs are given without labels, or the other way round, and if `x` is
    None.
    """
    for name, one, two in (("test", x_test, y_test), ("validation", x_validation, y_validation)):
        if (one is None) != (two is None):
            raise UserError(f"Give x_{name} and y_{name} together, or neither of them.")
    if x is None:
        raise UserError("Inputs are missing: give arrays or a data frame. Received: x=None.")
    inputs = [None if one is None else dense(one, "Inputs") for one in (x, x_test, x_validation)]
    labels = [None if one is None else np.asarray(dense(one, "Labels")) for one in (y, y_test, y_validation)]
    pairs = [part for pair in zip(inputs, labels, strict=True) for part in pair]
    arrays = OwnArrays(*pairs, images=images, class_names=class_names)
    text = f"{SCHEME}{fingerprint(*contents(arrays))}"
    _registered[text] = arrays
    return text


def register_dataset(dataset: Dataset) -> str:
    """Register the rows of a loaded dataset in this process; return the value "arrays:DIGEST" of `--data` for them.

    The rows are not changed. Labels are class numbers, with the class names of the dataset. The rows are
    already converted from raw inputs, so new raw inputs must first be converted by `dataset.preparation`.
    """
    shape, parts = dataset.image_shape, dataset.splits()
    arrays = {}
    for name, split in parts.items():
        part = "" if name == "train" else f"_{name}"
        arrays[f"x{part}"] = np.asarray(split.x) if shape is None else np.asarray(split.x).reshape(-1, *shape)
        arrays[f"y{part}"] = split.y
    return register(**arrays, images=shape is not None, class_names=dataset.class_names or None)


@suggests_keywords
def from_arrays(
    x: Any, y: Any, x_test: Any = None, y_test: Any = None, *, task: str = "auto", test_fraction: float = 0.2,
    seed: int = 0, missing: str = "refuse", images: bool | None = None,
    image_shape: Sequence[int] | str | None = None, num_train: int = 0, num_test: int = 0,
    validation: int | float = 0.0,
) -> Dataset:  # fmt: skip
    """Convert arrays or data frames to a `Dataset`, in the same way as the content of a file given by --data.

    Args:
        x: Inputs, an array (n, ...) or a data frame; sparse matrices become dense.
        y: Labels (n,) of any type, or targets (n, k).
        x_test: Inputs of test rows; None holds out a part of `x`.
        y_test: Labels or targets of test rows.
        task: "auto" (determined from the labels), "classes", "binary" or "regression".
        test_fraction: Fraction of rows held out for testing, stratified for classes, if x_test is not given.
        seed: Random-number seed of this split.
        missing: What to do with missing values: "refuse" them, "drop" their rows, or fill in the "mean" of the train
            rows.
        images: Whether inputs are images (n, h, w) or (n, h, w, c); None: their shape decides.
        image_shape: Shape of the images if each row of `x` is a flattened image: (height, width), (height, width,
            channels) such as (32, 32, 3), or (channels, height, width); None: inputs keep their shape.
        num_train: Number of train rows to use; 0: all.
        num_test: Number of test rows to use; 0: all.
        validation: Train rows held out for validation, a fraction below 1 or a count.

    Raises `UserError` for data that cannot be learned, such as labels of one class.

    Example:
        >>> import linearized
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> data = linearized.from_arrays(x, np.where(x[:, 0] > 0, "yes", "no"))
        >>> data.task, data.train.x.shape, data.test.x.shape
        ('binary', (40, 3), (10, 3))
    """
    own = {"test_fraction": test_fraction, "seed": seed} if x_test is None else {}
    rows = {"num_train": num_train, "num_test": num_test, "validation": validation}
    if image_shape is not None:
        rows["image_shape"] = image_shape if isinstance(image_shape, str) else ",".join(map(str, image_shape))
    config = DataSettings(data=register(x, y, x_test, y_test, images=images), task=task, missing=missing, **own, **rows)
    return config.described().load(**config.row_settings())


def keep(text: str) -> None:
    """Write registered arrays atomically to a file from which other processes read them.

    Args:
        text: Value of --data. Nothing is done unless it is "arrays:DIGEST", or if the file exists.

    Raises `UserError` if this process has not registered the arrays.
    """
    if not text.startswith(SCHEME) or _path(text).is_file():
        return
    arrays = _found(text)
    stored = {}
    for field in _INPUTS:
        frame = getattr(arrays, field)
        if hasattr(frame, "columns"):
            for number, name in enumerate(frame.columns):
                column = frame[name]
                stored[f"{field}/{number}"] = _storable(column.to_numpy())
                stored[f"{field}/{number}/name"] = np.array(str(name))
                stored[f"{field}/{number}/missing"] = column.isna().to_numpy()
        elif frame is not None:
            stored[field] = np.asarray(frame)
    stored |= {field: _storable(getattr(arrays, field)) for field in _LABELS if getattr(arrays, field) is not None}
    if arrays.class_names is not None:
        stored["class_names"] = np.array(arrays.class_names)
    if arrays.images is not None:
        stored["images"] = np.array(arrays.images)
    with whole_file(_path(text), sealed=True) as path, path.open("wb") as file:
        np.savez(file, **stored)


class Arrays:
    """Reader of arrays that were registered from Python, one of the formats of `--data` (see `Reader`)."""

    reads: tuple[str, ...] = ()

    def fits(self, text: str) -> bool:
        """Return whether `text`, a value of --data, has the form "arrays:DIGEST"."""
        return text.startswith(SCHEME)

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """Return the digest that `text`, "arrays:DIGEST", contains; `options` is not used."""
        return text.removeprefix(SCHEME)

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the arrays registered under `text`, "arrays:DIGEST"; `options` is not used.

        Raises `UserError` if neither this process nor a file has them.
        """
        return _found(text)


ARRAYS = Arrays()


def _found(text: str) -> OwnArrays:
    if text in _registered:
        return _registered[text]
    path = _path(text)
    if not path.is_file():
        raise UserError(f"--data={text[:80]} names arrays of another Python process, which did not keep them. Give "
                        "them again with linearized.from_arrays, or as a file.")  # fmt: skip
    stored = read_npz(path, "Remove it and give the arrays again.")
    fields: dict[str, Any] = {name: stored[name] for name in (*_INPUTS, *_LABELS) if name in stored}
    fields |= {name: frame for name in _INPUTS if (frame := _frame(stored, name)) is not None}
    if "class_names" in stored:
        fields["class_names"] = tuple(map(str, stored["class_names"]))
    return OwnArrays(**fields, images=bool(stored["images"]) if "images" in stored else None)


def _path(text: str) -> Path:
    digest = text.removeprefix(SCHEME)
    if not digest.isalnum():
        raise UserError(f"--data={text[:80]!r} names no arrays: the text is arrays: and 16 hex digits.")
    return directory("data_dir") / "arrays" / f"{digest}.npz"


def _frame(stored: dict[str, np.ndarray], field: str) -> Any:
    """Return a data frame that `keep` stored, or None if the input is an array or does not exist.

    Args:
        stored: All stored arrays by name.
        field: Name of the input in `OwnArrays`, such as "x_test".
    """
    if f"{field}/0" not in stored:
        return None
    import pandas as pd

    columns, number = {}, 0
    while f"{field}/{number}" in stored:
        values = stored[f"{field}/{number}"]
        if values.dtype.kind == "U":
            values = np.where(stored[f"{field}/{number}/missing"], None, values.astype(object))
        columns[str(stored[f"{field}/{number}/name"])] = values
        number += 1
    return pd.DataFrame(columns)


def _storable(values: np.ndarray) -> np.ndarray:
    """Return an array that a file stores without pickles.

    An array of objects becomes float64 if all of them can be converted to numbers, otherwise text.
    """
    if values.dtype.kind != "O":
        return values
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        text = [value.decode() if isinstance(value, bytes) else str(value) for value in values.reshape(-1)]
        return np.array(text).reshape(values.shape)


def contents(arrays: OwnArrays) -> list[Any]:
    """Return the content of some arrays as a list for `fingerprint`: all values, types and column names."""
    parts: list[Any] = [arrays.images]
    if arrays.x_validation is not None or arrays.class_names is not None:
        parts += ["validation", arrays.class_names]
    further = () if arrays.x_validation is None else (arrays.x_validation, arrays.y_validation)
    for values in (arrays.x, arrays.y, arrays.x_test, arrays.y_test, *further):
        if hasattr(values, "columns"):
            for name in values.columns:
                parts += [str(name), str(values[name].dtype), *_parts_of(values[name].to_numpy())]
        elif values is not None:
            parts += _parts_of(values)
        else:
            parts.append(None)
    return parts


def _parts_of(values: np.ndarray) -> list[Any]:
    return [[repr(value) for value in values.reshape(-1)], values.shape] if values.dtype.kind == "O" else [values]
