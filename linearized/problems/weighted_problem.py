"""Kernel ridge regression with weights of the rows, as an unweighted problem that every solver can solve.

For positive weights w_i, the minimiser of Σ_i w_i ‖y_i - f(x_i)‖² + ρ‖f‖², with the norm of the kernel's function
space, is f = Σ_i α_i k(x_i, ·) with (K + ρW⁻¹)α = Y and W = diag(w). With S = diag(√w) and α = Sβ this becomes (SKS +
ρI)β = SY. The matrix SKS + ρI is symmetric and positive definite, so every solver of kernel ridge regression can be
used. `Weighted` is the scaled problem.
"""

from typing import Any

import numpy as np

from linearized.base.array_checks import real_array, refuse_not_finite
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64, Int64
from linearized.problems.gram_problem import GramProblem
from linearized.solvers.linear.solution import Solution

ROWS = 1024  # rows of K that are scaled together in float64


class Weighted:
    """Kernel ridge regression with weights w of the rows, as the problem (SKS + ρI)β = SY with S = diag(√w).

    Attributes and methods that are not defined here are those of the unweighted problem.

    Args:
        problem: Unweighted problem with K and Y.
        weights: w, one number above 0 for each row.

    Attributes:
        targets: SY.
    """

    def __init__(self, problem: GramProblem, weights: Float64[np.ndarray, " n"]):
        self._problem, self._root = problem, np.sqrt(weights)[:, None]
        self.targets = self._root * problem.targets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    @property
    def rough_product(self) -> None:
        """Function for faster and less accurate products; None, because products are always computed in float64."""
        return None

    def moment(self) -> Float64[np.ndarray, "n k"]:
        """Return the right-hand side SY (n, k), the labels Y times the square roots S = diag(√w) of the weights."""
        return self.targets

    def primal_product(self, v: Float[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """Return SKS v for columns v (n, c), with S = diag(√w), in one pass over K."""
        return self._root * self._problem.primal_product(self._root * v)

    def diagonal(self) -> Float64[np.ndarray, " n"]:
        """Return the diagonal of SKS, with S = diag(√w)."""
        return self._root[:, 0] ** 2 * self._problem.diagonal()

    def columns_of(self, rows: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, "n b"]:
        """Return the columns (SKS)[:, rows] of the train rows with the indices `rows`, with S = diag(√w)."""
        return self._root * self._problem.columns_of(rows) * self._root[rows].T

    def row_block(
        self, rows: Int64[np.ndarray, " b"], v: Float64[np.ndarray, "n c"]
    ) -> tuple[Float64[np.ndarray, "b c"], Float64[np.ndarray, "b b"]]:
        """Return (SKS)[rows] v and (SKS)[rows][:, rows] for the indices `rows` of train rows, with S = diag(√w)."""
        product, square = self._problem.row_block(rows, self._root * v)
        return self._root[rows] * product, self._root[rows] * square * self._root[rows].T

    def evaluate(self, v: Float[np.ndarray, "n c"]) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "n c"]]:
        """Return SKS v and SY - SKS v, with S = diag(√w). v has k columns for each ridge, one ridge after the other."""
        product = self.primal_product(v)
        return product, np.tile(self.targets, (1, v.shape[1] // self.targets.shape[1])) - product

    def dense(self, dtype: np.dtype | str | None = None, *, keep: bool = True) -> Float[np.ndarray, "n n"]:
        """Return SKS, with S = diag(√w), in memory as an array that the caller may overwrite.

        Args:
            dtype: Data type to which the entries are rounded; None: that of K.
            keep: Whether products of this problem are still needed. If False and if K may be overwritten, the result
                may be the array of K itself instead of a copy. The problem then no longer provides products.
        """
        array = self._problem.dense(dtype, keep=keep)
        for start in range(0, len(array), ROWS):
            rows = slice(start, start + ROWS)
            array[rows] = self._root[rows] * array[rows] * self._root.T
        return array

    def unscaled(self, solution: Solution) -> Solution:
        """Return the solution of the weighted regression with the labels Y, from a solution β of the scaled problem.

        In the result `value` is α, `predictions` are Kα, and `leave_one_out` are the errors y_i - f(x_i) of the fits f
        without row i. `gcv`, `left_out_loss` and `left_out_error` are divided by the mean weight, so that they refer to
        weighted means of squared errors.
        """
        without, weight = solution.leave_one_out, float(np.mean(self._root**2))
        means = {name: getattr(solution, name) for name in ("gcv", "left_out_loss", "left_out_error")}
        return solution._replace(
            value=self._root * solution.value, predictions=solution.predictions / self._root,
            leave_one_out=None if without is None else without / self._root,
            **{name: None if value is None else value / weight for name, value in means.items()},
        )  # fmt: skip


def _of_the_problem(name: str) -> property:
    return property(lambda self: getattr(self._problem, name))


# From Python 3.12 on, type checks of the solvers' protocols look for members in the class and do not see `__getattr__`.
for _name in ("params", "n", "rows", "columns", "block", "dual", "spare", "rounding", "prediction_bound", "dtype",
              "rounded"):  # fmt: skip
    setattr(Weighted, _name, _of_the_problem(_name))


def checked_weights(sample_weight: Any, n: int) -> Float64[np.ndarray, " n"]:
    """Return the weights of n rows as an array (n,).

    Args:
        sample_weight: One number for all rows, or one for each.
        n: Number of rows.

    Raises:
        UserError: If weights are negative, not finite, of a wrong shape, or all 0.
    """
    weights = real_array(sample_weight, "sample_weight", dtype=np.float64)
    if weights.shape not in ((), (n,)):
        raise UserError(f"sample_weight must be one number or of shape ({n},). Received: shape {weights.shape}.")
    weights = np.broadcast_to(weights, (n,))
    refuse_not_finite(weights, "sample_weight", "Give a weight of 0 to a row that should not count.")
    if (weights < 0).any():
        raise UserError(f"sample_weight must be at least 0. Received: a smallest weight of {weights.min()}.")
    if not weights.any():
        raise UserError("sample_weight must be above 0 for at least one row. Received: all weights are zero.")
    return weights


def with_left_out_rows(
    solution: Solution, kept: np.ndarray, columns: Float[np.ndarray, "n kept"], targets: Float64[np.ndarray, "n k"]
) -> Solution:
    """Return a solution for all n rows from one in which the rows of weight 0 were left out.

    The left-out rows have coefficients of 0. Their predictions, and hence their leave-one-out errors, come from the
    other rows.

    Args:
        solution: Solution for the rows with a weight above 0.
        kept: Whether each row has a weight above 0, (n,).
        columns: K between all rows and the kept ones.
        targets: Labels Y of all rows.
    """
    value, predictions = np.zeros(targets.shape), np.empty(targets.shape)
    value[kept], predictions[kept] = solution.value, solution.predictions
    predictions[~kept] = columns[~kept] @ solution.value
    without = solution.leave_one_out
    if without is not None:
        inside, without = without, targets - predictions
        without[kept] = inside
    return solution._replace(value=value, predictions=predictions, leave_one_out=without)
