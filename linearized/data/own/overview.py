"""An overview of the user's own data: rows, shapes, classes, missing values, and test rows that are also train rows."""

import dataclasses
from typing import Any

import numpy as np

from linearized.data.dataset import Split
from linearized.data.own.arrays import rows_of
from linearized.data.own.missing import infinite_rows
from linearized.data.own.prepare import ArrayColumns, LazyRows
from linearized.data.own.source import OwnSource

BLOCK = 2**24  # bytes of rows that are read together
LISTED = 30  # maximum of columns and classes that are described individually


@dataclasses.dataclass(frozen=True)
class ColumnOverview:
    """Description of one column of the train rows.

    Attributes:
        name: Name of the column.
        kind: "number" or "category".
        missing: Number of missing values.
        distinct: Number of distinct values.
        values: Range of the numbers, or the most frequent categories with their counts, as text.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    values: str


@dataclasses.dataclass(frozen=True)
class Overview:
    """A description of the user's own data.

    Attributes:
        lines: Facts as text, one line each.
        columns: Descriptions of the first `LISTED` columns; () for images.
        images: The first n images of each class as float rows (classes, n, h * w * c), with rows of NaN for classes
            that have fewer images; None for other data.
    """

    lines: tuple[str, ...]
    columns: tuple[ColumnOverview, ...]
    images: np.ndarray | None


def overview(source: OwnSource, *, images_each: int = 8, noise_ind: int = 0) -> Overview:
    """Describe the user's own data. All rows are read, in blocks.

    With `--noise`, columns and images are described after the noise is added to the train rows, which are loaded
    completely; images have their noisy labels. Counts, missing values, infinite values and repeated rows are found in
    the data without noise.

    Args:
        source: The data.
        images_each: Number of images of each class.
        noise_ind: Index of the level of `--noise`.
    """
    prepared, rows = source.prepared, source.prepared.rows
    train = rows["train"]
    shape = source.image_shape or tuple(train.x.shape[1:])
    kind = "images" if source.image_shape else "columns" if hasattr(train.x, "iloc") else "numbers"
    counts = ", ".join(f"{len(part):,} {name}" for name, part in rows.items())
    lines = [f"{source.name}: {counts} rows{' (divided by --seed)' if prepared.divided else ''}",
             f"a row: {' x '.join(map(str, shape))} {kind}", _labels_line(source)]  # fmt: skip
    missing = {name: _missing(part) for name, part in rows.items()}
    absent = ", ".join(f"{count:,} in {name} rows" for name, count in missing.items() if count)
    lines.append(f"missing values: {absent or 'none'}")
    unbounded = {name: _infinite(part) for name, part in rows.items()}
    found = ", ".join(f"in {count:,} {name} rows" for name, count in unbounded.items() if count)
    lines.append(f"infinite values: {found or 'none'}")
    twice = len(_hashes(rows["test"]).intersection(_hashes(train)))
    lines.append(f"distinct test rows that are train rows too: {twice:,}")
    lines += [f"{note.replace('_', ' ')}: {value}" for note, value in prepared.notes.items()]
    if source.options.noise:
        noisy = source.load(noise_ind)
        levels = f"--noise_ind={noise_ind} of 0..{len(source.noise_levels) - 1}"
        changed = np.count_nonzero(noisy.train.y != train.y) if source.options.noise == "label" else 0
        wrong = f": {changed:,} of {len(train):,} train labels are changed" if source.options.noise == "label" else ""
        lines.append(f"noise: {source.title.rpartition(', ')[2]}, {noisy.noise} ({levels}){wrong}")
        train = _with_names(noisy.train, train.x)
    columns = () if source.image_shape else tuple(_columns(train))
    images = _first_images(source, train, images_each) if source.image_shape else None
    return Overview(tuple(lines), columns, images)


def _labels_line(source: OwnSource) -> str:
    prepared = source.prepared
    labels = np.concatenate([part.y for part in prepared.rows.values()])
    if source.task == "regression":
        spans = ", ".join(f"{one.min():.4g} to {one.max():.4g}" for one in labels.T[:LISTED])
        return f"task: regression, {prepared.num_outputs} target{'s' * (prepared.num_outputs > 1)} ({spans})"
    sizes = np.bincount(labels, minlength=len(prepared.class_names))
    named = [f"{name}: {size:,}" for name, size in zip(prepared.class_names, sizes, strict=True)]
    more = f", and {len(named) - LISTED} more" if len(named) > LISTED else ""
    return f"task: {source.task}, {len(named)} classes ({', '.join(named[:LISTED])}{more})"


def _blocks(rows: LazyRows) -> Any:
    """Yield the inputs of some rows in blocks of about `BLOCK` bytes: data frames, or matrices (rows, d)."""
    size = max(1, BLOCK // max(1, 8 * int(np.prod(rows.x.shape[1:]))))
    for start in range(0, len(rows), size):
        x, _labels = rows.take(slice(start, start + size))
        yield x if hasattr(x, "iloc") else x.reshape(len(x), -1)


def _missing(rows: LazyRows) -> int:
    if hasattr(rows.x, "iloc"):
        return sum(int(block.isna().to_numpy().sum()) for block in _blocks(rows))
    return sum(int(np.isnan(block).sum()) for block in _blocks(rows)) if rows.x.dtype.kind == "f" else 0


def _infinite(rows: LazyRows) -> int:
    """Return the number of rows with a value that is infinite or too large for float32."""
    if not hasattr(rows.x, "iloc") and rows.x.dtype.kind != "f":
        return 0
    return sum(int(infinite_rows(block).sum()) for block in _blocks(rows))


def _hashes(rows: LazyRows) -> set[Any]:
    """Return the set of hash values of the inputs of some rows, for finding equal rows."""
    if hasattr(rows.x, "iloc"):
        from pandas.util import hash_pandas_object

        return {value for block in _blocks(rows) for value in hash_pandas_object(block, index=False).tolist()}
    return {hash(row.tobytes()) for block in _blocks(rows) for row in np.ascontiguousarray(block)}


def _columns(rows: LazyRows) -> list[ColumnOverview]:
    import pandas as pd

    if hasattr(rows.x, "iloc"):
        frame = rows.take(slice(None))[0].iloc[:, :LISTED]
    else:
        wide = int(np.prod(rows.x.shape[1:])) > LISTED
        blocks = [block[:, :LISTED] if wide else block for block in _blocks(rows)]
        frame = pd.DataFrame(np.concatenate(blocks))
    return [_column(str(name), frame[name]) for name in frame.columns]


def _column(name: str, column: Any) -> ColumnOverview:
    from pandas.api import types

    there, missing = column.dropna(), int(column.isna().sum())
    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        values = f"{there.min():.4g} to {there.max():.4g}, mean {there.mean():.4g}" if len(there) else "-"
        return ColumnOverview(name, "number", missing, int(there.nunique()), values)
    counts = there.astype(str).value_counts()
    values = ", ".join(f"{value[:20]}: {count}" for value, count in counts.head(4).items())
    return ColumnOverview(name, "category", missing, len(counts), values)


def _with_names(rows: Split, raw: Any) -> LazyRows:
    """Return loaded rows, with the column names of the original table if the number of columns is unchanged.

    Args:
        rows: Loaded rows.
        raw: Inputs of the same rows before their conversion, a data frame or an array.
    """
    x: Any = rows.x
    if hasattr(raw, "iloc") and len(raw.columns) == x.shape[1]:
        import pandas as pd

        x = pd.DataFrame(x, columns=raw.columns)
    return LazyRows(x, rows.y, slice(None))


def _first_images(source: OwnSource, train: LazyRows, each: int) -> np.ndarray:
    shape = source.image_shape
    classes = range(len(source.prepared.class_names)) if source.task != "regression" else (None,)
    sheet = np.full((min(len(classes), LISTED), each, int(np.prod(shape))), np.nan)
    for row, label in zip(sheet, classes, strict=False):
        places = np.arange(len(train)) if label is None else np.flatnonzero(train.y == label)
        images = rows_of(train.x, np.arange(len(train.x))[train.numbers(places[:each])])
        row[: len(images)] = images if source.options.noise else ArrayColumns(shape)(images)
    return sheet
