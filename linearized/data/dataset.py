"""The class `Dataset`, which holds the inputs and labels of a loaded data set; functions that select and check rows."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float32, Int64
from linearized.data.preparation import Preparation
from linearized.data.scores import evaluate

TASKS = ("classes", "binary", "regression")


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a dataset, such as its train rows: inputs and labels.

    Attributes:
        x: Inputs, one per row; may be a memory map.
        y: Class numbers (n,) for the tasks "classes" and "binary", targets (n, k) for "regression". Files and caches
            store class numbers as a float32 column (n, 1). A split may contain such a column until a `Dataset` is made
            from it, which converts the column to class numbers (n,).
    """

    x: Float32[np.ndarray, "n d"]
    y: Int64[np.ndarray, " n"] | Float32[np.ndarray, "n k"]

    def __len__(self) -> int:
        return len(self.x)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set at one noise level: train, validation (if any) and test rows, and their properties.

    Attributes:
        name: Name of the data set.
        noise_ind: Index of the noise level, from 0.
        train, validation, test: The rows; `validation` may be None.
        task: "classes" (labels are class numbers, outputs one-hot), "binary" (labels 0 and 1, one output, thresholded
            at 0.5) or "regression" (one output per target).
        num_classes: Number of classes, which is 2 for "binary" and 0 for "regression".
        image_shape: (height, width, channels) of the image that a row of `x` holds, or None.
        family: The data set of Ghorbani et al. (arXiv 2006.13409) whose ridge grid and batch sizes apply: FMNIST,
            CIFAR2, CIFAR10 or SYNTH; OWN for data of the user's own.
        fingerprint: 16 hex digits that depend on the raw data, the settings and the version of the code that makes the
            rows. They do not depend on the noisy rows themselves, whose last bits may differ between machines.
        metrics: Names of further scores that are customary for this task, see
            `linearized.experiments.customary_metrics`.
        notes: Facts from reading or making the rows, by name, such as `train_rows_unlabelled`, the number of train rows
            that were dropped because they have no label.
        noise: The noise level as text, such as "τ = 0.6"; "" if there are no levels.
        preparation: Conversion of the raw inputs to these rows, which can be applied to further rows; None if the data
            set does not provide it.
        directions: Orthonormal columns (d, r) that span the subspace on which the labels depend; None if it is unknown.
        label_noise: Variance of the label noise, summed over the outputs. Train and validation labels have this noise;
            test labels do not. The expected square loss on validation rows (or on train rows that were left out of a
            fit) therefore exceeds the loss on test rows by this variance.
        class_names: Names of the classes in the order of their numbers; () if only their numbers are known.
    """

    name: str
    noise_ind: int
    train: Split
    validation: Split | None
    test: Split
    task: str
    num_classes: int
    image_shape: tuple[int, int, int] | None
    family: str
    fingerprint: str
    metrics: tuple[str, ...] = ()
    notes: dict[str, str | int] = dataclasses.field(default_factory=dict)
    noise: str = ""
    class_names: tuple[str, ...] = ()
    preparation: Preparation | None = None
    directions: Float32[np.ndarray, "d r"] | None = None
    label_noise: float = 0.0

    def __post_init__(self):
        if self.task != "regression":
            for name, split in self.splits().items():
                object.__setattr__(self, name, Split(split.x, class_numbers(split.y)))

    @property
    def dim(self) -> int:
        """Length of a row, d."""
        return self.train.x.shape[1]

    @property
    def num_outputs(self) -> int:
        """Number of outputs, k: one per class, a single one for binary labels, one per target for regression."""
        if self.task == "regression":
            return self.train.y.shape[1]
        return self.num_classes if self.task == "classes" else 1

    def splits(self) -> dict[str, Split]:
        """Return the existing parts of the dataset by name: train, validation (if any), test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def targets(self, split: Split, *, centred: bool = False) -> Float32[np.ndarray, "n k"]:
        """Return the targets to which a model is fitted: one-hot rows for classes, 0 and 1 if binary, else the labels.

        Args:
            split: Rows of the dataset.
            centred: Whether to subtract 1/k from one-hot rows of k classes, and ½ from binary labels, as Ghorbani et
                al. do for kernel ridge regression; targets of regression are unchanged.
        """
        if self.task == "regression":
            return split.y
        classes = class_numbers(split.y)
        if self.task == "binary":
            column = classes.astype(np.float32)[:, None]
            return column - np.float32(0.5) if centred else column
        one_hot = np.zeros((len(split), self.num_classes), np.float32)
        one_hot[np.arange(len(split)), classes] = 1
        return one_hot - np.float32(1 / self.num_classes) if centred else one_hot

    def score(self, split: str | Split, outputs: np.ndarray, *, loss: str = "square") -> dict[str, float | None]:
        """Return the loss and the accuracy of a model's outputs on some rows.

        Args:
            split: "train", "validation" or "test", or a `Split` with the rows.
            outputs: Shape (n, k): one column per class for "classes", else one column per target (one for "binary");
                not class numbers.
            loss: "square", or "cross_entropy" if the outputs are logits.

        Returns:
            `loss`, `accuracy` (None for regression) and `normalised_loss`, which `linearized.data.scores.evaluate`
            defines.

        Raises:
            ValueError: The outputs do not have the shape of `targets(split)`.
            UserError: There is no such split, or an output is not finite.
        """
        if isinstance(split, str):
            if split not in self.splits():
                raise UserError(f"{self.name} has the splits {', '.join(self.splits())}. Received: {split!r}.")
            split = self.splits()[split]
        return evaluate(np.asarray(outputs), self.targets(split), self.task, loss=loss)


