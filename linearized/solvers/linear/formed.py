"""Least squares from the smaller of A Aᵀ and AᵀA, which is formed once; each ridge is then a banded factor of it.

In the dual (rows < p) it solves (A Aᵀ + ρI)α = Y and computes v = Aᵀα; otherwise (AᵀA + ρI)v = AᵀY. With s the smaller
side of A and n N its number of entries, it takes n N s multiply-adds to form the matrix, 4/3 s³ operations for the band
reduction (`linearized.solvers.linear.band.solver`) and two passes over A, for α and for the residuals. It is faster
than a Krylov method where many ridges or columns need many steps, and takes 12 s² bytes.
"""

import dataclasses
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float64
from linearized.solvers.linear.band import solver as band
from linearized.solvers.linear.driver import LinearRun, linear_solver
from linearized.solvers.linear.solution import LinearProblem, Solution, finite, measured, ridge_batch

FORMED = 12  # bytes per number of the matrix: formed in float64, reduced in float32
LEAST = 1e-7  # smallest relative residual of the formed system that the precision of float32 features supports


@linear_solver()
def solve(problem: LinearProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve the problem at every ridge. The arguments are those of `linearized.solvers.linear.cg.solve`.

    Iterations are the steps of float64 CG with which `band` refines a ridge; the residuals and the bound on the error
    of the predictions are recomputed from A. The formed matrix is float32 for float32 features, so ridges below about
    1e-7 of its norm are lost to rounding; the bound on the error of the predictions shows this. The checkpoint is that
    of the band reduction.

    Raises:
        UserError: If the problem cannot form the matrix, or it does not fit in the memory.
    """
    side = min(problem.rows, problem.params)
    room = problem.memory if problem.mode == "gram" else problem.spare
    needed = FORMED * side**2
    if needed > room:
        raise UserError(
            f"band forms a matrix of {side} rows, in {needed / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB are to "
            "work with. Give more --memory, or use lanczos or cg."
        )
    moment = None if problem.dual else finite(problem.moment())
    gram = problem.formed(moment)
    tolerance = run.tolerance(_moment_norm(gram) if moment is None else float(np.linalg.norm(moment)), problem.n)
    _, found = band.factored(gram, ridges, dataclasses.replace(run, rtol=max(tolerance.relative, LEAST), atol=0.0))
    values, duals = [solution.value for solution in found], None
    if problem.dual:
        duals, size = values, ridge_batch(problem)
        values = []
        for start in range(0, len(duals), size):
            stacked = problem.adjoint64(np.concatenate(duals[start : start + size], axis=1))
            values += np.split(stacked, stacked.shape[1] // problem.columns, axis=1)
    histories = [solution.history for solution in found]
    solved = measured(problem, ridges, values, histories, tolerance, duals)
    return [one._replace(message=other.message, refinements=other.refinements)
            for one, other in zip(solved, found, strict=True)]  # fmt: skip


def _moment_norm(gram: Any) -> float:
    """Return ‖AᵀY‖ from the formed problem of the dual: ‖AᵀY‖² is tr YᵀA AᵀY."""
    return float(np.sqrt(max(np.sum(gram.targets * gram.primal_product(gram.targets)), 0.0)))
