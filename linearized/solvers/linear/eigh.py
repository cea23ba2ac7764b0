"""Solver of kernel ridge regression (K + ρI)α = Y by an eigendecomposition of K, with exact leave-one-out errors.

With K = V diag(w) Vᵀ, the solution is α = V(w + ρ)⁻¹VᵀY; each ridge ρ costs two products with V. The degrees of freedom
are Σ w/(w + ρ), and the leave-one-out error of row i is α_i/[(K + ρI)⁻¹]_ii with [(K + ρI)⁻¹]_ii = Σ_j V_ij²/(w_j + ρ).
The decomposition takes about 9 n³ operations once and memory for 3 n² numbers. The other solvers are much cheaper, but
do not compute exact leave-one-out errors.

LAPACK's syevd is used, because SciPy's default (syevr) loses the orthogonality of the float32 eigenvectors of K.
"""

import numpy as np
import scipy.linalg

from linearized.base.errors import UserError
from linearized.base.shapes import Float64
from linearized.solvers.linear.dense_gram import ROWS, DenseGram, DenseProblem
from linearized.solvers.linear.driver import LinearRun, TimedCheckpoint, linear_solver
from linearized.solvers.linear.left_out import mean_of_rows
from linearized.solvers.linear.refinement import Refinement, distinct, floor, with_traces
from linearized.solvers.linear.solution import Solution

MOST = 32_766  # largest n for which the length 1 + 6n + 2n² of syevd's workspace fits in LAPACK's 32-bit integers
STATE = "eigh"


@linear_solver()
def solve(problem: DenseProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve (K + ρI)α = Y at every ridge ρ, by one eigendecomposition of K.

    Args:
        problem: K (n, n) and Y (n, k).
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. When the
            decomposition is complete, progress is reported as (1, 1, ones, ridges). A checkpoint is then written if the
            decomposition took longer than the interval; it contains the eigenvectors, which are as large as K.

    Degrees of freedom, GCV (generalised cross-validation) and leave-one-out errors are returned for every ridge that
    the precision of K resolves. They are computed from the eigenvectors even where the solution is refined.

    Raises:
        UserError: If the settings are invalid, K is not finite, or K has more than 32,766 rows.
    """
    refuse_many_rows(problem.n)
    tolerance = run.tolerance(float(np.linalg.norm(problem.targets)), problem.n)
    spectrum = _Spectrum(problem, ridges, run.checkpoint(n=problem.n, dtype=str(problem.dtype)))
    run.report(1, 1, np.ones(len(ridges)), len(ridges))
    refinement = Refinement(problem, problem.primal_product, spectrum.norm, spectrum.precondition, tolerance, run)
    return spectrum.judged(refinement.solutions(ridges, spectrum.shifts))


def refuse_many_rows(rows: int) -> None:
    """Raise `UserError` for more than 32,766 rows of K, the limit of LAPACK's eigenvalue solver."""
    if rows > MOST:
        raise UserError(
            f"eigh takes at most {MOST} rows, since LAPACK counts its workspace in 32 bits. Received: n={rows}. "
            "Take --solver=band, or --solver=block_lanczos where K does not fit in memory."
        )


class _Spectrum:
    """Eigenvalues w and eigenvectors V of K, and for each ridge ρ the ridge λ' at which (K + λ'I)⁻¹ is computed.

    Negative eigenvalues are set to 0. λ' is ρ if all w + ρ exceed rounding errors. Otherwise λ' is the larger of ρ and
    the smallest ridge that the precision of K resolves.

    Args:
        problem: K.
        ridges: ρ, (r,).
        saved: Checkpoint of the eigenvalues and eigenvectors.

    Attributes:
        shifts: λ' for each ρ, (r,).
        resolved: Whether all w + ρ exceed rounding errors, for each ρ, (r,).
    """

    def __init__(self, problem: DenseProblem, ridges: np.ndarray, saved: TimedCheckpoint):
        arrays = saved.load(STATE)
        if arrays is None:
            gram = DenseGram(problem, keep=True)
            values, vectors = scipy.linalg.eigh(gram.array.T, driver="evd", overwrite_a=True, check_finite=False)
            arrays = {"values": values.astype(np.float64), "vectors": vectors, "norm": np.array(gram.norm)}
            if saved.due:
                saved.save(STATE, arrays)
        self.norm, self.vectors = float(arrays["norm"]), arrays["vectors"]
        self.values, least = np.maximum(arrays["values"], 0), floor(problem.dtype, self.norm)
        self.resolved = arrays["values"].min() + ridges >= least
        self.shifts = np.where(self.resolved, ridges, np.maximum(ridges, least))

    def precondition(self, right: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return (K + λ'I)⁻¹ = V(w + λ')⁻¹Vᵀ times residuals, in 4 n² operations per column.

        Args:
            right: Residuals (n, l, k) of l ridges.
            which: Indices of these ridges, (l,).
        """
        n, _, columns = right.shape
        rotated = self._times(self.vectors.T, distinct(right).reshape(n, -1)).reshape(n, -1, columns)
        solved = rotated / (self.values[:, None] + self.shifts[which])[:, :, None]
        return self._times(self.vectors, solved.reshape(n, -1)).reshape(right.shape)

    def _times(self, matrix: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (matrix @ v.astype(matrix.dtype)).astype(np.float64)

    def judged(self, solutions: list[Solution]) -> list[Solution]:
        """Return solutions with degrees of freedom, GCV and leave-one-out errors added.

        Solutions at a ridge ρ for which some w + ρ does not exceed rounding errors are returned unchanged.

        Args:
            solutions: Solutions of (K + ρI)α = Y, one per ridge.
        """
        inverse = 1 / (self.values[:, None] + self.shifts)
        diagonal = np.concatenate(
            [
                self.vectors[start : start + ROWS].astype(np.float64) ** 2 @ inverse
                for start in range(0, len(inverse), ROWS)
            ]
        )  # diagonal of (K + ρI)⁻¹, (n, r)
        found = []
        for i, one in enumerate(solutions):
            if self.resolved[i]:
                without = one.value / diagonal[:, i, None]
                loss, error = mean_of_rows(np.square(without).sum(axis=1))
                one = with_traces(one, self.values @ inverse[:, i], inverse[:, i].sum())._replace(
                    leave_one_out=without, left_out_loss=loss, left_out_error=error
                )
            found.append(one)
        return found
