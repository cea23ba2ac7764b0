"""Functions on labels of the user's own data: guess the task, convert labels to class numbers, and name the classes."""

import numpy as np

from linearized.base.errors import UserError
from linearized.data.own.splits import distinct

FEW = 20  # largest number of distinct whole numbers that are taken for classes
MANY = 1000  # the same for consecutive integers, if a class has `ROWS_EACH` rows on average
ROWS_EACH = 5


def text_of(y: np.ndarray, where: str) -> np.ndarray:
    """Return labels with bytes decoded as UTF-8; labels of other types are returned unchanged.

    Args:
        y: Labels or targets of any type.
        where: Name of the data in the error message.

    Raises `UserError` for bytes that are not UTF-8.
    """
    if y.dtype.kind not in "SO":
        return y
    try:
        if y.dtype.kind == "S":
            return np.char.decode(y, "utf-8")
        decoded = [value.decode() if isinstance(value, bytes) else value for value in y.reshape(-1)]
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: labels are bytes that are no UTF-8 text ({error.object[:20]!r}). Give text, or "
                        "numbers.") from error  # fmt: skip
    out = np.empty(y.size, object)
    out[:] = decoded
    return out.reshape(y.shape)


def refuse_other_kinds(y: np.ndarray, where: str) -> None:
    """Raise `UserError` for labels `y` that are dates, durations, complex numbers or records.

    Args:
        y: Labels or targets.
        where: Name of the data in the error message.
    """
    if y.dtype.kind in "mMcV":
        what = {"m": "durations", "M": "dates", "c": "complex numbers", "V": "records"}[y.dtype.kind]
        raise UserError(f"{where}: labels are {what}. Give numbers, or text for classes.")


def sniffed_task(y: np.ndarray) -> str:
    """Guess the task from the labels: "binary" for two distinct labels, otherwise "classes" or "regression".

    Text, booleans and one-hot rows are classes. Whole numbers are classes in two cases: if at most `FEW` of them are
    distinct, and each occurs at least twice on average; or if they are stored as integers, form a range without gaps of
    at most `MANY` numbers, and each occurs at least `ROWS_EACH` times on average. Everything else is regression.
    """
    if y.ndim == 2 and y.shape[1] > 1:
        return "classes" if _one_hot(y) else "regression"
    values = distinct(_flat(y))
    if len(values) == 2:
        return "binary"
    if values.dtype.kind not in "iuf":
        return "classes"
    whole = values.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    few = len(values) <= FEW and len(y) >= 2 * len(values)
    gapless = values.dtype.kind in "iu" and int(values[-1]) - int(values[0]) + 1 == len(values)
    many = gapless and len(values) <= MANY and len(y) >= ROWS_EACH * len(values)
    return "classes" if whole and (few or many) else "regression"


def coded(parts: dict[str, np.ndarray], task: str, where: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Convert labels to class numbers 0, 1, ...

    Args:
        parts: Labels (n,) or one-hot rows of each part of the data by name; "train" is required.
        task: "classes" or "binary".
        where: Name of the data in error messages.

    Returns: Class numbers (n,) by part, and the labels of the classes in the order of their numbers. The classes
        are the distinct labels of the train part, sorted: numbers by value, text alphabetically.

    Raises `UserError` for fewer than two classes, for any number of classes other than two if the task is binary, and
    for a label of another part that the train part does not contain.
    """
    flat = {name: y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else _flat(y) for name, y in parts.items()}
    values = distinct(flat["train"])
    if len(values) < 2:
        raise UserError(f"{where}: all {len(flat['train'])} labels are {values[0]!s:.40}. Two classes are needed.")
    if task == "binary" and len(values) != 2:
        raise UserError(f"{where}: --task=binary needs two classes. The labels have {len(values)}.")
    numbers = {}
    for name, labels in flat.items():
        places = np.searchsorted(values, labels).clip(0, len(values) - 1)
        unknown = labels[values[places] != labels]
        if len(unknown):
            raise UserError(f"{where}: the {name} part has the class {unknown[0]!s:.40}, which the train part lacks.")
        numbers[name] = places.astype(np.int64)
    return numbers, values


def names(classes: np.ndarray, known: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of classes as texts; whole numbers are written without a decimal point.

    Args:
        classes: Labels of the classes in the order of their class numbers.
        known: Names of the classes 0, 1, ... if the labels are these numbers; None: the labels are the names.
    """
    if known is not None:
        return tuple(known[int(label)] for label in classes)
    return tuple(_name(label) for label in classes)


def _name(value: object) -> str:
    """Return the name of a class; whole numbers are written without a decimal point."""
    return str(int(value)) if isinstance(value, np.floating) and value == int(value) else str(value)


def targets(parts: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Return regression targets as float32 (n, k).

    Args:
        parts: Targets (n,) or (n, k) of each part of the data by name.
        where: Name of the data in the error message.

    Raises `UserError` for targets that are not numbers.
    """
    found = {}
    for name, y in parts.items():
        if y.dtype.kind not in "biuf":
            raise UserError(f"{where}: regression needs numbers, and the labels are of type {y.dtype}. Leave out "
                            "--task=regression, or give another --target.")  # fmt: skip
        found[name] = y.astype(np.float32).reshape(len(y), -1)
    return found


def _one_hot(y: np.ndarray) -> bool:
    return bool(y.dtype.kind in "biuf" and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())


def _flat(y: np.ndarray) -> np.ndarray:
    """Return labels as (n,) in a type that can be sorted; Python objects become text unless all are numbers."""
    flat = y.reshape(-1)
    if flat.dtype.kind != "O":
        return flat
    if all(isinstance(value, int | float | np.number | np.bool_) for value in flat):
        return np.array([float(value) for value in flat])
    return np.array([str(value) for value in flat])
