"""Ridge regression on an embedding, min ‖Φw - Y‖² + ρ‖w‖², at every ridge ρ of a path.

Φ (n, m) are the features of n rows, read in blocks of rows, and Y (n, k) are the labels. The normal equations (ΦᵀΦ +
ρI)w = ΦᵀY have the form of kernel ridge regression with ΦᵀΦ in place of the Gram matrix K, and are solved by the
solvers of kernel ridge regression. One pass over Φ computes ΦᵀΦ (n m² operations in BLAS-3), one factorisation is used
for every ridge, and a second pass computes the predictions. For n = 60,000 and m = 4,096 this takes 1e12 operations,
half a minute on two cores, and memory for 3 m² numbers.

Products of a block are computed in the data type of Φ and summed in float64. ΦᵀΦ has the same non-zero eigenvalues as
K = ΦΦᵀ. Ridges ρ and degrees of freedom are therefore the same as those of kernel ridge regression with K.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64
from linearized.problems.gram_problem import GramProblem
from linearized.solvers import GRAM_SOLVERS
from linearized.solvers.linear.driver import UNWATCHED, Watch
from linearized.solvers.linear.solution import LEFT_OUT, Solution

BLOCK = 2**26  # bytes per block of Φ


@runtime_checkable
class FeatureRows(Protocol):
    """Protocol of features Φ (n, m) that are read in blocks of rows.

    An example is `linearized.storage.embeddings.FeatureMatrix`, whose rows are in files.

    Attributes:
        shape: (n, m).
        dtype: Data type of the entries.
    """

    shape: tuple[int, int]
    dtype: np.dtype

    def blocks(self, memory: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the features in blocks of rows of about `memory` bytes, in order, each with the slice of its rows."""


