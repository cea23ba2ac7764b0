"""Solver of (K + ρI)α = Y by conjugate gradients, with a preconditioner from r random columns of K.

The columns give an approximation K ≈ F Fᵀ (`linearized.solvers.linear.pivoted`). With FᵀF = V diag(s) Vᵀ and G = F V,

    (F Fᵀ + ρI)⁻¹ = (I - G diag(1 / (s + ρ)) Gᵀ) / ρ,

so that one F gives the preconditioner at every ridge (Díaz, Epperly, Frangella, Tropp & Webber, arXiv 2304.12465). Each
step takes one product with K for all ridges together. Once r exceeds the number of eigenvalues of K above the smallest
ridge, the number of steps does not depend on n or the ridge.

Block Lanczos needs fewer products for a whole grid of ridges, but its basis of some hundred vectors grows with every
step. Here the memory is fixed: F takes 8 n r bytes. Small ridges need only a few more steps than large ridges.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float64, Int64
from linearized.solvers.linear import cg
from linearized.solvers.linear.driver import LinearRun, linear_solver
from linearized.solvers.linear.pivoted import randomly_pivoted
from linearized.solvers.linear.solution import LEAST_BASIS, LinearProblem, Solution, finite, measured

SHARE = 10  # by default r is n / SHARE
MEMORY_SHARE = 4  # or as many pivots as F has room for in this part of the memory, if that is less
FLOOR = 1e-12  # smallest ridge of the preconditioner, relative to the largest eigenvalue of F Fᵀ
ROWS = 4096  # rows of F that are rotated together


@runtime_checkable
class ColumnProblem(LinearProblem, Protocol):
    """Interface of a problem (K + ρI)α = Y that can return single columns of K, in addition to products with it.

    `linearized.problems.gram_problem.GramProblem` implements it.
    """

    def diagonal(self) -> np.ndarray:
        """Return the diagonal of K, (n,), in float64."""

    def columns_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the columns K[:, rows] for b indices `rows`, (n, b), in float64."""


@linear_solver()
def solve(
    problem: ColumnProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun, rank: int = 0
) -> list[Solution]:  # fmt: skip
    """Solve (K + ρI)α = Y at every ridge ρ, by CG with a preconditioner from r random columns of K.

    The preconditioner takes 2 n r² operations. Each step multiplies K by one column for each ridge and label column,
    and takes 4 n r further operations for each of these columns.

    Args:
        problem: K (n, n) and Y (n, k). If K is in files, they are read once for up to 128 pivots (columns).
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. Iterations are
            products with K. Progress is reported after each block of pivots as (pivots, rank, ones, ridges), and after
            each product. Checkpoints contain the factor F of K ≈ F Fᵀ, and the iterates of CG.
        rank: Number of columns r; 0: n/10, or less if F would take more than a quarter of the memory.

    Raises:
        UserError: If the settings are invalid, K is not finite, or F does not fit in memory.
    """
    tolerance = run.tolerance(float(np.linalg.norm(problem.targets)), problem.n)
    inverse = _Inverse(problem, _rank(problem, rank), run, len(ridges))
    repeated = np.broadcast_to(problem.targets, (len(ridges), *problem.targets.shape))
    values = list(inverse(repeated, ridges))
    histories = [np.zeros(0)] * len(ridges)
    return cg.polish(problem, measured(problem, ridges, values, histories, tolerance), tolerance, run,
                     precondition=inverse)  # fmt: skip


def _rank(problem: ColumnProblem, asked: int) -> int:
    """Return the number of pivots r.

    Args:
        problem: K, whose `spare` is the free memory in bytes.
        asked: Requested number; 0: n/10, or less if F would take more than a quarter of the memory.

    Raises:
        UserError: If the requested number does not fit in memory.
    """
    room = problem.spare // (8 * problem.n)
    if not asked:
        return max(1, min(-(-problem.n // SHARE), room // MEMORY_SHARE))
    if asked > max(room, LEAST_BASIS // (8 * problem.n)):
        raise UserError(
            f"A factor of rank {asked} takes {8 * problem.n * asked / 2**30:.1f} GiB, and {problem.spare / 2**30:.1f} "
            "GiB are left for it. Lower --preconditioner_rank, or raise --memory."
        )
    return min(asked, problem.n)


class _Inverse:
    """The preconditioner (F Fᵀ + ρI)⁻¹ for all ridges; the constructor computes the low-rank approximation K ≈ F Fᵀ.

    Args:
        problem: K.
        rank: Number of pivots.
        run: Settings of the call, for progress and checkpoints.
        ridges: Number of ridges, for the progress.
    """

    def __init__(self, problem: ColumnProblem, rank: int, run: LinearRun, ridges: int):
        def columns(rows: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, "n b"]:
            return finite(problem.columns_of(rows))

        factor = randomly_pivoted(
            finite(problem.diagonal()), columns, rank, saved=run.checkpoint(n=problem.n, rank=rank),
            report=lambda pivots: run.report(pivots, rank, np.ones(ridges), ridges),
        ).factor  # fmt: skip
        values, vectors = np.linalg.eigh(factor @ factor.T)
        for start in range(0, problem.n, ROWS):
            rows = slice(start, start + ROWS)
            factor[:, rows] = vectors.T @ factor[:, rows]
        self._rotated, self._values = factor, np.maximum(values, 0)

    def __call__(
        self, right: Float64[np.ndarray, "l n c"], ridges: Float64[np.ndarray, " l"]
    ) -> Float64[np.ndarray, "l n c"]:
        """Return (F Fᵀ + ρI)⁻¹ times right-hand sides; for a tiny ρ, a larger ridge is used for numerical stability.

        Args:
            right: Right-hand sides (l, n, c), c columns for each of l ridges.
            ridges: ρ, (l,).
        """
        shifts = np.maximum(ridges, FLOOR * self._values.max(initial=0))
        shifts = np.where(shifts > 0, shifts, 1.0)[:, None, None]  # K = 0 without a ridge
        inner = _times(self._rotated, right) / (self._values[:, None] + shifts)
        return (right - _times(self._rotated.T, inner)) / shifts


def _times(matrix: Float64[np.ndarray, "p n"], right: Float64[np.ndarray, "l n c"]) -> Float64[np.ndarray, "l p c"]:
    """Return `matrix` (p, n) times the columns (l, n, c) of l ridges, in one matrix product."""
    ridges, n, columns = right.shape
    beside = matrix @ right.transpose(1, 0, 2).reshape(n, ridges * columns)
    return beside.reshape(len(matrix), ridges, columns).transpose(1, 0, 2)
