"""Band solver: reduces K to a band once, in place, then factors the band for each ridge; default if K fits in memory.

K = Q B Qᵀ takes 4/3 n³ operations, all BLAS-3 (one Cholesky factor takes n³/3, eigenvalues five times as long). Then
α = Q(B + ρI)⁻¹QᵀY takes n · b² operations per ridge, and one pass of reflections for all ridges together. One triangle
of the array holds the reduction, the other keeps K for true residuals and refinement: n² + O(n · b) numbers in all.

The band is factored in float64. If K is in float32, the reduction is too, and Q B Qᵀ equals K only up to its rounding
errors. Where a residual misses `rtol`, CG in float64 corrects the solution, with the factor of B + λ'I as
preconditioner. Here λ' is max(ρ, 4 eps ‖K‖) or larger, with eps of the data type of K
(`linearized.solvers.linear.refinement`).
"""

import numpy as np

from linearized.base.shapes import Float64
from linearized.solvers.linear.band import banded
from linearized.solvers.linear.band.reduction import BandReduction
from linearized.solvers.linear.dense_gram import DenseGram, DenseProblem
from linearized.solvers.linear.driver import LinearRun, TimedCheckpoint, linear_solver
from linearized.solvers.linear.left_out import RowDraw, drawn_rows, mean_left_out
from linearized.solvers.linear.refinement import Refinement, distinct, floor, with_traces
from linearized.solvers.linear.solution import Solution

PARTS = 1000  # number of steps in the reported progress of the reduction
STATE = "band-reduction"


