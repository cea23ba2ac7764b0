"""Randomly pivoted Cholesky: a low-rank approximation K ≈ F Fᵀ from r columns of K; K itself is never stored.

Pivots (row indices) are drawn with probabilities in proportion to the diagonal of the residual K - F Fᵀ, several at a
time (Chen, Epperly, Tropp & Webber, arXiv 2207.06503). F Fᵀ is exact in the columns of the pivots, and is thus the
Nyström approximation of K with the pivots as centres. In contrast to a uniform draw, rows that F Fᵀ does not
approximate well yet are likely to be drawn.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg

from linearized.base.shapes import Float, Float64, Int64
from linearized.solvers.linear.driver import TimedCheckpoint

BLOCK = 128  # largest number of pivots drawn together
BLOCKS = 10  # smallest number of blocks, because the pivots of a block are drawn without regard to each other
EXHAUSTED = 10  # a residual of so many roundings of the largest entry of the diagonal counts as 0
STATE = "pivots"
UNSAVED = TimedCheckpoint(None, np.inf)

Columns = Callable[[np.ndarray], np.ndarray]


class PivotedFactor(NamedTuple):
    """Low-rank approximation K ≈ F Fᵀ from r columns of K.

    Attributes:
        rows: Indices of these columns (the pivots), in the order in which they were drawn.
        factor: Fᵀ, one row per pivot.
        residual: Diagonal of K - F Fᵀ.
    """

    rows: Int64[np.ndarray, " r"]
    factor: Float[np.ndarray, "r n"]
    residual: Float64[np.ndarray, " n"]


def randomly_pivoted(
    diagonal: Float64[np.ndarray, " n"], columns: Columns, rank: int, *, dtype: np.dtype | str = "float64",
    seed: int = 0, saved: TimedCheckpoint = UNSAVED, report: Callable[[int], None] = lambda pivots: None,
) -> PivotedFactor:  # fmt: skip
    """Return an approximation K ≈ F Fᵀ from `rank` pivots, or fewer if the residual K - F Fᵀ vanishes up to rounding.

    This takes `rank` columns of K, 2 n · rank² operations, and memory for n · rank numbers of `dtype`.

    Args:
        diagonal: Diagonal of K, without negative entries.
        columns: Function of the indices of b rows that returns K[:, indices], (n, b).
        rank: Largest number of pivots.
        dtype: Data type of F.
        seed: Random-number seed of the pivots.
        saved: Checkpoint of the rows of Fᵀ; each file holds the rows that were added since the previous file.
        report: Function called with the number of pivots after each block.
    """
    n, dtype = len(diagonal), np.dtype(dtype)
    rank = min(rank, n)
    factor, pivots = np.empty((rank, n), dtype), np.empty(rank, np.int64)
    residual = np.array(diagonal, np.float64)
    least = EXHAUSTED * float(np.finfo(dtype).eps) * residual.max(initial=0)
    count = kept = _restore(saved, factor, pivots, residual)
    report(count)
    while count < rank and (total := residual.sum()) > least * n:
        random = np.random.default_rng([seed, count])  # of each block alone, so that a resumed run draws the same
        size = min(BLOCK, max(1, rank // BLOCKS))
        drawn = np.array(list(dict.fromkeys(random.choice(n, size, p=residual / total).tolist())))[: rank - count]
        block = np.asarray(columns(drawn), dtype).T - factor[:count, drawn].T @ factor[:count]
        lower, order = pivoted_cholesky(block[:, drawn].astype(np.float64), least)
        fresh = slice(count, count + len(order))
        if len(order):
            pivots[fresh] = drawn[order]
            factor[fresh] = scipy.linalg.solve_triangular(lower.astype(dtype), block[order], lower=True)
            residual -= np.square(factor[fresh], dtype=np.float64).sum(axis=0)
        residual[drawn] = 0  # also of those that depend on the others of the block up to rounding
        np.maximum(residual, 0, out=residual)
        count = fresh.stop
        report(count)
        if saved.due and count > kept:
            arrays = {"rows": pivots[kept:count], "factor": factor[kept:count], "residual": residual}
            saved.save(f"{STATE}-{kept:06d}", arrays)
            kept = count
    return PivotedFactor(pivots[:count], factor[:count], residual)


def pivoted_cholesky(
    matrix: Float64[np.ndarray, "m m"], least: float
) -> tuple[Float64[np.ndarray, "r r"], Int64[np.ndarray, " r"]]:
    """Factor a positive semi-definite matrix of m rows by Cholesky with pivoting; dependent rows are left out.

    Pivoting ends when no remaining row has a pivot (a diagonal entry of the residual matrix) above `least`. The
    remaining rows are left out. The factorisation takes m³/3 operations.

    Args:
        matrix: Symmetric positive semi-definite matrix, whose upper triangle is read; it may be overwritten.
        least: Largest pivot that counts as 0.

    Returns:
        The lower triangle L, and the indices `order` of its r rows, with matrix[order][:, order] = L Lᵀ. The row with
        the largest pivot comes first. The array of L is column-major; ignore its entries above the diagonal.
    """
    if not len(matrix):
        return np.zeros((0, 0)), np.zeros(0, np.int64)
    largest = np.diagonal(matrix).max()  # LAPACK compares all pivots with the tolerance except the first
    lower, order, rank, _ = scipy.linalg.lapack.dpstrf(matrix.T, tol=least, lower=1, overwrite_a=1)
    rank = int(rank) if largest > least else 0
    lower = lower if rank == len(lower) else np.array(lower[:rank, :rank], order="F")
    return lower, order[:rank].astype(np.int64) - 1


def _restore(saved: TimedCheckpoint, factor: np.ndarray, pivots: np.ndarray, residual: np.ndarray) -> int:
    """Read the rows of Fᵀ from checkpoints up to the first missing file, and delete files after the gap.

    Args:
        saved: Checkpoints.
        factor: Fᵀ; its first rows are set.
        pivots: Pivots; the first ones are set.
        residual: Diagonal of K - F Fᵀ, which is set.

    Returns:
        The number of rows that were read.
    """
    count = 0
    while (kept := saved.load(f"{STATE}-{count:06d}")) is not None:
        rows = slice(count, count + len(kept["rows"]))
        factor[rows], pivots[rows], residual[:] = kept["factor"], kept["rows"], kept["residual"]
        count = rows.stop
    saved.forget(f"{STATE}-*", keep=lambda name: int(name.split("-")[1]) < count)
    return count
