"""The choice of centres among train rows, and the Cholesky factor of the kernel between them."""

import dataclasses

import numpy as np

from kernel_gen.kernel import Kernel
from linearized.base.errors import UserError
from linearized.base.shapes import Float64, Int64
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.kernel_ridge.row_passes import RowPasses
from linearized.settings.centre_settings import refuse_many_centres
from linearized.solvers.linear.pivoted import pivoted_cholesky, randomly_pivoted
from linearized.storage.products import cut

DEPENDENT = 10  # roundings of the largest entry of K_CC below which a pivot of it counts as 0
PREPARED = 4096  # rows that are prepared together for the diagonal
NAMES = ("the rows", "the centres")  # of the two sides of K_nC in messages


@dataclasses.dataclass(frozen=True)
class CentreChoice:
    """How centres are chosen.

    Attributes:
        count: m.
        by: "uniform", or "rpcholesky" for pivots of randomly pivoted Cholesky (`linearized.solvers.linear.pivoted`).
        seed: Random-number seed.
    """

    count: int
    by: str = "uniform"
    seed: int = 0

    def centres(
        self, kernel: Kernel, x: np.ndarray, memory: int, passes: RowPasses
    ) -> tuple[Int64[np.ndarray, " m"], int]:
        """Return the indices of the centres, and the number of rows from which they were chosen.

        Randomly pivoted Cholesky takes 2 n m d operations for the kernel and 2 n m² for its factor, which takes n · m
        numbers of memory. Where these are more than half of the memory, the centres are chosen from a uniform draw of
        the rows. Fewer than m centres are returned if they explain all rows up to rounding.

        Args:
            kernel: Kernel whose parameters are set.
            x: Train rows (n, d).
            memory: Available memory in bytes.
            passes: Progress and checkpoints of the run.

        Raises `UserError` for more centres than rows.
        """
        n, m, random = len(x), self.count, np.random.default_rng(self.seed)
        refuse_many_centres(m, n)
        if self.by == "uniform":
            return np.sort(random.permutation(n)[:m]), n
        fitting = max(memory // (2 * kernel.dtype.itemsize * m), m)
        pool = np.arange(n) if fitting >= n else np.sort(random.permutation(n)[:fitting])
        saved = passes.checkpoint(of=[n, m], seed=self.seed, pool=len(pool))
        if (kept := saved.load("centres")) is not None:
            return kept["rows"], len(pool)
        x = x if len(pool) == n else x[pool]
        diagonal = np.concatenate([kernel.diagonal(kernel.prepare(x[part])) for part in cut(len(x), PREPARED)])

        def columns(drawn: np.ndarray) -> np.ndarray:
            return CrossKernel(kernel, x, kernel.prepare(x[drawn]), NAMES)[:]

        with passes.phase("choice of centres", m) as report:
            found = randomly_pivoted(
                diagonal, columns, m, dtype=kernel.dtype, seed=self.seed, saved=saved, report=report
            )
        rows = pool[found.rows]
        saved.save("centres", {"rows": rows})
        saved.forget("pivots-*")
        return rows, len(pool)


def factored(
    exact: Kernel, x: np.ndarray, chosen: Int64[np.ndarray, " m"], dtype: np.dtype
) -> tuple[Int64[np.ndarray, " r"], Float64[np.ndarray, "r r"]]:
    """Return the centres without those that depend on the others, and L with K_CC = L Lᵀ for them.

    Args:
        exact: Kernel in float64, in which K_CC is computed and factored, in 2 m² d and m³/3 operations.
        x: Train rows.
        chosen: Indices of the centres.
        dtype: Data type of K_nC, on whose rounding the dependence is judged.
    """
    rows = x[chosen]
    prepared = exact.prepare(rows)
    matrix = CrossKernel(exact, rows, prepared, (NAMES[1], NAMES[1]))[:]
    np.fill_diagonal(matrix, exact.diagonal(prepared))
    roundings = max(DEPENDENT * float(np.finfo(dtype).eps), len(rows) * float(np.finfo(np.float64).eps))
    lower, order = pivoted_cholesky(matrix, roundings * float(np.diagonal(matrix).max()))
    if not len(order):
        raise UserError("The kernel of all centres with themselves is 0. Scale the inputs, or take another kernel.")
    return chosen[order], lower
