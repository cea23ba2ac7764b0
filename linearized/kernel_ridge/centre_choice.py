"""Choice of centres for kernel ridge regression (m of the n train rows), and the Cholesky factor of their kernel.

Kernel ridge regression on centres (`linearized.kernel_ridge.nystrom`) fits f(x) = k(x, C) a, where the centres C are m
of the train rows. `CentreChoice.centres` draws them, and `factored` factors the kernel K_CC between them.
"""

import dataclasses

import numpy as np

from kernel_gen.kernel import Kernel
from linearized.base.errors import UserError
from linearized.base.shapes import Float64, Int64
from linearized.kernel_ridge.centre_tiles import NAMES
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.kernel_ridge.row_passes import RowPasses
from linearized.settings.centre_settings import refuse_many_centres
from linearized.solvers.linear.pivoted import pivoted_cholesky, randomly_pivoted
from linearized.storage.products import cut

DEPENDENT = 10  # roundings of the largest entry of K_CC below which a pivot of it counts as 0
PREPARED = 4096  # rows that are prepared together for the diagonal


@dataclasses.dataclass(frozen=True)
class CentreChoice:
    """Settings of the random choice of centres among the train rows.

    Attributes:
        count: m, the number of centres.
        by: "uniform": each row is equally probable. "rpcholesky": the centres are the pivots of randomly pivoted
            Cholesky, which prefers rows that the previous centres do not explain
            (`linearized.solvers.linear.pivoted`).
        seed: Random-number seed.
    """

    count: int
    by: str = "uniform"
    seed: int = 0

    def centres(
        self, kernel: Kernel, x: np.ndarray, memory: int, passes: RowPasses
    ) -> tuple[Int64[np.ndarray, " m"], int]:
        """Return the indices of the centres, and the number of rows from which they were chosen.

        The choice by randomly pivoted Cholesky takes 2 n m d operations for the kernel and 2 n m² for its factor. The
        factor has n · m numbers. If they need more than half of the memory, the centres are chosen among as many rows
        as fit, which are drawn uniformly. Fewer than m centres are returned if these explain all rows up to rounding.

        Args:
            kernel: Kernel whose parameters are set.
            x: Train rows (n, d).
            memory: Available memory in bytes.
            passes: Progress and checkpoints of the run.

        Raises:
            UserError: For more centres than rows.
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
    """Factor the kernel K_CC between the centres by Cholesky with pivots, and leave out dependent centres.

    A centre C_i is left out if its function k(x, C_i) is, up to rounding, a linear combination of the functions of the
    other centres. The criterion is that its pivot is at most max(10 · eps of `dtype`, m · eps of float64) times the
    largest diagonal entry of K_CC. The computation takes 2 m² d operations for K_CC and m³/3 for the factor.

    Args:
        exact: Kernel in float64, in which K_CC is computed and factored.
        x: Train rows (n, d).
        chosen: Indices of the m centres.
        dtype: Data type of the kernel between train rows and centres.

    Returns:
        Indices of the r remaining centres, and the lower triangular L (r, r) with K_CC = L Lᵀ for them. The entries of
        the array above the diagonal are not 0.

    Raises:
        UserError: If K_CC is 0 or not finite.
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
