"""Readers of data sets of the Hugging Face hub and TensorFlow Datasets by name (extras `hf`, `tfds`).

`--data` is `hf:owner/name` (`hf:owner/name@config` for a named configuration, `hf:FOLDER` for one on this disk) or
`tfds:name`. The train, validation and test parts are kept. Images become an array (`linearized.data.images` describes
the conversion of the hub's images); columns of numbers and text become a table. The labels are the column that
`--target` names, or the one called label, labels, fine_label, target, class or y.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.extras import require
from linearized.base.reading import parsing
from linearized.data.images import head_of, pixels_of
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.readers.fetched import Fetched, failed
from linearized.data.own.readers.image_folder import image_size

TARGETS = ("label", "labels", "fine_label", "target", "class", "y")
SPLITS = {"train": "", "test": "_test", "validation": "_validation", "valid": "_validation"}
ROW_ADVICE = "Leave such rows out of a copy of the data set, and give its folder."
NETWORK = "Check the name and the network, or download it elsewhere and give it as a file or folder."


class HuggingFace(Fetched):
    """Reader of data sets of the Hugging Face hub, `--data=hf:NAME`, which `datasets.load_dataset` loads."""

    scheme = "hf"
    reads: tuple[str, ...] = ("target", "image_size", "channels")

    def fetch(self, name: str, target: str = "", image_size: str = "", channels: str = "auto") -> OwnArrays:
        """Load a data set of the hub, which is downloaded if it is missing, and return its arrays.

        Args:
            name: Name of the data set, such as "owner/name", "owner/name@config" or a folder.
            target: Name of the column of labels; "" selects the column with a usual name (see `TARGETS`).
            image_size: Side of the images in pixels, or height x width such as "32x48"; "": as they are.
            channels: "grey", "colour", or "auto": as they are.

        Raises `UserError` if the data set cannot be loaded, has no column of labels, or has images of several sizes or
        kinds.
        """
        datasets = require("datasets", "hf", f"--data=hf:{name}")
        repository, _, config = name.partition("@")
        try:
            loaded = datasets.load_dataset(repository, config or None)
            parts = {split: {column: rows[column] for column in rows.column_names} for split, rows in loaded.items()}
            columns = next(iter(loaded.values())).features
        except Exception as error:  # a download may raise any exception
            raise failed(f"hf:{name}", error, NETWORK) from error
        chosen = _target(list(columns), target, f"hf:{name}")
        names = getattr(columns[chosen], "names", None)
        pictures = [column for column, kind in columns.items() if isinstance(kind, datasets.Image)]
        if pictures:
            images = {split: list(rows[pictures[0]]) for split, rows in parts.items() if split in SPLITS}
            arrays = _pictures(images, image_size, channels, f"hf:{name}")
            parts = {split: {"image": array, chosen: parts[split][chosen]} for split, array in arrays.items()}
        elif image_size or channels != "auto":
            raise UserError(f"hf:{name} has no column of images: leave out --image_size and --channels.")
        return from_parts(parts, chosen, names, f"hf:{name}")


class TensorFlowDatasets(Fetched):
    """Reader of data sets of TensorFlow Datasets, `--data=tfds:NAME`, which `tensorflow_datasets.load` loads."""

    scheme = "tfds"
    reads: tuple[str, ...] = ("target",)

    def fetch(self, name: str, target: str = "") -> OwnArrays:
        """Load a data set of TensorFlow Datasets, which is downloaded if it is missing, and return its arrays.

        Args:
            name: Name of the data set.
            target: Name of the column of labels; "" selects the column with a usual name (see `TARGETS`).

        Raises `UserError` if the data set cannot be loaded, or has no column of labels.
        """
        tfds = require("tensorflow_datasets", "tfds", f"--data=tfds:{name}")
        try:
            loaded, about = tfds.load(name, batch_size=-1, with_info=True)
            parts = tfds.as_numpy(loaded)
        except Exception as error:  # a download may raise any exception
            raise failed(f"tfds:{name}", error, NETWORK) from error
        chosen = _target(list(next(iter(parts.values()))), target, f"tfds:{name}")
        return from_parts(parts, chosen, getattr(about.features[chosen], "names", None), f"tfds:{name}")


def from_parts(parts: Mapping[str, Mapping[str, Any]], target: str, names: list[str] | None, where: str) -> OwnArrays:
    """Convert the columns of a data set to inputs and labels.

    Without a test part, the validation part is used as the test part. Parts whose labels are hidden (all are -1) are
    left out. One column of arrays, or the column "image", becomes an array; several columns become a table.

    Args:
        parts: Columns by name, for each of the parts "train", "test" and "validation" that exists.
        target: Name of the column of labels.
        names: Names of the classes 0, 1, ...; None if they are not known.
        where: Name of the data in error messages.

    Raises `UserError` if there is no train part with labels.
    """
    arrays: dict[str, Any] = {}
    images = False
    for split, columns in parts.items():
        suffix = SPLITS.get(split)
        labels = np.asarray(columns[target])
        if suffix is None or (labels.dtype.kind in "iu" and (labels == -1).all()):
            continue
        inputs, images = _inputs(columns, target)
        arrays[f"x{suffix}"], arrays[f"y{suffix}"] = inputs, _text(labels)
    if "x" not in arrays:
        raise UserError(f"{where} has no train part with labels; its parts are {', '.join(parts)}.")
    if "x_test" not in arrays and "x_validation" in arrays:
        arrays |= {"x_test": arrays.pop("x_validation"), "y_test": arrays.pop("y_validation")}
    known = tuple(names) if names else None
    return OwnArrays(**arrays, images=images or None, class_names=known)


def _inputs(columns: Mapping[str, Any], target: str) -> tuple[Any, bool]:
    """Return the inputs of one part, an array or a data frame, and whether they are the column "image".

    Args:
        columns: Columns of the part by name.
        target: Name of the column of labels, which is left out, as is a column "id".
    """
    if "image" in columns:
        return np.asarray(columns["image"]), True
    others = {name: np.asarray(values) for name, values in columns.items() if name not in (target, "id")}
    if len(others) == 1 and (only := next(iter(others.values()))).ndim > 1:
        return only, False
    import pandas as pd

    return pd.DataFrame({name: _text(values) for name, values in others.items() if values.ndim == 1}), False


def _text(values: np.ndarray) -> np.ndarray:
    """Return an array whose bytes, if it holds any, are decoded to text."""
    if values.dtype.kind not in "SO" or not len(values) or not isinstance(values.flat[0], bytes):
        return values
    return np.array([value.decode("utf-8", "replace") for value in values.flat]).reshape(values.shape)


def _pictures(parts: Mapping[str, list[Any]], size: str, channels: str, where: str) -> dict[str, np.ndarray]:
    """Convert images to arrays (n, h, w, c): bytes, or float32 in [0, 1] if an image has more than 8 bits per sample.

    Args:
        parts: Images, opened by Pillow, of each part of the data by name.
        size: Side of the images in pixels, or height x width such as "32x48"; "": as they are.
        channels: "grey", "colour", or "auto": as they are.
        where: Name of the data in error messages.

    Raises `UserError` for images of several sizes or kinds, and for an image that cannot be read; the message names the
    row.
    """
    heads = {split: [_of_row(head_of, image, split, row, where) for row, image in enumerate(images)]
             for split, images in parts.items()}  # fmt: skip
    every = [head for part in heads.values() for head in part]
    height, width = image_size(size) if size else (0, 0)
    wanted = {"grey": True, "colour": False}.get(channels)
    found = {(height or head.height, width or head.width, head.grey if wanted is None else wanted) for head in every}
    if len(found) > 1:
        listed = ", ".join(f"{height}x{width} {'grey' if grey else 'colour'}" for height, width, grey in
                           sorted(found)[:6])  # fmt: skip
        raise UserError(f"{where} has images of {len(found)} kinds: {listed}. Give --image_size and --channels.")
    if not found:
        raise UserError(f"{where} has no image in its train, test and validation parts.")
    height, width, grey = found.pop()
    shape, deep = (height, width, 1 if grey else 3), any(head.deep for head in every)
    arrays = {}
    for split, images in parts.items():
        arrays[split] = np.empty((len(images), *shape), np.float32 if deep else np.uint8)
        for row, image in enumerate(images):
            pixels = _of_row(lambda image: pixels_of(image, shape), image, split, row, where)
            arrays[split][row] = pixels / np.float32(255) if deep else pixels
    return arrays


def _of_row(function: Callable[[Any], Any], image: Any, split: str, row: int, where: str) -> Any:
    """Apply a function to the image of one row, and return its value.

    Args:
        function: Function of the image.
        image: The image, or None if the row has none.
        split: Part of the data, for the error message.
        row: Number of the row, for the error message.
        where: Name of the data in the error message.

    Raises `UserError` that names the row if there is no image or it is damaged.
    """
    if image is None:
        raise UserError(f"{where} has no image in row {row} of its {split} part. {ROW_ADVICE}")
    with parsing(f"{where}, row {row} of its {split} part,", "a picture", ROW_ADVICE):
        return function(image)


def _target(columns: list[str], wanted: str, where: str) -> str:
    """Return the name of the column of labels.

    Args:
        columns: Names of all columns.
        wanted: Value of --target; "" selects the first name in `TARGETS` that exists.
        where: Name of the data in the error message.

    Raises `UserError` that lists the columns if there is none.
    """
    found = [name for name in ((wanted,) if wanted else TARGETS) if name in columns]
    if not found:
        raise UserError(f"{where} has no column {wanted or 'label'}. Give --target: it has {', '.join(columns)[:200]}.")
    return found[0]


HF, TFDS = HuggingFace(), TensorFlowDatasets()
