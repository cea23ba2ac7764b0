"""Solver "band" of least squares: forms the smaller of A Aᵀ and AᵀA, reduces it to a banded matrix, and factors this.

The problem is min ‖A v - Y‖² + ρ‖v‖² for A (rows, p) at all ridges ρ. In the dual (rows < p) the solver solves
(A Aᵀ + ρI)α = Y and computes v = Aᵀα; otherwise it solves (AᵀA + ρI)v = AᵀY. With s = min(rows, p), it takes

- at most rows · p · s multiply-adds to form the matrix,
- 4/3 s³ operations for the band reduction (`linearized.solvers.linear.band.solver`), once for all ridges,
- at most two passes over A: one for v = Aᵀα, one for the residuals,
- 12 s² bytes of memory.

The solver is faster than a Krylov method if many ridges or columns need many steps. A Aᵀ may consist of independent
blocks on its diagonal, such as one for each class; the blocks are then solved one by one.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float64
from linearized.solvers.linear.band import solver as band
from linearized.solvers.linear.driver import LinearRun, least_squares_solver
from linearized.solvers.linear.solution import (
    LinearProblem,
    Residual,
    Solution,
    Tolerance,
    finite,
    judged,
    measured,
    residuals,
)

LEAST = 1e-7  # smallest relative residual of the formed system that the precision of float32 features supports
STRICT = 0.1  # residual of the formed system, relative to Y or AᵀY, in units of the accuracy of the predictions
CORRECTIONS = 3  # most corrections by the factor, from residuals recomputed from A


class _Part(NamedTuple):
    """One diagonal block of the matrix A Aᵀ or AᵀA, after its reduction to a banded matrix.

    Attributes:
        factors: Reduced block; its method `precondition` solves for more right-hand sides.
        solutions: Solutions of the system of this block, one per ridge.
    """

    factors: band.BandFactors
    solutions: list[Solution]


@least_squares_solver()
def solve(problem: LinearProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve min ‖A v - Y‖² + ρ‖v‖² at every ridge ρ, from A Aᵀ or AᵀA in memory.

    The residuals and the bound on the error of the predictions are recomputed from A, or from A Aᵀ if the problem
    forms A Aᵀ in float64. Other problems form the matrix from float32 features. Rounding errors of the matrix then make
    solutions inaccurate at ridges below about 1e-7 of its norm, which the recomputed bound
    (`Solution.prediction_error`) shows. With `run.accuracy`, such solutions are corrected by the band factor and
    recomputed residuals, unless A Aᵀ consists of several blocks.

    Args:
        problem: A and Y, a problem that can form A Aᵀ or AᵀA.
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. Iterations are the
            steps of float64 CG that refine a ridge. Checkpoints contain the band reduction.

    Returns:
        A solution for each ridge; its `message` states why it has not converged.

    Raises:
        UserError: If the problem cannot form the matrix, or if the matrix does not fit in the memory.
    """
    room, needed = problem.memory if problem.mode == "gram" else problem.spare, problem.formed_bytes
    if needed > room:
        raise UserError(
            f"band forms a matrix of {min(problem.rows, problem.params)} rows, in {needed / 2**30:.1f} GiB, and "
            f"{room / 2**30:.1f} GiB are to work with. Give more --memory, or use lanczos or cg."
        )
    moment = None if problem.dual else finite(problem.moment())
    parts, squared = [], 0.0
    for i, gram in enumerate(problem.formed(moment)):
        if problem.dual:  # ‖AᵀY‖² is tr YᵀAAᵀY
            squared += max(float(np.sum(gram.targets * gram.primal_product(gram.targets))), 0.0)
        else:
            squared += float(np.sum(np.square(moment)))
        own = Tolerance.of(float(np.sqrt(squared)), problem.n, run.rtol, run.atol).relative
        rtol = max(own if run.accuracy is None else STRICT * run.accuracy, LEAST)
        folder = run.folder if run.folder is None or i == 0 else run.folder / f"part{i}"
        parts.append(_Part(*band.factored(gram, ridges, dataclasses.replace(run, rtol=rtol, atol=0.0, folder=folder))))
    tolerance = run.tolerance(float(np.sqrt(squared)), problem.n)
    found = [
        (_joined([part.solutions[i].value for part in parts]), _told([part.solutions[i] for part in parts]))
        for i in range(len(ridges))
    ]
    stacked, told = [value for value, _ in found], [words for _, words in found]
    histories = [max((part.solutions[i].history for part in parts), key=len) for i in range(len(ridges))]
    values, duals = (None, stacked) if problem.dual else (stacked, None)
    solved = measured(problem, ridges, values, histories, tolerance, duals)
    if run.accuracy is not None and len(parts) == 1 and not (problem.dual and problem.exact_gram):
        solved = _corrected(problem, parts[0], solved, tolerance)
    return [
        one._replace(
            message=one.message or ("" if run.accuracy is not None and one.converged else words),
            refinements=max(part.solutions[i].refinements for part in parts),
        )
        for i, (one, words) in enumerate(zip(solved, told, strict=True))
    ]


