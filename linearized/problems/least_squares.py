"""Base class of least-squares problems min ‖A v - Y‖² + ρ‖v‖² over v, in which A is used only in products.

The features A are an array (rows, p) and the labels Y an array (rows, columns). The columns are independent problems
with the same A and ridge ρ. Products accept any number of columns, so that the solutions at all ridges of a grid are
evaluated in one pass at the end. Arguments and results are float64.

In iterations, features are multiplied in float32 and the products of blocks of features are summed in float64. For
residuals, `adjoint64` and `evaluate` multiply the same float32 features in float64. In float32 a residual
AᵀY - (AᵀA + ρI)v whose norm is below 1e-7 to 5e-7 of ‖AᵀY‖ cannot be distinguished from rounding errors. A residual of
5e-7 ‖AᵀY‖ bounds the relative error of v only by 5e-7 ‖AᵀY‖/(ρ‖v‖). Measured relative errors of v are 1e-5 at a ridge
of 1e-3 ‖AᵀA‖, and up to 6e-3 at 1e-7 ‖AᵀA‖.
"""

import abc
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64

MEMORY = 4 * 2**30
FORMED = 12  # bytes for each number of a formed matrix: summed in float64, reduced in float32
SAMPLE = 64  # rows from which the trace is estimated
STEPS = 100  # expected number of products of a ridge path (measured: 40 to 120)


class ProblemWork(NamedTuple):
    """Numbers of operations and bytes of a least-squares problem, from which the time of its solvers is estimated.

    A is the matrix of the features, (rows, p).

    Attributes:
        entries: Number of feature values.
        make: Multiply-adds to compute one feature value.
        use: Multiply-adds per feature value of one product with AAᵀ or AᵀA, in large matrix products alone.
        narrow: Whether a product with AAᵀ or AᵀA also needs two matrix products with few columns, which read every
            feature value.
        squared: Multiply-adds per feature value of the product that forms the Gram matrix; its symmetry saves half of
            them. Infinite if the Gram matrix cannot be formed.
        precise: Whether the Gram matrix is formed in float64, so that predictions and residuals are computed from it
            instead of from A.
        parts: Number of independent blocks of equal size on the diagonal of A Aᵀ.
        modes: Bytes that each mode takes, by its name ("kept", "recomputed" or "gram", see `LeastSquares`), for the
            modes that may be chosen.
        steps: Expected number of steps of block Lanczos until the predictions have a relative error of 1e-3, divided by
            √rows. The number is that for the dual and for blocks of one column.
    """

    entries: int
    make: int
    use: int
    narrow: bool
    squared: float
    precise: bool
    parts: int
    modes: Mapping[str, int]
    steps: float


