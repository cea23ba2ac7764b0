"""Kernel ridge regression, (K + ρI)α = Y, by products with K: in memory, or streamed from its shards.

To a solver it is the least-squares problem with AᵀA = K and Aᵀy = Y: v is α, its residual is
‖Y - (K + ρI)α‖/‖Y‖, and Kα are the predictions on the train rows.
"""

import numpy as np
from jaxtyping import Float, Float64

from data.errors import UserError
from data.gram import Gram
from linearized.problems.least_squares import MEMORY


class GramProblem:
    """K and Y of kernel ridge regression.

    Args:
        gram: K (n, n), symmetric: an array, or shards as `data.open_gram` gives them.
        targets: Y (n, k).
        memory: Bytes for what solvers keep.

    Attributes:
        targets: Y in float64.
        params, rows, n: The side of K.
        dtype: Of K's entries; products are made in it, and summed over blocks of rows in float64.
    """

    dual = False

    def __init__(self, gram: np.ndarray | Gram, targets: Float[np.ndarray, "n k"], *, memory: int = MEMORY):
        if gram.shape != (len(targets), len(targets)):
            raise UserError(
                f"K must be square, with a row for each of the {len(targets)} labels. Received: shape {gram.shape}."
            )
        if not np.isfinite(targets).all():
            raise UserError(f"The labels are not finite: {np.sum(~np.isfinite(targets))} of {targets.size} entries.")
        self.gram, self.memory, self.dtype = gram, memory, np.dtype(gram.dtype)
        self.targets = np.asarray(targets, np.float64)
        self.params = self.rows = self.n = len(self.targets)

    @property
    def streamed(self) -> bool:
        """Whether K is read from its shards in every product."""
        return isinstance(self.gram, Gram)

    @property
    def columns(self) -> int:
        """k, how many right-hand sides share K."""
        return self.targets.shape[1]

    @property
    def block(self) -> int:
        """How many columns a product should take at once to give most for its time."""
        return self.columns

    @property
    def spare(self) -> int:
        """Bytes that a solver may keep between products."""
        return self.memory

    def moment(self) -> Float64[np.ndarray, "n k"]:
        """Y, which stands for Aᵀy."""
        return self.targets

    def primal_product(self, v: Float[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """K v in one pass over K."""
        return np.asarray(self.gram @ v.astype(self.dtype), np.float64)

    def evaluate(self, v: Float[np.ndarray, "n c"]) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "n c"]]:
        """K v and Y - K v; the columns of v are those of Y, ridge after ridge."""
        predictions = self.primal_product(v)
        return predictions, np.tile(self.targets, (1, v.shape[1] // self.columns)) - predictions

    def dense(self, dtype: np.dtype | str | None = None) -> Float[np.ndarray, "n n"]:
        """A copy of K in memory, C-ordered and the caller's own to overwrite."""
        dtype = np.dtype(dtype or self.dtype)
        return self.gram.to_memory(dtype) if self.streamed else np.array(self.gram, dtype, order="C")