def class_numbers(labels: np.ndarray) -> Int64[np.ndarray, " n"]:
    """Return class numbers as whole numbers of shape (n,), from labels of shape (n,) or (n, 1).

    Files store labels as a column (n, 1), which is error-prone: the argmax of its rows is 0 for every row, and
    comparing it with a vector broadcasts to a matrix.

    Raises:
        ValueError: The labels have more than one column (one-hot rows), or are not whole numbers.
    """
    labels = np.asarray(labels)
    if labels.ndim not in (1, 2) or labels.shape[1:] not in ((), (1,)):
        raise ValueError(f"Class labels must have the shape (n,) or (n, 1). Received: {labels.shape}.")
    classes = labels.reshape(-1).astype(np.int64)
    if not np.array_equal(classes, labels.reshape(-1)):
        raise ValueError(f"Class labels must be whole numbers. Received: {labels.reshape(-1)[:10].tolist()}...")
    return classes


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that identify some values. Takes about one second per GB.

    Args:
        *parts: Arrays, and values that JSON can represent. The dtype, shape and bytes of each array count, and so does
            the order of the parts.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part))
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def chosen_rows(
    total: int, count: int, *, subset: str = "first", seed: int = 0, what: str = "num_train"
) -> slice | np.ndarray:
    """Return the indices of the `count` rows to use out of `total`; a count of 0 means all rows.

    Args:
        total: Number of rows that exist.
        count: Number of rows to use.
        subset: "first" for the first rows, or "random" for random rows in random order.
        seed: Random-number seed of the random rows.
        what: Name of the flag that gives the count, for error messages.

    Returns: A slice for all or the first rows, otherwise an array of indices.

    Raises `UserError` for an unknown subset, and for a count that is negative or exceeds `total`.
    """
    if count < 0 or count > total:
        raise UserError(f"--{what}={count} asks for rows of a set that has {total}. Take 0 (all) to {total}.")
    if subset not in ("first", "random"):
        raise UserError(f"Unknown subset {subset!r}. The choices are: first, random.")
    if count == 0 or subset == "first":
        return slice(0, count or total)
    return np.random.default_rng(seed).permutation(total)[:count]


@dataclasses.dataclass(frozen=True)
class RowChoice:
    """The selection of rows of a dataset.

    Attributes:
        num_train, num_test: Number of rows; 0 selects all.
        validation: Number of validation rows, or their fraction of the selected train rows if it is below 1. They are
            taken from the end of the selected train rows.
        subset: "first" for the first rows, or "random" for random rows in random order.
        seed: Random-number seed of the random rows.
    """

    num_train: int = 0
    num_test: int = 0
    validation: int | float = 0.0
    subset: str = "first"
    seed: int = 0

    def of(self, total: int, name: str) -> slice | np.ndarray:
        """Return the indices of the selected rows of one part of a dataset, as a slice or an array.

        Args:
            total: Number of rows of the part.
            name: The part, "train" or "test".

        Raises `UserError` if more rows are selected than exist.
        """
        count = getattr(self, f"num_{name}")
        return chosen_rows(total, count, subset=self.subset, seed=self.seed, what=f"num_{name}")


def part(split: Split, count: int, *, subset: str = "first", seed: int = 0, what: str = "num_train") -> Split:
    """Return `count` rows of a part of a dataset; 0 returns all.

    Args:
        split: The rows from which to choose.
        count: Number of rows to return.
        subset: "first" for the first rows, or "random" for random rows in random order.
        seed: Random-number seed of the random rows.
        what: Name of the flag that gives the count, for error messages.

    Raises `UserError` for an unknown subset, and for a count that is negative or exceeds the number of rows.
    """
    rows = chosen_rows(len(split), count, subset=subset, seed=seed, what=what)
    return Split(split.x[rows], split.y[rows])


def check(x: np.ndarray, y: np.ndarray, what: str, *, num_classes: int = 0) -> None:
    """Raise `UserError` unless x is a non-empty, finite matrix, and y a matrix with valid labels for each of its rows.

    Args:
        x: Inputs (n, d).
        y: Labels as a column (n, 1), or targets (n, k).
        what: Name of the data in error messages.
        num_classes: Number of classes; labels must be 0, 1, ..., `num_classes` - 1. 0 stands for regression, whose
            targets are any finite numbers in one or more columns.
    """
    if (
        x.ndim != 2
        or len(x) == 0
        or y.ndim != 2
        or len(y) != len(x)
        or not y.shape[1]
        or (num_classes and y.shape[1] != 1)
    ):
        raise UserError(
            f"{what}: expected x of shape (n, d) and y of shape (n, {1 if num_classes else 'k'}), n > 0. Received: "
            f"{x.shape} and {y.shape}."
        )
    for name, array in (("inputs", x), ("labels", y)):
        bad = [start for start in range(0, len(array), 8192) if not np.isfinite(array[start : start + 8192]).all()]
        if bad:
            block = array[bad[0] : bad[0] + 8192]
            row = bad[0] + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise UserError(f"{what}: the {name} are not finite, first in row {row}. Mend the file or fetch it anew.")
    if num_classes and not (np.isin(np.unique(y), np.arange(num_classes)).all()):
        raise UserError(f"{what}: labels must be 0..{num_classes - 1}. Received: {np.unique(y)[:20].tolist()}.")
