"""A dataset at a noise level: float32 arrays, their labels' coding, and a fingerprint of what they were made from."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
from jaxtyping import Float32

from data.errors import UserError

TASKS = ("classes", "binary", "regression")


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows of a dataset: inputs `x` (n, d) and labels `y` (n, 1), both float32; `x` may be a memory map."""

    x: Float32[np.ndarray, "n d"]
    y: Float32[np.ndarray, "n 1"]

    def __len__(self) -> int:
        return len(self.x)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Train, validation (may be None) and test rows at one noise level.

    Attributes:
        task: "classes" (labels are class numbers, outputs one-hot), "binary" (labels 0 and 1, one output, thresholded
            at 0.5) or "regression" (one output).
        num_classes: 10 for ten classes, 2 for "binary", 0 for "regression".
        image_shape: (height, width, channels) that a row of `x` flattens, or None.
        family: Whose published ridge grid and batch sizes apply: FMNIST, CIFAR2, CIFAR10 or SYNTH.
        fingerprint: 16 hex digits of the raw data, the settings and the recipe's version. Of the inputs of the recipe,
            not of its output: the last bits of a covariance root differ between machines, and its meaning does not.
        metrics: Names of further scores that are customary for this task, see `linearized.customary_metrics`.
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

    @property
    def dim(self) -> int:
        """d, the length of a row."""
        return self.train.x.shape[1]

    @property
    def num_outputs(self) -> int:
        """k: one output a class, or a single one."""
        return self.num_classes if self.task == "classes" else 1

    def splits(self) -> dict[str, Split]:
        """The splits that are there, by name: train, validation (if any), test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def targets(self, split: Split, *, centred: bool = False) -> Float32[np.ndarray, "n k"]:
        """What a model is fitted to: one-hot rows for classes, else the labels.

        Args:
            centred: As kernel ridge regression is published: one-hot minus 1/k, binary minus ½; regression unchanged.
        """
        if self.task != "classes":
            return split.y - np.float32(0.5) if centred and self.task == "binary" else split.y
        one_hot = np.zeros((len(split), self.num_classes), np.float32)
        one_hot[np.arange(len(split)), split.y[:, 0].astype(int)] = 1
        return one_hot - np.float32(1 / self.num_classes) if centred else one_hot


def fingerprint(*parts: Any) -> str:
    """16 hex digits of arrays (dtype, shape, bytes) and of anything JSON can say, in their order. About 1 GB/s."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part))
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def count_or_share(value: int | float, total: int, what: str) -> int:
    """A fraction below 1 of `total`, else a count; 0 stays 0. Raises `UserError` when no row would be left."""
    if not np.isfinite(value) or value < 0 or (value >= 1 and value != int(value)):
        raise UserError(f"--{what} takes a fraction below 1 or a whole count. Received: {value}.")
    count = round(value * total) if value < 1 else int(value)
    if count >= total > 0:
        raise UserError(f"--{what}={value:g} takes all of the {total} train rows. Leave at least one to train on.")
    if value > 0 and count == 0:
        raise UserError(f"--{what}={value:g} of {total} rows is none. Give a larger fraction or a count.")
    return count


def chosen_rows(
    total: int, count: int, *, subset: str = "first", seed: int = 0, what: str = "num_train"
) -> slice | np.ndarray:
    """Which of `total` rows `count` stands for: the first, or a seeded random part in random order; 0 means all rows.

    Raises `UserError` for a negative count and for one larger than what is there.
    """
    if count < 0 or count > total:
        raise UserError(f"--{what}={count} asks for rows of a set that has {total}. Take 0 (all) to {total}.")
    if subset not in ("first", "random"):
        raise UserError(f"Unknown subset {subset!r}. The choices are: first, random.")
    if count == 0 or subset == "first":
        return slice(0, count or total)
    return np.random.default_rng(seed).permutation(total)[:count]


def part(split: Split, count: int, *, subset: str = "first", seed: int = 0, what: str = "num_train") -> Split:
    """The rows of a split that `chosen_rows` names."""
    rows = chosen_rows(len(split), count, subset=subset, seed=seed, what=what)
    return Split(split.x[rows], split.y[rows])


def check(x: np.ndarray, y: np.ndarray, what: str, *, num_classes: int = 0) -> None:
    """Raises `UserError` unless x is a non-empty matrix, finite, and y has a valid label a row."""
    if x.ndim != 2 or len(x) == 0 or y.shape != (len(x), 1):
        raise UserError(
            f"{what}: expected x of shape (n, d) and y of shape (n, 1), n > 0. Received: {x.shape} and {y.shape}."
        )
    for name, array in (("inputs", x), ("labels", y)):
        bad = [start for start in range(0, len(array), 8192) if not np.isfinite(array[start : start + 8192]).all()]
        if bad:
            block = array[bad[0] : bad[0] + 8192]
            row = bad[0] + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise UserError(f"{what}: the {name} are not finite, first in row {row}. Mend the file or fetch it anew.")
    if num_classes and not (np.isin(np.unique(y), np.arange(num_classes)).all()):
        raise UserError(f"{what}: labels must be 0..{num_classes - 1}. Received: {np.unique(y)[:20].tolist()}.")
