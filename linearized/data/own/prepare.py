"""From what a reader returns to rows that a `Dataset` can take: task, class numbers, train and test rows, images."""

import dataclasses
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.own import labels
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.splits import split_rows
from linearized.settings.own_settings import OwnDataSettings

CHANNELS = (1, 3, 4)
SMALLEST_SIDE = 8  # of arrays (n, h, w) that are taken for images although they are not bytes


@dataclasses.dataclass(frozen=True)
class LazyRows:
    """Some rows of an array that is not read before they are asked for.

    Attributes:
        x: Inputs as `OwnArrays` has them.
        y: Class numbers (len(x),), or targets (len(x), k).
        order: Numbers of the rows in their order; None: all rows as they lie.
    """

    x: Any
    y: np.ndarray
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x) if self.order is None else len(self.order)

    def take(self, rows: slice | np.ndarray) -> tuple[Any, np.ndarray]:
        """Return inputs and labels of some of the rows; only those are read."""
        numbers = rows if self.order is None else self.order[rows]
        x = self.x.iloc[numbers] if hasattr(self.x, "iloc") else self.x[numbers]
        return x, self.y[numbers]


@dataclasses.dataclass(frozen=True)
class PreparedRows:
    """Rows by split, and what is known of them before any input is read.

    Attributes:
        divided: Whether train and test rows were divided by the seed.
        class_names: In the order of the class numbers; () for regression.
        num_outputs: Columns of the targets for regression, else those of the model's outputs.
    """

    rows: dict[str, LazyRows]
    task: str
    class_names: tuple[str, ...]
    num_outputs: int
    image_shape: tuple[int, int, int] | None
    divided: bool
    notes: dict[str, str | int]


def prepare(arrays: OwnArrays, options: OwnDataSettings, seed: int) -> PreparedRows:
    """Decide what is to be learned, code the labels, and divide the rows where there is no test part.

    Args:
        seed: Of the division.

    Raises `UserError` for missing labels, for parts that do not go together, and for labels that the task cannot take.
    """
    where, parts = options.data, arrays.parts()
    _refuse_unequal(parts, where)
    y = {name: np.asarray(pair[1]) for name, pair in parts.items()}
    task = labels.sniffed_task(y["train"]) if options.task == "auto" else options.task
    if task == "regression":
        coded, names = labels.targets(y, where), ()
    else:
        coded, names = labels.coded(y, task, arrays.class_names, where)
    rows = {name: LazyRows(pair[0], coded[name]) for name, pair in parts.items()}
    divided = "test" not in rows
    if divided:
        whole = rows["train"]
        train, test = split_rows(len(whole), options.test_fraction, seed, coded["train"] if names else None)
        rows["train"], rows["test"] = LazyRows(whole.x, whole.y, train), LazyRows(whole.x, whole.y, test)
    outputs = coded["train"].shape[1] if task == "regression" else len(names) if task == "classes" else 1
    return PreparedRows(rows, task, names, outputs, image_shape(arrays), divided, arrays.notes)


def image_shape(arrays: OwnArrays) -> tuple[int, int, int] | None:
    """Return (height, width, channels) of the inputs, or None for vectors.

    Where the reader leaves it open, inputs (n, h, w, c) and (n, c, h, w) of 1, 3 or 4 channels are images, and inputs
    (n, h, w) if they are bytes or both sides have `SMALLEST_SIDE` pixels.
    """
    shape = tuple(arrays.x.shape[1:])
    if arrays.images is False or len(shape) not in (2, 3):
        return None
    if len(shape) == 2:
        sizable = arrays.x.dtype == np.uint8 or min(shape) >= SMALLEST_SIDE
        return (*shape, 1) if arrays.images or sizable else None
    if shape[2] in CHANNELS:
        return shape
    return (shape[1], shape[2], shape[0]) if shape[0] in CHANNELS else None


def matrix(x: Any, shape: tuple[int, int, int] | None) -> np.ndarray:
    """Return inputs as float32 rows (n, d). Images of bytes or 16 bits are scaled to [0, 1], channels come last."""
    x = np.asarray(x)
    scale = {"uint8": 255, "uint16": 65_535}.get(str(x.dtype)) if shape is not None else None
    if shape is not None and x.ndim == 4 and x.shape[1:] != shape:
        x = np.moveaxis(x, 1, -1)
    rows = np.ascontiguousarray(x.reshape(len(x), -1), np.float32)
    return rows if scale is None else rows / np.float32(scale)


def _refuse_unequal(parts: dict[str, tuple[Any, np.ndarray | None]], where: str) -> None:
    """Raise `UserError` unless every part has one label per row and rows of the train part's shape and kind."""
    for name, (x, y) in parts.items():
        if y is None:
            raise UserError(f"{where} has no labels for its {name} rows. Give them, or the --target column of a table.")
        if len(getattr(x, "shape", ())) < 2 or not len(x):
            raise UserError(f"{where}: the {name} inputs must be rows (n, ...). Received: {getattr(x, 'shape', ())}.")
        if np.ndim(y) not in (1, 2) or len(y) != len(x):
            raise UserError(f"{where}: the {name} part has {len(x)} rows and labels of shape {np.shape(y)}. Give one "
                            "label, or one row of targets, per row.")  # fmt: skip
        if x.shape[1:] != parts["train"][0].shape[1:]:
            raise UserError(f"{where}: train rows have the shape {parts['train'][0].shape[1:]}, {name} rows "
                            f"{x.shape[1:]}.")  # fmt: skip
        if np.ndim(y) == 2 and np.shape(y)[1:] != np.shape(parts["train"][1])[1:]:
            raise UserError(f"{where}: train targets have {np.shape(parts['train'][1])[1:]} columns, {name} targets "
                            f"{np.shape(y)[1:]}.")  # fmt: skip
        if hasattr(x, "dtype") and x.dtype.kind not in "biuf":
            raise UserError(f"{where}: inputs must be real numbers. Received: arrays of type {x.dtype}. Give a table "
                            "with columns of text as a .csv file or a data frame.")  # fmt: skip
