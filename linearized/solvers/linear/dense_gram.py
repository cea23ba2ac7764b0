"""A Gram matrix K in memory, as one square array: a solver may overwrite one triangle and still multiply by K.

Products use the other triangle and a copy of the diagonal. They are computed in float64 for any dtype of K: float32
entries are converted to float64 for some rows at a time.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64
from linearized.solvers.linear.solution import LinearProblem

ROWS = 128  # rows that are converted to float64 together


@runtime_checkable
class DenseProblem(LinearProblem, Protocol):
    """Interface of a problem (K + ρI)α = Y that can return K as an array, in addition to products with it.

    `linearized.problems.gram_problem.GramProblem` implements it.

    Attributes:
        dtype: Dtype of the entries that `dense` returns.
        rounded: Whether `dense` returns K rounded to `dtype`, although `primal_product` multiplies by K itself.
    """

    dtype: np.dtype
    rounded: bool

    def dense(self, *, keep: bool = True) -> np.ndarray:
        """Return K as an array (n, n).

        Args:
            keep: Whether products of this problem are still needed. If False, the problem may return its own array,
                which the caller overwrites.
        """


class DenseGram:
    """K as an array whose upper triangle and diagonal a solver may overwrite.

    Args:
        problem: Problem that holds K.
        keep: Whether the problem's own products are still needed. If so, the problem's array is copied, even if the
            problem permits overwriting it.

    Attributes:
        array: K (n, n), C-ordered. Its strict lower triangle is never changed.
        diagonal: Diagonal of K, in float64.
        norm: Frobenius norm ‖K‖.
    """

    def __init__(self, problem: DenseProblem, *, keep: bool = False):
        """Read K from the problem into memory. Raises `UserError` if K is not finite."""
        self.array = problem.dense(keep=keep)
        self.norm = checked_norm(self.array)
        self.diagonal = np.diagonal(self.array).astype(np.float64)

    def product(self, v: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """Return K v in float64, computed from the lower triangle of K, in 2 n² operations per column of v."""
        return lower_product(self.array, self.diagonal, v)


def lower_product(
    array: Float[np.ndarray, "n n"], diagonal: Float64[np.ndarray, " n"], v: Float64[np.ndarray, "n c"]
) -> Float64[np.ndarray, "n c"]:
    """Return the product K v in float64, for a symmetric K that is given by one triangle and its diagonal.

    Args:
        array: Array with the strict lower triangle of K; its other entries are not read.
        diagonal: Diagonal of K.
        v: Matrix of c columns.
    """
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
    """Return the Frobenius norm of K. Raises `UserError` if an entry is not finite."""
    squares = (np.linalg.norm(array[start : start + ROWS].astype(np.float64)) ** 2 for start in _starts(array))
    norm = float(np.sqrt(sum(squares)))
    if not np.isfinite(norm):
        raise UserError("K is not finite: it holds NaN or infinite entries. Make the Gram matrix anew.")
    return norm


def _starts(array: np.ndarray) -> range:
    return range(0, len(array), ROWS)
