"""What every least-squares problem offers: min ‖A v - Y‖² + ρ‖v‖², A known by its products.

A is (rows, p) and Y (rows, columns); the columns share A and do not meet. Products take any number of columns, so that
all ridges of a grid go through in one pass at the end. Arguments and results are float64. The products that iterations
are made of multiply in float32 and sum over tiles in float64; `adjoint64` and `evaluate`, which residuals are computed
from, multiply the same float32 features in float64. In float32 a residual cannot be told from rounding below 1e-7 to
5e-7 of ‖Aᵀy‖, which bounds the relative error in v by 5e-7 ‖Aᵀy‖/(ρ‖v‖) alone: measured 1e-5 at a ridge of 1e-3 ‖AᵀA‖
and up to 6e-3 at 1e-7 ‖AᵀA‖.
"""

import abc
import math
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64

MEMORY = 4 * 2**30
STEPS = 100  # how many products a ridge path is expected to take (measured: 40 to 120)


class LeastSquares(abc.ABC):
    """A and Y of a least-squares problem.

    Attributes:
        targets: Y in float64.
        params: p, the length of a column of v.
        n: The number of data points. The published units are (1/n)‖Av-y‖² + λ‖v‖², with ρ = nλ.
        memory: The budget in bytes for what is kept between products.
        mode: "kept", "recomputed" or "gram": what is kept.
        rounding: Relative rounding error of `primal_product` and `dual_product`.
    """

    rounding = float(np.finfo(np.float32).eps)

    def __init__(self, targets: Float[np.ndarray, "rows columns"], params: int, n: int, memory: int, mode: str):
        if not np.isfinite(targets).all():
            raise UserError(f"The labels are not finite: {np.sum(~np.isfinite(targets))} of {targets.size} entries.")
        self.targets = np.asarray(targets, np.float64)
        self.params, self.n, self.memory, self.mode = params, n, memory, mode

    @property
    def rows(self) -> int:
        """The number of rows of A."""
        return self.targets.shape[0]

    @property
    def columns(self) -> int:
        """How many right-hand sides share A."""
        return self.targets.shape[1]

    @property
    def block(self) -> int:
        """How many columns a product should take at once to give most for its time."""
        return self.columns

    @property
    def dual(self) -> bool:
        """Whether A Aᵀ is smaller than AᵀA, and so the space to search in."""
        return self.rows < self.params

    @property
    def kept(self) -> bool:
        """Whether the features stay in memory between products."""
        return self.mode == "kept"

    @property
    def spare(self) -> int:
        """Bytes of the budget that are not taken by what is kept."""
        return self.memory

    @abc.abstractmethod
    def forward(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "rows c"]:
        """A v."""

    @abc.abstractmethod
    def adjoint(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Aᵀ u."""

    def adjoint64(self, u: Float64[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u, multiplied in float64. Costs a pass over the features at half the speed of `adjoint`."""
        return self.adjoint(u)

    def moment(self) -> Float64[np.ndarray, "p columns"]:
        """AᵀY."""
        return self.adjoint(self.targets)

    def dual_product(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "rows c"]:
        """A Aᵀ u, in one pass over the features where the problem knows how."""
        return self.forward(self.adjoint(u))

    def primal_product(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "p c"]:
        """AᵀA v, in one pass over the features where the problem knows how."""
        return self.adjoint(self.forward(v))

    def evaluate(self, v: Float[np.ndarray, "p c"]) -> tuple[Float64[np.ndarray, "rows c"], Float64[np.ndarray, "p c"]]:
        """Return A v and Aᵀ(Y - A v), multiplied in float64.

        The columns of v are those of Y, ridge after ridge. A subclass whose `forward` multiplies in float32 overrides
        this method and `adjoint64`.
        """
        predictions = self.forward(v)
        return predictions, self.adjoint64(self.repeated_targets(v.shape[1]) - predictions)

    def formed(self, moment: Float64[np.ndarray, "p columns"]) -> Any:
        """Return (A Aᵀ, Y) or (AᵀA, AᵀY), the smaller, as a `GramProblem` whose matrix may be overwritten.

        Args:
            moment: AᵀY.

        Raises `UserError` where only products are known.
        """
        raise UserError(
            f"band needs the Gram matrix of the features, which is not formed here: {type(self).__name__} of "
            f"{self.rows} rows knows its products alone. Use lanczos or cg."
        )

    def prediction_bound(self, residual: float, ridge: float) -> float:
        """Return a bound on ‖A(v - v*)‖ for v* the minimiser at the ridge ρ and ‖AᵀY - (AᵀA + ρI)v‖ = `residual`.

        It is residual/(2√ρ); infinite for ρ = 0.
        """
        return residual / (2 * math.sqrt(ridge)) if ridge > 0 else math.inf

    def outputs_of(self, predictions: Float64[np.ndarray, "rows columns"]) -> Float64[np.ndarray, "n k"]:
        """Return the model's outputs on the train rows from A v, one row per data point."""
        return predictions.reshape(self.n, -1)

    def repeated_targets(self, columns: int) -> Float64[np.ndarray, "rows c"]:
        """Y beside itself until it has `columns` columns."""
        return np.tile(self.targets, (1, columns // self.columns))


class MatrixProblem(LeastSquares):
    """A stored matrix A, in float64: for tests, notebooks and problems that are small."""

    rounding = float(np.finfo(np.float64).eps)

    def __init__(self, matrix: Float[np.ndarray, "rows p"], targets: Float[np.ndarray, "rows columns"]):
        super().__init__(targets, matrix.shape[1], len(matrix), MEMORY, "kept")
        self.matrix = np.asarray(matrix, np.float64)

    def forward(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "rows c"]:
        """A v."""
        return self.matrix @ v

    def adjoint(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Aᵀ u."""
        return self.matrix.T @ u


def cheapest_mode(
    *, entries: int, make: int, use: int, form: int, columns: int, side: int, memory: int, kept_bytes: int,
    gram_bytes: int | float,
) -> str:  # fmt: skip
    """What to keep: the way with the fewest multiply-adds over STEPS products that fits in the memory budget.

    The unit is a multiply-add of a large matrix product. A skinny product of c columns is bound by memory and costs
    about 6 + 6c of them per number of a matrix that it reads (measured on one core). With s = STEPS:

        kept        make + s use          an entry
        recomputed  s (make + use)        an entry
        gram        make + form           an entry, and s · 2 (6 + 6c) a number of the float64 Gram matrix

    Args:
        entries: n N, the number of feature values.
        make: Multiply-adds to make one of them.
        use: Multiply-adds of a pass for one of them, once made; see `skinny`.
        form: Multiply-adds an entry to form the Gram matrix.
        columns: c, how many right-hand sides go through together.
        side: Of the Gram matrix.
        kept_bytes, gram_bytes: What keeping takes; infinite where there is no such way.
    """
    costs = {"recomputed": entries * STEPS * (make + use)}
    if kept_bytes <= memory:
        costs["kept"] = entries * (make + STEPS * use)
    if gram_bytes <= memory:
        costs["gram"] = entries * (make + form) + STEPS * 2 * skinny(columns) * side**2
    return min(costs, key=costs.get)


def skinny(columns: int) -> int:
    """Multiply-adds of a large product that a number costs when it is read for two products with c columns."""
    return 6 + 6 * columns
