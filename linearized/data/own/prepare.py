"""Conversion of the arrays of the user's own data to train and test rows.

The module determines the task and the image shape, numbers the classes and splits the rows.

Inputs are not read here, except to find rows with missing values if such rows are to be dropped.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.array_checks import real_array
from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.data.own import labels, missing
from linearized.data.own.arrays import OwnArrays, rows_of
from linearized.data.own.marks import labels_without_marks, without_marks
from linearized.data.own.pixels import FlatPixels, with_pixels
from linearized.data.own.splits import in_class_order, split_rows
from linearized.data.own.tables import categorical, refuse_text
from linearized.settings.own_settings import OwnDataSettings

CHANNELS = (1, 3, 4)
SMALLEST_SIDE = 8  # smallest side of arrays (n, h, w) that are taken for images although they are not bytes


@dataclasses.dataclass(frozen=True)
class LazyRows:
    """Some rows of an array or table, whose inputs are read only on request.

    Attributes:
        x: Inputs of all rows, as in `OwnArrays`.
        y: Class numbers (n,), or targets (n, k), of the rows of this object.
        order: Index in `x` of each of these rows; a slice selects all rows in stored order.
    """

    x: Any
    y: np.ndarray
    order: np.ndarray | slice

    def __len__(self) -> int:
        return len(self.y)

    def numbers(self, rows: slice | np.ndarray) -> np.ndarray | slice:
        """Convert indices within this object to indices within the complete inputs `x`.

        Args:
            rows: Slice or indices of some rows of this object.
        """
        return rows if isinstance(self.order, slice) else self.order[rows]

    def some(self, rows: np.ndarray) -> "LazyRows":
        """Return an object with some of the rows, given by their indices within this one; no inputs are read."""
        return LazyRows(self.x, self.y[rows], self.numbers(rows))

    def take(self, rows: slice | np.ndarray) -> tuple[Any, np.ndarray]:
        """Read some of the rows, given as a slice or indices within this object, and return their inputs and labels."""
        numbers = self.numbers(rows)
        x = self.x.iloc[numbers] if hasattr(self.x, "iloc") else rows_of(self.x, numbers)
        return x, self.y[rows]


@dataclasses.dataclass(frozen=True)
class PreparedRows:
    """The user's own data, split into parts, and their properties that are known before any input is read.

    Attributes:
        rows: Rows of each part: "train", "test" and, if given, "validation".
        task: "classes", "binary" or "regression".
        image_shape: (height, width, channels) of rows that are images; None for other rows.
        divided: Whether the data had no test part, so that the rows were split at random into train and test rows,
            reproducibly for a seed.
        notes: The notes of `OwnArrays`, and the number of rows that were dropped for missing values.
        shuffled: Whether the rows of each given part were shuffled with a fixed seed, because the train rows were
            ordered by class. Otherwise the first rows or the held-out rows would lack classes.
        classes: Labels in the order of the class numbers, as they were given; None for regression.
        class_names: Names of the classes as text, in the order of the class numbers; () for regression.
        flat: Whether labels were given as a vector (n,), not as a matrix.
        num_outputs: Number of outputs of a model: one per class, one for binary labels, one per target for regression.
        pixels: Conversion of further flat rows to images, if `--image_shape` declares rows to be images.
    """

    rows: dict[str, LazyRows]
    task: str
    classes: np.ndarray | None
    class_names: tuple[str, ...]
    flat: bool
    num_outputs: int
    image_shape: tuple[int, int, int] | None
    divided: bool
    notes: dict[str, str | int]
    shuffled: bool = False
    pixels: FlatPixels | None = None


def prepare(arrays: OwnArrays, options: OwnDataSettings, seed: int) -> PreparedRows:
    """Determine the task, convert labels to class numbers, and split the rows at random if there is no test part.

    Marks of missing values, such as "?" among numbers, become NaN. Rows with missing values are dropped if
    `--missing=drop`. If train rows of data with a test part are ordered by class, the rows of each part are shuffled.

    Args:
        arrays: Inputs and labels as the reader returned them.
        options: Settings of the user's own data.
        seed: Random-number seed of the split.

    Raises `UserError` for missing labels, for parts that do not fit together, and for labels that do not suit the task.
    """
    where = data_name(options.data)
    arrays = _without_marks(arrays)
    arrays, pixels = with_pixels(arrays, options.image_shape, where)
    parts = arrays.parts()
    _refuse_unequal(parts, where)
    shape = image_shape(arrays, where)
    kept, dropped = _kept(parts, options.missing, where)
    y = {name: labels.text_of(np.asarray(pair[1])[kept[name]], where) for name, pair in parts.items()}
    for name, values in y.items():
        labels.refuse_other_kinds(values, f"{where} ({name} rows)")
    task = labels.sniffed_task(y["train"]) if options.task == "auto" else options.task
    classes, names = None, ()
    if task == "regression":
        coded = labels.targets(y, where)
    else:
        coded, classes = labels.coded(y, task, where)
        names = labels.names(classes, arrays.class_names)
    rows = {name: LazyRows(pair[0], coded[name], kept[name]) for name, pair in parts.items()}
    divided = "test" not in rows
    if divided:
        whole = rows["train"]
        train, test = split_rows(len(whole), options.test_fraction, seed, coded["train"] if names else None)
        rows["train"], rows["test"] = whole.some(train), whole.some(test)
    shuffled = not divided and task != "regression" and in_class_order(coded["train"])
    if shuffled:
        rows = {name: part.some(np.random.default_rng(0).permutation(len(part))) for name, part in rows.items()}
    outputs = coded["train"].shape[1] if task == "regression" else len(names) if task == "classes" else 1
    notes = {**arrays.notes, **({"rows_dropped_missing": dropped} if dropped else {})}
    flat = y["train"].ndim == 1
    return PreparedRows(rows, task, classes, names, flat, outputs, shape, divided, notes, shuffled, pixels)


def _without_marks(arrays: OwnArrays) -> OwnArrays:
    """Replace texts such as "?" that mark missing values by NaN in the numeric columns of tables and in numeric labels.

    The notes of the returned arrays list the texts that were found.
    """
    changed: dict[str, Any] = {}
    found: dict[str, str] = {}
    for field in dataclasses.fields(arrays):
        values = getattr(arrays, field.name)
        if field.name.startswith("x") and hasattr(values, "iloc"):
            train = changed.get("x")  # set before the test and validation inputs, because its field comes first
            columns = (
                None if train is None else [str(name) for name in train.columns if str(name) not in categorical(train)]
            )
            changed[field.name], more = without_marks(values, columns)
            found |= more
        elif field.name.startswith("y") and values is not None:
            changed[field.name], marks = labels_without_marks(np.asarray(values))
            found |= {"labels": marks} if marks else {}
    said = {"taken_for_missing": "; ".join(f"{name}: {marks}" for name, marks in found.items())} if found else {}
    return dataclasses.replace(arrays, **changed, notes={**arrays.notes, **said})


def data_name(text: str) -> str:
    """Return the name of the user's data in titles and folders: the file's name without folders and suffix.

    Args:
        text: Value of --data. The first path is used if there are several, separated by commas.
    """
    if text.startswith("arrays:"):
        return "arrays"
    path = Path(text.split(",")[0])
    return slug(path.name.removesuffix("".join(path.suffixes)) or path.name or text, 60)


def _kept(
    parts: dict[str, tuple[Any, np.ndarray]], policy: str, where: str
) -> tuple[dict[str, np.ndarray | slice], int]:
    """Check the labels, and return the indices of the rows to keep: all rows, or those without missing values.

    Args:
        parts: Inputs and labels (x, y) by part of the data.
        policy: Value of `--missing`; "drop" drops rows with missing inputs or labels.
        where: Name of the data in error messages.

    Returns: Indices of the rows to keep by part (a slice for all), and the total number of dropped rows.

    Raises `UserError` for infinite labels, for missing labels unless they are dropped, and if no row of a part is left.
    """
    kept, dropped = {}, 0
    for name, (x, y) in parts.items():
        missing.refuse_infinite_labels(np.asarray(y), f"{where} ({name} rows)")
        absent = missing.missing_labels(np.asarray(y))
        if policy == "drop":
            absent = absent | missing.missing_rows(x)
        else:
            missing.refuse_missing_labels(absent, f"{where} ({name} rows)")
        dropped += int(absent.sum())
        kept[name] = np.flatnonzero(~absent) if absent.any() else slice(None)
        if absent.all():
            raise UserError(f"{where}: each of the {len(x)} {name} rows has missing values; none is left. "
                            "--missing=mean fills them in.")  # fmt: skip
    return kept, dropped


def image_shape(arrays: OwnArrays, where: str) -> tuple[int, int, int] | None:
    """Return (height, width, channels) of the inputs, or None for vectors.

    If `arrays.images` is False, the inputs are vectors. Otherwise the first of these rules that holds applies:

    1. Three axes are images (n, h, w) if `arrays.images` is True, if the inputs are bytes, or if both h and w are at
       least `SMALLEST_SIDE`.
    2. Four axes are images (n, h, w, c) if h = w > 1, or if c is 1, 3 or 4.
    3. Four axes are images (n, c, h, w) if c is 1, 3 or 4, and h = w or both h and w are at least `SMALLEST_SIDE`.
    4. Four axes are images (n, h, w, c) if `arrays.images` is True.
    5. All other inputs are vectors.

    Args:
        arrays: Inputs and labels.
        where: Name of the data in the error message.

    Raises `UserError` if `arrays.images` is True for a table or for another number of axes.
    """
    shape = tuple(arrays.x.shape[1:])
    if arrays.images and (hasattr(arrays.x, "iloc") or len(shape) not in (2, 3)):
        received = "a table" if hasattr(arrays.x, "iloc") else f"an array of shape {tuple(arrays.x.shape)}"
        raise UserError(f"{where}: images are arrays (n, h, w) or (n, h, w, c). Received: {received}.")
    if hasattr(arrays.x, "iloc") or arrays.images is False or len(shape) not in (2, 3):
        return None
    if len(shape) == 2:
        sizable = arrays.x.dtype == np.uint8 or min(shape) >= SMALLEST_SIDE
        return (*shape, 1) if arrays.images or sizable else None
    if shape[0] == shape[1] > 1 or shape[2] in CHANNELS:
        return shape
    if shape[0] in CHANNELS and (shape[1] == shape[2] or min(shape[1:]) >= SMALLEST_SIDE):
        return shape[1], shape[2], shape[0]
    return shape if arrays.images else None


@dataclasses.dataclass(frozen=True)
class ArrayColumns:
    """Conversion of arrays (n, ...) to float32 rows (n, d).

    Images of 8 or 16 bits are scaled to [0, 1], and channels become the last axis.

    Attributes:
        shape: (height, width, channels) of images, else None.
        mean: Mean (d,) of the train rows, which replaces missing values; None: missing values are not replaced.
        pixels: Conversion of flat rows to images, if `--image_shape` declares rows to be images.
    """

    shape: tuple[int, int, int] | None
    mean: np.ndarray | None = None
    pixels: FlatPixels | None = None

    def __call__(self, x: Any) -> np.ndarray:
        """Convert an array `x` (n, ...) to float32 rows (n, d).

        Raises `UserError` for anything except an array of real numbers.
        """
        x = real_array(x if self.pixels is None else self.pixels(x), "Inputs")
        scale = {"uint8": 255, "uint16": 65_535}.get(str(x.dtype)) if self.shape is not None else None
        if self.shape is not None and x.ndim == 4 and x.shape[1:] != self.shape:
            x = np.moveaxis(x, 1, -1)
        x = x.reshape(len(x), -1)
        if scale is not None:  # converts and divides in one pass
            return np.divide(x, np.float32(scale), dtype=np.float32, order="C")
        with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused later
            rows = np.ascontiguousarray(x, np.float32)
        return rows if self.mean is None else np.where(np.isnan(rows), self.mean, rows)


def fit_arrays(
    x: np.ndarray, shape: tuple[int, int, int] | None, *, impute: bool, pixels: FlatPixels | None = None
) -> ArrayColumns:  # fmt: skip
    """Return the conversion of arrays to rows, fitted on the train rows.

    Args:
        x: Inputs of the train rows.
        shape: (height, width, channels) of images, else None.
        impute: Whether missing values are filled in by the mean of their column over the train rows.
        pixels: Conversion of flat rows to images, if `--image_shape` declares rows to be images.
    """
    plain = ArrayColumns(shape, pixels=pixels)
    if not impute or x.dtype.kind != "f":
        return plain
    rows = plain(x).astype(np.float64)
    there = ~np.isnan(rows)
    mean = np.where(there, rows, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return ArrayColumns(shape, mean.astype(np.float32), pixels)


def _refuse_unequal(parts: dict[str, tuple[Any, np.ndarray | None]], where: str) -> None:
    """Raise `UserError` unless each part has one label per row, and rows of real numbers shaped like train rows.

    Args:
        parts: Inputs and labels (x, y) by part of the data.
        where: Name of the data in error messages.
    """
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
        if hasattr(x, "iloc"):
            refuse_text(x, where)
        elif x.dtype.kind not in "biuf":
            raise UserError(f"{where}: inputs must be real numbers. Received: arrays of type {x.dtype}. Give a table "
                            "with columns of text as a .csv file or a data frame.")  # fmt: skip