@linear_solver()
def solve(problem: DenseProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve (K + ρI)α = Y at every ridge ρ, by one reduction of K to a band and one banded factor per ridge.

    Args:
        problem: K (n, n) and Y (n, k). If the array of K is not exactly symmetric, its lower triangle is used.
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. In float32 a ridge
            is refined if its residual misses the tolerance: rtol = 1e-3 rarely needs refinement, 1e-7 needs a few
            steps. Iterations are steps of CG. Progress is reported during the reduction as (thousandths done, 1000,
            residuals of 1, number of ridges), and after each step of CG. Checkpoints contain the reduction, about half
            of the size of K, which is valid for any ridges and labels; the last one is written when the reduction is
            complete.

    Degrees of freedom, GCV and the mean leave-one-out error are returned for every ridge that the precision of K
    resolves. The leave-one-out error is estimated from 256 rows (`linearized.solvers.linear.left_out`), which takes
    2 n² operations per row, and 4 n · b per row and ridge.

    Raises:
        UserError: If the settings are invalid or K is not finite.
    """
    spectrum, solutions = factored(problem, ridges, run)
    return spectrum.judged(solutions)


def factored(problem: DenseProblem, ridges: np.ndarray, run: LinearRun) -> tuple["BandFactors", list[Solution]]:
    """Solve (K + ρI)α = Y at every ridge, as `solve` does, but without degrees of freedom and leave-one-out errors.

    Args:
        problem: K and Y.
        ridges: ρ.
        run: Tolerances, progress and checkpoints.

    Returns:
        The reduced matrix, from which more right-hand sides can be solved, and the solutions.
    """
    tolerance = run.tolerance(float(np.linalg.norm(problem.targets)), problem.n)
    gram = DenseGram(problem)
    reduction = BandReduction(gram.array)
    _reduce(reduction, run, run.checkpoint(n=problem.n, dtype=str(problem.dtype), width=reduction.width), len(ridges))
    spectrum = BandFactors(reduction, ridges, floor(problem.dtype, gram.norm))
    product = problem.primal_product if problem.rounded else gram.product
    refinement = Refinement(problem, product, gram.norm, spectrum.precondition, tolerance, run)
    return spectrum, refinement.solutions(ridges, spectrum.shifts)


def _reduce(reduction: BandReduction, run: LinearRun, saved: TimedCheckpoint, ridges: int) -> None:
    """Perform all remaining steps of the reduction, report the progress, and write checkpoints.

    Args:
        reduction: Reduction, updated in place. If there is a checkpoint, it is restored first.
        run: Settings of the solver's call, for the progress.
        saved: Checkpoint of the reduction.
        ridges: Number of ridges, for the progress.
    """
    arrays = saved.load(STATE)
    if arrays is not None:
        reduction.restore(arrays)
    del arrays
    shown = -1
    while not reduction.done:
        reduction.step()
        part = int(PARTS * reduction.work)
        if part > shown:
            run.report(part, PARTS, np.ones(ridges), ridges)
            shown = part
        if reduction.done or saved.due:
            saved.save(STATE, reduction.arrays())


class BandFactors:
    """The band B of a reduction K = Q B Qᵀ, and its factorisation B + λ'I at a ridge λ' for each ρ.

    λ' is ρ, or larger if B + ρI is too close to singular for the precision of K. It may be raised when a ridge is
    factored for the first time, so `shifts` and `resolved` are final only after the first call of `precondition`.

    Args:
        reduction: The complete reduction of K.
        ridges: Ridges ρ, (r,).
        least: Smallest ridge that the precision of K resolves.

    Attributes:
        band: B, in LAPACK's storage.
        shifts: The ridge λ' >= ρ at which B is factored, for each ρ, (r,).
        resolved: Whether λ' is ρ, for each ρ, (r,).
    """

    def __init__(self, reduction: BandReduction, ridges: np.ndarray, least: float):
        self.reduction, self.ridges, self.band = reduction, ridges, reduction.band()
        self.resolved = ridges >= least
        self.shifts = np.maximum(ridges, least)

    def precondition(self, right: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return (K + λ'I)⁻¹ = Q(B + λ'I)⁻¹Qᵀ times residuals, with one pass of reflections in each direction.

        Factors are recomputed at each call, because storing them would take ridges · b/n of the memory of K.

        Args:
            right: Residuals (n, l, k) of l ridges.
            which: Indices of these ridges, (l,).
        """
        n, _, columns = right.shape
        rotated = self.reduction.forward(distinct(right).reshape(n, -1)).astype(np.float64)
        rotated = np.broadcast_to(rotated.reshape(n, -1, columns), right.shape)
        solved = np.empty(right.shape)
        for j, i in enumerate(which):
            solved[:, j] = banded.solve(self._factor(int(i)), rotated[:, j])
        return self.reduction.backward(solved.reshape(n, -1)).astype(np.float64).reshape(right.shape)

    def _factor(self, i: int) -> np.ndarray:
        """Return the banded Cholesky factor of B + λ'I for the ridge of index `i`.

        If the matrix is not positive definite, λ' is raised by factors of 10 until it is.
        """
        while (factor := banded.factor(self.band, self.shifts[i])) is None:
            self.shifts[i], self.resolved[i] = 10 * max(self.shifts[i], np.finfo(np.float64).tiny), False
        return factor

    def judged(self, solutions: list[Solution]) -> list[Solution]:
        """Add degrees of freedom, GCV and the mean leave-one-out error to solutions.

        Ridges ρ at which B + ρI itself could not be factored are returned without them.

        Args:
            solutions: Solutions of (K + ρI)α = Y, one per ridge.
        """
        squares = np.stack([np.square(solution.value).sum(axis=1) for solution in solutions])
        draw = drawn_rows(squares[self.resolved]) if self.resolved.any() else None
        if draw is None:
            return solutions
        units = np.zeros((self.band.shape[1], len(draw.rows)), self.reduction.lower.dtype)
        units[draw.rows, np.arange(len(draw.rows))] = 1
        rotated = self.reduction.forward(units).astype(np.float64)
        return [self._judged(solution, i, squares[i], draw, rotated) if self.resolved[i] else solution
                for i, solution in enumerate(solutions)]  # fmt: skip

    def _judged(
        self, solution: Solution, i: int, squares: np.ndarray, draw: RowDraw, rotated: np.ndarray
    ) -> Solution:  # fmt: skip
        n, factor = self.band.shape[1], banded.factor(self.band, solution.ridge)
        trace = banded.inverse_trace(factor)
        mean, error = mean_left_out(squares, draw, banded.inverse_squares(factor, rotated))
        return with_traces(solution, n - solution.ridge * trace, trace)._replace(
            left_out_loss=mean, left_out_error=error
        )
