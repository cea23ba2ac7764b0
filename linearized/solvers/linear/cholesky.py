"""Solver of kernel ridge regression (K + ρI)α = Y by one Cholesky factorisation of K + ρI per ridge, in place.

A factorisation takes n³/3 operations and overwrites one triangle of the array of K. The other triangle keeps K. From
it, the first triangle is refilled for the next ridge, and true residuals are computed. CG in float64 refines solutions
from a float32 factorisation (`linearized.solvers.linear.refinement`).
"""

import dataclasses

import numpy as np
import scipy.linalg

from linearized.base.shapes import Float64
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.linear.dense_gram import ROWS, DenseGram, DenseProblem
from linearized.solvers.linear.driver import LinearRun, linear_solver
from linearized.solvers.linear.refinement import Refinement, distinct, floor
from linearized.solvers.linear.solution import Solution

STATE = "cholesky"


@linear_solver()
def solve(problem: DenseProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve (K + ρI)α = Y at every ridge ρ, by one Cholesky factorisation per ridge.

    Degrees of freedom and leave-one-out errors are not computed.

    Args:
        problem: K (n, n) and Y (n, k). If the array of K is not exactly symmetric, its lower triangle is used.
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. Progress is
            reported after each ridge as (ridges done, ridges, residual of each ridge, ridges left). Checkpoints contain
            the solutions of the ridges that are solved.

    K + λ'I is factorised at λ' = max(ρ, c eps ‖K‖), with c = `refinement.FLOOR` and the machine precision eps of the
    data type of K. If that matrix is not positive definite, λ' is increased until it is. If λ' differs from ρ, it is
    stored as `Solution.shift`, and CG corrects the solution to ρ.

    Raises:
        UserError: If the settings are invalid or K is not finite.
    """
    tolerance = run.tolerance(float(np.linalg.norm(problem.targets)), problem.n)
    saved = run.checkpoint(n=problem.n, dtype=str(problem.dtype), ridges=ridges.tolist(), rtol=run.rtol, atol=run.atol)
    solutions = _restored(saved, ridges)
    residuals = np.array([solution.residual for solution in solutions] + [1.0] * (len(ridges) - len(solutions)))
    if len(solutions) == len(ridges):
        return solutions
    factored, quiet = _Factored(DenseGram(problem)), dataclasses.replace(run, progress=None)
    for i in range(len(solutions), len(ridges)):
        shift = factored.at(float(ridges[i]))
        refinement = Refinement(
            problem, factored.gram.product, factored.gram.norm, factored.precondition, tolerance, quiet
        )
        solutions += refinement.solutions(ridges[i : i + 1], np.array([shift]))
        residuals[i], left = solutions[-1].residual, len(ridges) - i - 1
        if left == 0 or saved.due:
            saved.save(STATE, _arrays(solutions))
        run.report(i + 1, len(ridges), residuals.copy(), left)
    return solutions


class _Factored:
    """Array that holds K in its lower triangle and the Cholesky factor of K + λ'I for one ridge λ' in its upper one.

    Args:
        gram: K, whose upper triangle is overwritten.
    """

    def __init__(self, gram: DenseGram):
        self.gram, self.lower = gram, gram.array.T  # column-major, as in LAPACK, so the factor is lower
        self._potrf, self._potrs = scipy.linalg.get_lapack_funcs(("potrf", "potrs"), (gram.array,))

    def at(self, ridge: float) -> float:
        """Factorise K + λ'I and return λ'.

        λ' is `ridge`, or a larger number if rounding errors could make K + ridge · I indefinite in the precision of K.
        """
        shift = max(ridge, floor(self.gram.array.dtype, self.gram.norm))
        while not self._factor(shift):
            shift = 10 * max(shift, np.finfo(np.float64).tiny)
        return shift

    def _factor(self, shift: float) -> bool:
        for start in range(0, len(self.lower), ROWS):
            columns = slice(start, start + ROWS)
            below, square = self.lower[start + ROWS :, columns], self.lower[columns, columns]
            below[...] = self.lower[columns, start + ROWS :].T
            np.copyto(square, np.triu(square, 1).T, where=np.tri(len(square), k=-1, dtype=bool))
        np.fill_diagonal(self.lower, self.gram.diagonal + shift)
        _, info = self._potrf(self.lower, lower=1, clean=0, overwrite_a=1)
        return info == 0

    def precondition(self, right: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return (K + λ'I)⁻¹ times residuals, for the λ' of the last call of `at`.

        Args:
            right: Residuals (n, 1, k) of one ridge.
            which: Not used, because there is one λ' at a time. For other solvers, these are the indices of the ridges.
        """
        n, _, columns = right.shape
        solved, _ = self._potrs(self.lower, distinct(right).reshape(n, columns).astype(self.lower.dtype), lower=1)
        return np.asarray(solved, np.float64).reshape(n, 1, columns)


EVIDENCE = ("converged", "iterations", "residual", "shift", "refinements", "message")


def _arrays(solutions: list[Solution]) -> dict[str, np.ndarray]:
    """Return the fields of the solutions as named arrays, for a checkpoint.

    Fields that this solver does not compute, such as the degrees of freedom, are left out.
    """
    names = ("value", "predictions", "history", *EVIDENCE)
    return {f"{name}{i}": np.asarray(getattr(one, name)) for i, one in enumerate(solutions) for name in names}


def _restored(saved: Checkpoint, ridges: np.ndarray) -> list[Solution]:
    arrays = saved.load(STATE) or {}
    return [
        Solution(
            float(ridges[i]), value=arrays[f"value{i}"], predictions=arrays[f"predictions{i}"],
            history=arrays[f"history{i}"], **{name: arrays[f"{name}{i}"].item() for name in EVIDENCE},
        )
        for i in range(sum(name.startswith("value") for name in arrays))
    ]  # fmt: skip