class LeastSquares(abc.ABC):
    """Base class of a least-squares problem with features A (rows, p) and labels Y (rows, columns).

    Attributes:
        targets: Y in float64.
        params: p, the length of a column of v.
        n: Number of data points. Models define the ridge as λ in the loss (1/n)‖Av - Y‖² + λ‖v‖², so that ρ = nλ.
        memory: Budget in bytes for arrays that are kept between products.
        mode: What is kept in memory between products: the features ("kept"), nothing ("recomputed") or the smaller of
            A Aᵀ and AᵀA ("gram").
        rounding: Relative rounding error of `primal_product` and `dual_product`.
        held: Bytes that arrays kept between products take in each mode; 0 for modes that are not listed.
        work: Operations of the products, from which their cost is estimated; None if they are not known.
    """

    rounding = float(np.finfo(np.float32).eps)
    held: Mapping[str, int] = MappingProxyType({})
    work: ProblemWork | None = None

    def __init__(self, targets: Float[np.ndarray, "rows columns"], params: int, n: int, memory: int, mode: str):
        if not np.isfinite(targets).all():
            raise UserError(f"The labels are not finite: {np.sum(~np.isfinite(targets))} of {targets.size} entries.")
        self.targets = np.asarray(targets, np.float64)
        self.params, self.n, self.memory, self.mode = params, n, memory, mode

    @property
    def rows(self) -> int:
        """Number of rows of the feature matrix A: one per data point or, in some models, one per point and output."""
        return self.targets.shape[0]

    @property
    def columns(self) -> int:
        """Number of columns of the labels Y, which are right-hand sides with the same A."""
        return self.targets.shape[1]

    @property
    def block(self) -> int:
        """The block size (number of columns per product) with which a block Lanczos solver needs the least time."""
        return self.columns

    @property
    def dual(self) -> bool:
        """Whether A Aᵀ is smaller than AᵀA. Solvers then work in the dual: they solve for α, with v = Aᵀα."""
        return self.rows < self.params

    @property
    def kept(self) -> bool:
        """Whether the mode is "kept", in which the features stay in memory between products."""
        return self.mode == "kept"

    @property
    def spare(self) -> int:
        """Bytes of the memory budget that remain for a solver, without what the problem keeps between products."""
        return max(self.memory - self.held.get(self.mode, 0), 0)

    def set_mode(self, mode: str) -> None:
        """Change what is kept between products; call it before the first product.

        Args:
            mode: "kept" (the features), "recomputed" (nothing) or "gram" (the smaller of A Aᵀ and AᵀA).
        """
        self.mode = mode

    def mean_trace(self) -> float:
        """Return the trace of A Aᵀ divided by n, estimated from some rows; infinity if there is no estimate."""
        return math.inf

    @property
    def exact_gram(self) -> bool:
        """Whether A Aᵀ is formed in memory in float64, and `dual_product` multiplies by it in float64."""
        return False

    @property
    def formed_bytes(self) -> int:
        """Bytes of memory that a solver needs to form the smaller of A Aᵀ and AᵀA and reduce it to a band."""
        return FORMED * min(self.rows, self.params) ** 2

    def predicts_by_kernel(self, rows: int, columns: int) -> bool:
        """Return whether predictions from the dual coefficients α are known to take less time than those from v.

        A problem that returns True has a method `predict_dual(x, alpha)`.

        Args:
            rows: Number of inputs to predict.
            columns: Number of columns of α.
        """
        return False

    @abc.abstractmethod
    def forward(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "rows c"]:
        """Return A v for the features A (rows, p) of the train rows and columns v (p, c)."""

    @abc.abstractmethod
    def adjoint(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u for the features A (rows, p) of the train rows and columns u (rows, c)."""

    def adjoint64(self, u: Float64[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u for columns u (rows, c), multiplied in float64 if the problem overrides this method.

        An override takes one pass over the features, at half the speed of `adjoint`. The base class calls `adjoint`.
        """
        return self.adjoint(u)

    def moment(self) -> Float64[np.ndarray, "p columns"]:
        """Return AᵀY (p, columns), the right-hand side of the normal equations (AᵀA + ρI)v = AᵀY."""
        return self.adjoint(self.targets)

    def dual_product(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "rows c"]:
        """Return A Aᵀ u for columns u (rows, c), in one pass over the features if the problem overrides this method."""
        return self.forward(self.adjoint(u))

    def primal_product(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "p c"]:
        """Return AᵀA v for columns v (p, c), in one pass over the features if the problem overrides this method."""
        return self.adjoint(self.forward(v))

    def evaluate(self, v: Float[np.ndarray, "p c"]) -> tuple[Float64[np.ndarray, "rows c"], Float64[np.ndarray, "p c"]]:
        """Return the predictions A v (rows, c) and Aᵀ(Y - A v) (p, c), multiplied in float64.

        v (p, c) has as many columns as Y for each ridge, one ridge after the other. A subclass whose `forward`
        multiplies in float32 overrides this method and `adjoint64`.
        """
        predictions = self.forward(v)
        return predictions, self.adjoint64(self.repeated_targets(v.shape[1]) - predictions)

    def formed(self, moment: Float64[np.ndarray, "p columns"] | None) -> Iterable[Any]:
        """Return the ridge problem with the smaller Gram matrix, (A Aᵀ, Y) or (AᵀA, AᵀY), as `GramProblem` objects.

        They are for solvers that factor a matrix. Usually there is one `GramProblem`. If A Aᵀ consists of independent
        blocks of equal size on the diagonal, there is one for each block, and the rows of A are ordered by data point
        and then by block.

        Args:
            moment: AᵀY; None in the dual, which does not need it.

        Raises `UserError` if the problem provides only products.
        """
        raise UserError(
            f"band needs the Gram matrix of the features, which is not formed here: {type(self).__name__} of "
            f"{self.rows} rows knows its products alone. Use lanczos or cg."
        )

    def prediction_bound(self, residual: float, ridge: float) -> float:
        """Return an upper bound of ‖A(v - v*)‖, the error of the train predictions of v: residual/(2√ρ).

        Args:
            residual: ‖AᵀY - (AᵀA + ρI)v‖.
            ridge: ρ, at which v* is the exact minimiser; the bound is infinite for 0.
        """
        return residual / (2 * math.sqrt(ridge)) if ridge > 0 else math.inf

    def outputs_of(self, predictions: Float64[np.ndarray, "rows columns"]) -> Float64[np.ndarray, "n k"]:
        """Return the outputs (n, k) of the model on the train rows, one row per data point.

        Args:
            predictions: The products A v (rows, columns) of one solution v.
        """
        return predictions.reshape(self.n, -1)

    def repeated_targets(self, columns: int) -> Float64[np.ndarray, "rows c"]:
        """Return copies of Y side by side, `columns` columns in total."""
        return np.tile(self.targets, (1, columns // self.columns))


class MatrixProblem(LeastSquares):
    """Least-squares problem with a stored matrix A in float64, for tests, notebooks and small problems.

    Args:
        matrix: A (rows, p).
        targets: Y (rows, columns).
    """

    rounding = float(np.finfo(np.float64).eps)

    def __init__(self, matrix: Float[np.ndarray, "rows p"], targets: Float[np.ndarray, "rows columns"]):
        super().__init__(targets, matrix.shape[1], len(matrix), MEMORY, "kept")
        self.matrix = np.asarray(matrix, np.float64)

    def forward(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "rows c"]:
        """Return A v for the stored matrix A (rows, p) and columns v (p, c)."""
        return self.matrix @ v

    def adjoint(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u for the stored matrix A (rows, p) and columns u (rows, c)."""
        return self.matrix.T @ u


def cheapest_mode(
    *, entries: int, make: int, use: int, form: int, columns: int, side: int, memory: int, kept_bytes: int,
    gram_bytes: int | float,
) -> str:  # fmt: skip
    """Return the fastest of the modes of `LeastSquares` ("kept", "recomputed", "gram") that fit in the memory.

    A mode states what stays in memory between products. The mode with the lowest cost of s = STEPS (100) products is
    returned. The unit is the cost of a multiply-add in a large matrix product. The costs are

        kept        make + s use          per feature value
        recomputed  s (make + use)        per feature value
        gram        make + form           per feature value, and s (6 + 6c) per number of the Gram matrix

    A product reads the float64 Gram matrix once, which are as many bytes as the two readings of float32 features.

    Args:
        entries: n N, the number of feature values.
        make: Multiply-adds to compute one feature value.
        use: Cost of using one computed feature value in one product, see `skinny` for products with few columns.
        form: Multiply-adds per feature value to form the Gram matrix.
        columns: c, the number of right-hand sides in one product.
        side: Number of rows and of columns of the Gram matrix.
        memory: Budget in bytes.
        kept_bytes: Size of the kept features.
        gram_bytes: Size of the Gram matrix; infinite if it cannot be formed.
    """
    costs = {"recomputed": entries * STEPS * (make + use)}
    if kept_bytes <= memory:
        costs["kept"] = entries * (make + STEPS * use)
    if gram_bytes <= memory:
        costs["gram"] = entries * (make + form) + STEPS * skinny(columns) * side**2
    return min(costs, key=costs.get)


def skinny(columns: int) -> int:
    """Return 6 + 6 `columns`, the cost of both products T u and Tᵀ(T u) for each entry of a float32 matrix T.

    The number `columns` of columns of u is small, so that the speed of memory limits the products. The unit is the cost
    of a multiply-add in a large matrix product. The cost was measured on one core.
    """
    return 6 + 6 * columns


def sample_rows(n: int) -> slice:
    """Return a slice of about 64 of n rows, at equal distances."""
    return slice(None, None, max(1, n // SAMPLE))
