"""The best linear fit: ridge regression on the raw inputs with an intercept, for all ridges from one eigenproblem.

It is the reference for the risk: a kernel that performs better does so because it is nonlinear.
"""

from typing import Any

import numpy as np

from linearized.data.dataset import Dataset
from linearized.experiments.select import choose

RIDGES = 10.0 ** np.linspace(-10, 1, 34)  # in units of the largest eigenvalue of XᵀX
ROWS = 4096  # rows in a block


def linear_baseline(dataset: Dataset, rule: str, metric: str = "accuracy") -> dict[str, Any]:
    """Return the linear fit w·x + b of the targets whose ridge is chosen among 34, as for kernels.

    min over w, b of Σᵢ‖yᵢ - w·xᵢ - b‖² + ρ‖w‖² on the train rows; b is not penalised. Ridges run from 1e-10 to 10
    times the largest eigenvalue of the centred XᵀX.

    Args:
        dataset: Rows and labels.
        rule: validation, leave_one_out, gcv or test, see `linearized.experiments.select`.
        metric: accuracy or loss, see `linearized.experiments.select.choose`.

    Returns: `ridge` and the scores of `Dataset.score` at it, by split. Costs O(n d min(n, d)) in float64.
    """
    x, mean = dataset.train.x, dataset.train.x.mean(axis=0, dtype=np.float64)
    targets = dataset.targets(dataset.train).astype(np.float64)
    constant = targets.mean(axis=0)
    squares, directions = _spectrum(x, mean)
    ridges = RIDGES * squares.max(initial=1e-300)
    n, scores = len(x), np.zeros((len(squares), targets.shape[1]))
    for rows in _blocks(n):
        scores += ((x[rows] - mean) @ directions).T @ (targets[rows] - constant)
    shrink = 1 / (squares[:, None] + ridges)  # (directions, ridges)
    weights = shrink.T[:, :, None] * scores

    def predict(inputs: np.ndarray) -> np.ndarray:
        parts = [(inputs[rows] - mean) @ directions @ weights + constant for rows in _blocks(len(inputs))]
        return np.concatenate(parts, axis=1)

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
    """Return the eigenvalues above rounding of the centred XᵀX, and its eigenvectors (d, directions).

    The eigenproblem is that of the smaller of XᵀX and XXᵀ.
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