def _corrected(problem: LinearProblem, part: _Part, solutions: list[Solution], tolerance: Tolerance) -> list[Solution]:
    """Return the solutions, after correcting those whose predictions miss the requested accuracy.

    A correction is the residual, recomputed from A, multiplied by the inverse of the formed matrix.

    In the primal, the residual s = AᵀY - (AᵀA + ρI)v and e ≈ (AᵀA + ρI)⁻¹s give an estimate of the error A e of the
    predictions: ‖A e‖² = tr eᵀs - ρ‖e‖². The estimate is much smaller than the bound ‖s‖/(2√ρ), and often shows that no
    correction is needed. In the dual the residual itself is the bound, and α is corrected.

    Args:
        problem: A and Y.
        part: The reduced matrix A Aᵀ or AᵀA, which has a single block.
        solutions: Solutions of the least-squares problem, one per ridge.
        tolerance: Tolerance that contains the accuracy of the predictions.
    """
    solutions = list(solutions)
    missing = [i for i, solution in enumerate(solutions) if not solution.converged]
    for _ in range(CORRECTIONS):
        if not missing:
            break
        which, grid = np.array(missing), np.array([solutions[i].ridge for i in missing])
        now = _residuals(problem, grid, [solutions[i] for i in missing])
        right = np.stack([_right(problem, solutions[i], one) for i, one in zip(missing, now, strict=True)], axis=1)
        steps = part.factors.precondition(right, which).transpose(1, 0, 2)
        left = []
        for place, i in enumerate(missing):
            old, step, residual = solutions[i], steps[place], now[place]
            if not problem.dual:
                square = np.sum(step * residual.primal) - old.ridge * np.sum(step**2)
                residual = residual._replace(error=min(residual.error, float(np.sqrt(max(square, 0.0)))))
                solutions[i] = judged(problem, old, residual, tolerance)
            if not solutions[i].converged:
                left.append((i, step))
        if not left:
            break
        moved = [_moved(problem, solutions[i], step) for i, step in left]
        again = _residuals(problem, np.array([one.ridge for one in moved]), moved)
        missing = []
        for (i, _), solution, residual in zip(left, moved, again, strict=True):
            new = judged(problem, solution._replace(predictions=residual.predictions), residual, tolerance)
            if new.residual < solutions[i].residual / 2 or new.converged:
                missing += [] if new.converged else [i]
                solutions[i] = new
    return solutions


def _residuals(problem: LinearProblem, ridges: np.ndarray, solutions: list[Solution]) -> list[Residual]:
    duals = [solution.dual for solution in solutions] if problem.dual else None
    return residuals(problem, ridges, [solution.value for solution in solutions], duals)[1]


def _right(problem: LinearProblem, solution: Solution, residual: Residual) -> np.ndarray:
    """Return the residual of a solution in the formed system, (A Aᵀ + ρI)α = Y in the dual, else (AᵀA + ρI)v = AᵀY.

    Args:
        problem: A and Y.
        solution: Solution at one ridge.
        residual: Residual of this solution that was recomputed from A.
    """
    if not problem.dual:
        return residual.primal
    return problem.targets - residual.predictions - solution.ridge * solution.dual


def _moved(problem: LinearProblem, solution: Solution, step: np.ndarray) -> Solution:
    """Return a solution after `step` was added to its α in the dual, or to its v in the primal."""
    if not problem.dual:
        return solution._replace(value=solution.value + step)
    return solution._replace(dual=solution.dual + step, value=solution.value + problem.adjoint64(step))


def _joined(values: list[np.ndarray]) -> np.ndarray:
    """Combine the coefficients of all diagonal blocks of A Aᵀ into one array.

    Args:
        values: Coefficients (side, columns) of each block; all blocks have the same side.

    Returns:
        Array (side · blocks, columns), whose rows are ordered by data point and then by block.
    """
    return np.stack(values, axis=1).reshape(-1, values[0].shape[1])


def _told(solutions: list[Solution]) -> str:
    return "; ".join(dict.fromkeys(solution.message for solution in solutions if solution.message))