class ArrayRows:
    """Features Φ in an array, with the interface `FeatureRows` of features that are read in blocks of rows.

    Args:
        array: Φ (n, m).
    """

    def __init__(self, array: Float[np.ndarray, "n m"]):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def blocks(self, memory: int = BLOCK) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the features in blocks of rows of about `memory` bytes, in order, each with the slice of its rows."""
        step = max(1, memory // (self.shape[1] * self.dtype.itemsize))
        for start in range(0, len(self.array), step):
            yield slice(start, start + step), self.array[start : start + step]


def normal_equations(
    rows: FeatureRows, targets: Float[np.ndarray, "n k"], weights: Float64[np.ndarray, " n"] | None = None
) -> tuple[Float64[np.ndarray, "m m"], Float64[np.ndarray, "m k"]]:
    """Return ΦᵀWΦ and ΦᵀWY, where W is the diagonal matrix of the weights of the rows.

    ΦᵀWΦ is exactly symmetric. Φ is read once.

    Args:
        rows: Features Φ (n, m).
        targets: Labels Y (n, k).
        weights: Diagonal of W, one number per row; None: 1.

    Raises `UserError` if the features or labels are not finite, or differ in their numbers of rows.
    """
    n, m = rows.shape
    if n != len(targets):
        raise UserError(f"Features of {n} rows need a label each. Received: {len(targets)} labels.")
    square, moment = np.zeros((m, m)), np.zeros((m, targets.shape[1]))
    for part, block in rows.blocks(BLOCK):
        goal = targets[part].astype(np.float64)
        if weights is not None:
            root = np.sqrt(weights[part])[:, None]
            block, goal = block * root.astype(block.dtype), goal * root
        square += block.T @ block  # NumPy calls syrk for the product of an array with itself, which is half the work
        moment += block.T @ goal
    if not (np.isfinite(np.diagonal(square)).all() and np.isfinite(moment).all()):
        raise UserError("The features or labels are not finite. Look for NaN or huge numbers in the inputs.")
    return square, moment


def predictions(rows: FeatureRows, weights: Float64[np.ndarray, "ridges m k"]) -> Float64[np.ndarray, "ridges n k"]:
    """Return the predictions Φw of every ridge, in one pass over the rows and in float64.

    Args:
        rows: Features Φ (n, m).
        weights: Coefficients w (m, k) at each ridge.
    """
    ridges, m, k = weights.shape
    stacked = weights.transpose(1, 0, 2).reshape(m, ridges * k)
    out = np.empty((rows.shape[0], ridges * k))
    for part, block in rows.blocks(BLOCK):
        out[part] = block @ stacked
    return np.ascontiguousarray(out.reshape(-1, ridges, k).transpose(1, 0, 2))


def solve(
    rows: FeatureRows, targets: Float[np.ndarray, "n k"], ridges: Sequence[float] | np.ndarray, *,
    solver: str = "band", rtol: float = 1e-7, max_iterations: int = 750, watch: Watch = UNWATCHED,
    weights: Float64[np.ndarray, " n"] | None = None,
) -> list[Solution]:  # fmt: skip
    """Solve the ridge regression min ‖Φw - Y‖² + ρ‖w‖² on features Φ at every ridge ρ.

    Args:
        rows: Φ of the train rows.
        targets: Labels Y; they are not centred.
        ridges: ρ, in any order; 0 only if ΦᵀΦ is regular.
        solver: Name of a solver in `GRAM_SOLVERS`, which is applied to ΦᵀΦ in memory.
        rtol: Relative residual ‖ΦᵀY - (ΦᵀΦ + ρI)w‖/‖ΦᵀY‖ to reach.
        max_iterations: Largest number of the solver's iterations for each ridge.
        watch: Progress and checkpoints of a long run.
        weights: Weight of each row in the squared error Σ_i weight_i ‖(Φw - Y)_i‖², at least 0; None: 1.

    Returns:
        One solution per ridge. Its `value` is w (m, k), and its `predictions` are Φw (n, k). `degrees_of_freedom` (dof)
        are those of kernel ridge regression with K = ΦΦᵀ. `gcv` (generalised cross-validation) is the weighted mean of
        ‖yᵢ - f(xᵢ)‖² over the rows, divided by (1 - dof/n)², where n is the number of rows of weight above 0. Both are
        None if the solver does not compute the spectrum.
    """
    targets = np.asarray(targets, np.float64)
    square, moment = normal_equations(rows, targets, weights)
    found = GRAM_SOLVERS.load(solver).solve(
        GramProblem(square, moment), ridges, rtol=rtol, atol=0.0, max_iterations=max_iterations, **vars(watch)
    )
    outputs = predictions(rows, np.stack([one.value for one in found]))
    weights = np.ones(len(targets)) if weights is None else weights
    return [of_rows(one, output, targets, weights) for one, output in zip(found, outputs, strict=True)]


def of_rows(
    solution: Solution, output: Float64[np.ndarray, "n k"], targets: Float64[np.ndarray, "n k"],
    weights: Float64[np.ndarray, " n"],
) -> Solution:  # fmt: skip
    """Return a solution of the normal equations with the predictions and the GCV of the train rows.

    GCV (generalised cross-validation) is None if the degrees of freedom are unknown or reach the number of rows. The
    leave-one-out errors of the given solution are removed, because they refer to rows of ΦᵀΦ and not to train rows.

    Args:
        solution: Solution of (ΦᵀΦ + ρI)w = ΦᵀY by a solver of kernel ridge regression.
        output: Φw, the predictions of the rows.
        targets: Labels Y of the rows.
        weights: Weight of each row in the squared error.
    """
    n, freedom, gcv = np.count_nonzero(weights), solution.degrees_of_freedom, None
    if freedom is not None and freedom < n * (1 - 1e-9):
        gcv = float(np.average(np.square(targets - output).sum(axis=1), weights=weights) / (1 - freedom / n) ** 2)
    # The solver's leave-one-out errors are of rows of the normal equations, so they are removed.
    return solution._replace(predictions=output, gcv=gcv, **dict.fromkeys(LEFT_OUT))
