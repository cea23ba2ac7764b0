"""Functions that split rows at random into train and test rows, reproducibly for a seed and stratified for classes."""

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Int64


def distinct(values: np.ndarray) -> np.ndarray:
    """Return the sorted distinct values of an array (n,).

    `np.unique` returns the same, but would import NumPy's masked arrays (50 ms).
    """
    values = np.sort(values)
    return values[np.concatenate([np.ones(len(values[:1]), bool), values[1:] != values[:-1]])]


def in_class_order(classes: np.ndarray) -> bool:
    """Return whether the rows of each class are consecutive, as in image folders.

    The first rows then lack some classes. False if there is one class only, or one row of each class.

    Args:
        classes: Class numbers of the rows.
    """
    changes = np.count_nonzero(np.diff(classes.ravel()))
    return bool(0 < changes == len(distinct(classes.ravel())) - 1 and len(classes) > changes + 1)


def split_rows(
    count: int, test_fraction: float, seed: int, classes: np.ndarray | None = None
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]]:
    """Split rows at random, and return the indices of the train and of the test rows, each in random order.

    Args:
        count: Total number of rows.
        test_fraction: Fraction of test rows. Their number is round(test_fraction * count), at least 1.
        seed: Random-number seed of the split.
        classes: Class numbers (count,): the fraction `test_fraction` of the rows of each class become test rows, up to
            rounding. Each class keeps at least one train row, even if there are then fewer test rows. None: rows are
            drawn without regard to classes.

    Raises `UserError` if no train row would be left, or if each class has a single row.
    """
    random = np.random.default_rng(seed)
    wanted = max(1, round(test_fraction * count))
    if wanted >= count:
        raise UserError(f"--test_fraction={test_fraction:g} of {count} rows leaves no train row. Give more rows.")
    order = random.permutation(count)
    if classes is None:
        return order[wanted:], order[:wanted]
    sizes = np.bincount(classes)
    if sizes.max() < 2:
        raise UserError(f"No test row can be held out: each of the {count} rows is of another class. Give more rows.")
    shares = wanted * sizes / count
    taken = np.minimum(np.floor(shares).astype(np.int64), np.maximum(sizes - 1, 0))
    for label in np.argsort(-(shares - taken), kind="stable"):  # method of largest remainders
        if taken.sum() >= wanted:
            break
        taken[label] += taken[label] < sizes[label] - 1
    test = np.zeros(count, bool)
    for label, number in enumerate(taken):
        test[order[classes[order] == label][:number]] = True
    return order[~test[order]], order[test[order]]
