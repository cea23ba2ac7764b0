"""Best linear fit as a baseline for kernels: ridge regression on the raw inputs with an intercept.

The relative risk of a kernel is its test loss divided by the test loss of this linear fit. Below 1, the kernel has
learned something nonlinear. All ridges are solved from one eigendecomposition.
"""

import functools
from typing import Any

import numpy as np

from linearized.data.dataset import Dataset
from linearized.experiments.select import choose

RIDGES = 10.0 ** np.linspace(-10, 1, 34)  # in units of the largest eigenvalue of XᵀX
ROWS = 4096  # rows in a block


def linear_baseline(dataset: Dataset, rule: str, metric: str = "accuracy") -> dict[str, Any]:
    """Fit a linear function w·x + b to the targets at 34 ridges, and return the scores at the best one.

    The fit minimises Σᵢ‖yᵢ - w·xᵢ - b‖² + ρ‖w‖² over w and b on the n train rows; b is not penalised. Ridges ρ run from
    1e-10 to 10 times the largest eigenvalue of the centred XᵀX. It costs 2 n d min(n, d) operations in float64, and
    as many again for leave-one-out errors.

    Args:
        dataset: Rows and labels.
        rule: Criterion by which the ridge is chosen: "validation", "leave_one_out", "gcv" (generalised
            cross-validation) or "test".
        metric: Score to compare, "accuracy" or "loss"; regression is always compared by the loss.

    Returns:
        The entry `ridge`, and the scores of `Dataset.score` at it, with keys that start with the name of the split.
    """
    x, mean = dataset.train.x, dataset.train.x.mean(axis=0, dtype=np.float64)
    targets = dataset.targets(dataset.train).astype(np.float64)
    constant = targets.mean(axis=0)
    squares, directions = _spectrum(x, mean)
    ridges = RIDGES * squares.max(initial=1e-300)
    n, cross = len(x), np.zeros((x.shape[1], targets.shape[1]))
    for rows in _blocks(n):
        cross += (x[rows] - mean).T @ (targets[rows] - constant)
    shrink = 1 / (squares[:, None] + ridges)  # (directions, ridges)
    weights = shrink.T[:, :, None] * (directions.T @ cross)  # (ridges, directions, outputs)
    few = ridges.size * targets.shape[1] < len(squares)  # then one product with rows is cheaper than two
    maps = [directions @ weights] if few else [directions, weights]

    def predict(inputs: np.ndarray) -> np.ndarray:
        parts = [functools.reduce(np.matmul, maps, inputs[rows] - mean) for rows in _blocks(len(inputs))]
        return np.concatenate(parts, axis=1) + constant

    entries = [{"ridge": float(ridge)} for ridge in ridges]
    for name, split in dataset.splits().items():
        for entry, outputs in zip(entries, predict(split.x), strict=True):
            entry |= {f"{name}_{metric}": value for metric, value in dataset.score(split, outputs).items()}
    if rule == "gcv":
        freedom = 1 + (squares[:, None] * shrink).sum(axis=0)
        for entry, used in zip(entries, freedom, strict=True):
            entry["gcv"] = entry["train_loss"] / (1 - used / n) ** 2 if used < n * (1 - 1e-9) else None
    if rule == "leave_one_out":
        leverage = np.concatenate([((x[rows] - mean) @ directions) ** 2 @ shrink for rows in _blocks(n)])
        left = np.maximum(1 - 1 / n - leverage, 1e-12)
        for i, (entry, outputs) in enumerate(zip(entries, predict(x), strict=True)):
            without = targets - (targets - outputs) / left[:, i : i + 1]
            found = dataset.score(dataset.train, without)
            entry |= {f"leave_one_out_{metric}": value for metric, value in found.items()}
    return entries[choose(entries, rule, metric).position]


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, n, ROWS)]


def _spectrum(x: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues of the centred XᵀX, without those at the level of rounding errors, and their eigenvectors.

    The eigenvectors have the shape (d, directions). The smaller one of XᵀX and XXᵀ is decomposed.

    Args:
        x: Rows X (n, d).
        mean: Mean of the rows (d,).
    """
    import scipy.linalg  # slow to import

    n, d = x.shape
    if n < d:
        centred = x - mean
        squares, left = scipy.linalg.eigh(centred @ centred.T)
        kept = squares > squares.max() * 1e-12
        return squares[kept], centred.T @ left[:, kept] / np.sqrt(squares[kept])
    moment = np.zeros((d, d))
    for rows in _blocks(n):
        centred = x[rows] - mean
        moment += centred.T @ centred
    squares, directions = scipy.linalg.eigh(moment)
    kept = squares > squares.max() * 1e-12
    return squares[kept], directions[:, kept]
