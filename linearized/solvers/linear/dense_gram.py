"""K in memory as one square array, of which one triangle may be overwritten: the other and the diagonal still give K v.

Products are accurate in float64 whatever K is stored in: float32 entries are widened a block of rows at a time.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64
from linearized.solvers.linear.solution import LinearProblem

ROWS = 128  # that are widened together


@runtime_checkable
class DenseProblem(LinearProblem, Protocol):
    """(K + ρI)α = Y with K at hand, not only its products; see linearized.problems.gram_problem.

    Attributes:
        dtype: Of K's entries.
    """

    dtype: np.dtype

    def dense(self, *, keep: bool = True) -> np.ndarray: ...


class DenseGram:
    """K to work in: the upper triangle and the diagonal of its array are free to be overwritten.

    Args:
        keep: The problem's own products are wanted too: an array that may be overwritten is copied all the same.

    Attributes:
        array: (n, n), C-ordered. Its strict lower triangle is K's, and stays so.
        diagonal: K's, in float64.
        norm: ‖K‖, Frobenius.
    """

    def __init__(self, problem: DenseProblem, *, keep: bool = False):
        """Raises `UserError` if K is not finite."""
        self.array = problem.dense(keep=keep)
        self.norm = checked_norm(self.array)
        self.diagonal = np.diagonal(self.array).astype(np.float64)

    def product(self, v: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """K v: 2 n² operations a column in float64, on n²/2 entries of K."""
        return lower_product(self.array, self.diagonal, v)


def lower_product(
    array: Float[np.ndarray, "n n"], diagonal: Float64[np.ndarray, " n"], v: Float64[np.ndarray, "n c"]
) -> Float64[np.ndarray, "n c"]:
    """The product in float64 of v and the symmetric matrix of that strict lower triangle and diagonal."""
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
    """The Frobenius norm. Raises `UserError` if an entry is not finite."""
    squares = (np.linalg.norm(array[start : start + ROWS].astype(np.float64)) ** 2 for start in _starts(array))
    norm = float(np.sqrt(sum(squares)))
    if not np.isfinite(norm):
        raise UserError("K is not finite: it holds NaN or infinite entries. Make the Gram matrix anew.")
    return norm


def _starts(array: np.ndarray) -> range:
    return range(0, len(array), ROWS)
