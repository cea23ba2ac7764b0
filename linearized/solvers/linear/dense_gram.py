"""K in memory as one square array, of which one triangle may be overwritten; the other and the diagonal still give K v.

Products are accurate to float64 for any dtype of K: float32 entries are converted one block of rows at a time.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64
from linearized.solvers.linear.solution import LinearProblem

ROWS = 128  # rows that are converted to float64 together


@runtime_checkable
class DenseProblem(LinearProblem, Protocol):
    """A problem (K + ρI)α = Y that can return K itself, not only products; see `linearized.problems.gram_problem`.

    Attributes:
        dtype: Dtype of the entries that `dense` returns.
        rounded: Whether `dense` returns a rounded copy of K, and `primal_product` still multiplies by K itself.
    """

    dtype: np.dtype
    rounded: bool

    def dense(self, *, keep: bool = True) -> np.ndarray:
        """Return K; if `keep` is False, the caller may overwrite the returned array."""


class DenseGram:
    """K as a work array: its upper triangle and its diagonal may be overwritten.

    Args:
        problem: Problem that holds K.
        keep: Whether the problem's own products are still needed; then an array is copied even if it could be
            overwritten.

    Attributes:
        array: K (n, n), C-ordered. Its strict lower triangle is never changed.
        diagonal: Diagonal of K, in float64.
        norm: Frobenius norm ‖K‖.
    """

    def __init__(self, problem: DenseProblem, *, keep: bool = False):
        """Load K. Raises `UserError` if K is not finite."""
        self.array = problem.dense(keep=keep)
        self.norm = checked_norm(self.array)
        self.diagonal = np.diagonal(self.array).astype(np.float64)

    def product(self, v: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """Return K v: 2 n² operations per column in float64, which read n²/2 entries of K."""
        return lower_product(self.array, self.diagonal, v)


def lower_product(
    array: Float[np.ndarray, "n n"], diagonal: Float64[np.ndarray, " n"], v: Float64[np.ndarray, "n c"]
) -> Float64[np.ndarray, "n c"]:
    """Return the float64 product of v and the symmetric matrix with that strict lower triangle and diagonal."""
    out = diagonal[:, None] * v
    for start in _starts(array):
        rows = slice(start, start + ROWS)
        square = np.tril(array[rows, rows], -1).astype(np.float64)
        out[rows] += square @ v[rows] + square.T @ v[rows]
        left = array[rows, :start].astype(np.float64, copy=False)
        out[rows] += left @ v[:start]
        out[:start] += left.T @ v[rows]
    return out


def checked_norm(array: Float[np.ndarray, "n n"]) -> float:
    """Return the Frobenius norm. Raises `UserError` if an entry is not finite."""
    squares = (np.linalg.norm(array[start : start + ROWS].astype(np.float64)) ** 2 for start in _starts(array))
    norm = float(np.sqrt(sum(squares)))
    if not np.isfinite(norm):
        raise UserError("K is not finite: it holds NaN or infinite entries. Make the Gram matrix anew.")
    return norm


def _starts(array: np.ndarray) -> range:
    return range(0, len(array), ROWS)
