"""Solver of kernel ridge regression (K + ρI)α = Y that reduces K to a banded matrix B once for all ridges ρ.

It is the default for three or more ridges if K fits in memory. The reduction K = Q B Qᵀ with an orthogonal Q takes
4/3 n³ operations, all BLAS-3, four times as many as one Cholesky factorisation of K. For each ridge, B + ρI is
factored, which takes n · b² operations for b diagonals on each side of the main one. All α = Q(B + ρI)⁻¹QᵀY together
take one pass of reflections. One triangle of the array holds the reduction. The other triangle keeps K for true
residuals and refinement, so that the memory is n² + O(n · b) numbers.

B is factored in float64. If K is in float32, the reduction is in float32 too, and Q B Qᵀ equals K only up to rounding
errors. If a residual misses `rtol`, CG in float64 corrects the solution, with the factor of B + λ'I as preconditioner.
λ' is max(ρ, 4 eps ‖K‖) or larger, with the machine precision eps of the data type of K
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
    """Solve (K + ρI)α = Y at every ridge ρ, by one reduction of K to a banded matrix and one banded factor per ridge.

    Args:
        problem: K (n, n) and Y (n, k). If the array of K is not exactly symmetric, its lower triangle is used.
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. Iterations are
            steps of CG: with K in float32, rtol = 1e-3 rarely needs any, and 1e-7 needs a few. Progress is reported
            during the reduction as (thousandths done, 1000, residuals of 1, number of ridges), and after each step of
            CG. Checkpoints contain the reduction, about half of the size of K, and are valid for any ridges and labels.
            The last checkpoint is written when the reduction is complete.

    Degrees of freedom, GCV (generalised cross-validation) and the mean leave-one-out error are returned for every ridge
    that the precision of K resolves. The leave-one-out error is estimated from 256 rows
    (`linearized.solvers.linear.left_out`), which takes 2 n² operations per row, and 4 n · b per row and ridge.

    Raises:
        UserError: If the settings are invalid or K is not finite.
    """
    spectrum, solutions = factored(problem, ridges, run)
    return spectrum.judged(solutions)


def factored(problem: DenseProblem, ridges: np.ndarray, run: LinearRun) -> tuple["BandFactors", list[Solution]]:
    """Solve (K + ρI)α = Y at every ridge like `solve`, but without degrees of freedom, GCV and leave-one-out errors.

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
    """The banded matrix B of a reduction K = Q B Qᵀ, and factorisations of B + λ'I, with a ridge λ' for each ρ.

    λ' is ρ, or larger if B + ρI is too close to singular for the precision of K. The first factorisation at a ridge may
    raise λ'. `shifts` and `resolved` are therefore final only after `precondition` was called for all ridges.

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
        """Return (K + λ'I)⁻¹ = Q(B + λ'I)⁻¹Qᵀ times residuals.

        Each call takes one product with Qᵀ and one with Q. It recomputes the factors, because storing them would take
        r · b/n times the memory of K for r ridges.

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
        """Return solutions with degrees of freedom, GCV and the mean leave-one-out error added.

        Solutions at a ridge ρ for which a larger ridge λ' was factored are returned unchanged.

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
