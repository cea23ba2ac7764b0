"""Solver of (K + ρI)α = Y that needs only a block of rows of K at a time: accelerated sketch-and-project (ASkotch).

Each iteration takes a random block B of b rows (Rathore, Frangella, Yang, Dereziński & Udell, arXiv 2407.10070):

    z = a v + (1 - a) w,   d = M⁻¹ (K[B] z + ρ z_B - Y_B),   w = z - I_Bᵀd,   v = β v + (1 - β) z - γ I_Bᵀd

with β = 1 - √(μ/ν), γ = 1/√(μν) and a = 1/(1 + γν). w is the solution, and v is its Nesterov acceleration. M is the
square K_BB + ρI, or L(F Fᵀ + δI + ρI) with a Nyström approximation K_BB ≈ F Fᵀ of lower rank, where δ is the mean
diagonal entry of K_BB - F Fᵀ and power iterations give the smallest L for which M ≽ K_BB + ρI.

Three choices differ from the paper. The blocks of an epoch are a random partition of the rows instead of independent
draws, so that the residuals of the blocks together are an estimate of ‖Y - (K + ρI)z‖ that costs no further product.
The paper recommends ν = n/b and μ = ρ for kernels with a diagonal of 1. Here ν is the number of blocks, and μ follows
from the convergence: if residuals fell by exp(-s) in an iteration, on average over four epochs, then μ = 2νs². (In
experiments, the μ of the fastest convergence reduced residuals by about 1 - √(μ/ν).) It begins with μ = 1/ν, which is
no acceleration and always converges, never exceeds it, and returns to it if residuals stagnate or grow.

Rows are drawn uniformly, because the authors found that ridge leverage scores do not help in general.

All ridges take the same blocks, because the entries of K[B] are the largest part of the cost: n b entries, for one
ridge as for twenty. Starting each ridge at the solution of a larger one would compute them again for every ridge.

`auto` never takes this solver: an epoch computes twice the entries of a product with a symmetric K, and block Lanczos
needs about as many products as this solver needs epochs. It is for a few ridges of a K so large that no basis of
Lanczos fits.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float64, Int64
from linearized.solvers.linear.driver import LinearRun, linear_solver
from linearized.solvers.linear.pivoted import randomly_pivoted
from linearized.solvers.linear.solution import (
    LEAST_BASIS,
    LinearProblem,
    Solution,
    explained,
    finite,
    measured,
)

ROWS_SQUARED = 50  # by default b² / n: the eigenvectors of K_BB then take less time than most kernels' n b entries
COPIES = 5  # arrays of b² numbers, the workspace of the eigenvectors included
MEMORY_SHARE = 4  # by default blocks take at most this part of the memory
FLOOR = 1e-12  # smallest ridge of M, relative to the largest eigenvalue of F Fᵀ
POWERS = 10  # power iterations for L
WINDOW = 4  # epochs over which the convergence is measured
LEAN = 2.0  # factor of μ: too large a μ accelerates less, too small a one overshoots
SLOW = 0.1  # an accelerated ridge whose residual falls by less (its logarithm, in four epochs) begins again without
STEP = 2.0  # largest factor by which μ changes after an epoch
STALL = 40  # epochs within which the residual of a ridge must halve
DIVERGED = 1e6  # relative residual beyond which a ridge has diverged


@runtime_checkable
class RowProblem(LinearProblem, Protocol):
    """Interface of a problem (K + ρI)α = Y that can multiply by some rows of K, in addition to products with K.

    `linearized.problems.gram_problem.GramProblem` implements it.
    """

    def row_block(self, rows: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return K[rows] v (b, c) and K[rows][:, rows] (b, b) in float64, for b indices `rows` and v (n, c)."""


@linear_solver()
def solve(
    problem: RowProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun, block_rows: int = 0, rank: int = 0,
    seed: int = 0,
) -> list[Solution]:  # fmt: skip
    """Solve (K + ρI)α = Y at every ridge ρ by accelerated sketch-and-project on blocks of rows.

    An epoch takes each row once: n² kernel entries, twice those of a product with a symmetric K, and for each block
    the eigenvectors of K_BB (about 10 b³ operations), or 2 b r² operations with a rank r. Beside K, the memory is
    up to 4 n numbers for each ridge and column, and 5 b² for a block, and b n more if K is in files.

    Args:
        problem: K (n, n) and Y (n, k). If K is in files, they are read once for each block.
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. Iterations are
            epochs, and their residuals are estimates from the blocks; a product with K checks them at the end.
            Progress is reported and checkpoints are written after blocks.
        block_rows: Number of rows b of a block; 0: √(50 n), or less if blocks would take a quarter of the memory.
        rank: Rank of the approximation of K_BB, below b; 0: K_BB itself.
        seed: Random-number seed of the blocks and of the approximations.

    Raises:
        UserError: If the settings are invalid, K is not finite, or blocks do not fit in memory.
    """
    tolerance = run.tolerance(float(np.linalg.norm(problem.targets)), problem.n)
    refuse_blocks(problem.n, block_rows, rank)
    rows = _block_rows(problem, block_rows)
    refuse_blocks(problem.n, rows, rank)
    _refuse_large(problem, len(ridges))
    state = _Iterates(problem, ridges, run, rows, block_rows, rank, seed, tolerance.relative)
    while True:
        state.run()
        values = list(np.ascontiguousarray(state.w.transpose(1, 0, 2)))
        solutions = measured(problem, ridges, values, state.histories, tolerance)
        missing = np.array([not one.converged for one in solutions])
        if not state.go_on(missing, np.array([one.residual for one in solutions]), tolerance.relative):
            return [explained(problem, one, tolerance, run.max_iterations, state.reason(i))
                    for i, one in enumerate(solutions)]  # fmt: skip


def refuse_blocks(n: int, block_rows: int, rank: int) -> None:
    """Raise `UserError` for blocks of more rows than K has, and for a rank that is not below the number of rows.

    Args:
        n: Number of rows of K; 0 if it is not known yet.
        block_rows: Number of rows of a block; 0 if it is not known yet.
        rank: Rank of the approximation of a block; 0: none.
    """
    if n and block_rows > n:
        raise UserError(f"K has {n} rows. Received: blocks of {block_rows} rows. Lower --block_rows.")
    if block_rows and rank >= block_rows:
        raise UserError(
            f"A block of {block_rows} rows has approximations of ranks below {block_rows}. Received: a rank of {rank}. "
            "Lower --preconditioner_rank, or leave it out to take the whole block."
        )


def _block_rows(problem: RowProblem, asked: int) -> int:
    """Return the number of rows of a block, at most n.

    Args:
        problem: K, whose `spare` is the free memory in bytes.
        asked: Requested number; 0: √(50 n), or less if blocks would take more than a quarter of the memory.

    Raises:
        UserError: If the requested number does not fit in memory.
    """
    room = max(problem.spare, LEAST_BASIS) / (8 * COPIES)
    if not asked:
        return max(1, min(problem.n, int((ROWS_SQUARED * problem.n) ** 0.5), int((room / MEMORY_SHARE) ** 0.5)))
    if asked**2 > room:
        raise UserError(
            f"Blocks of {asked} rows take {8 * COPIES * asked**2 / 2**30:.1f} GiB, and {8 * COPIES * room / 2**30:.1f} "
            "GiB are left for them. Lower --block_rows, or raise --memory."
        )
    return asked


def _refuse_large(problem: RowProblem, ridges: int) -> None:
    """Raise `UserError` if the iterates w and v do not fit in the memory budget.

    A product may need two copies of w: of the ridges that are not solved yet, and for a K that is computed.
    """
    needed, free = 4 * 8 * problem.n * ridges * problem.columns, max(problem.spare, LEAST_BASIS)
    if needed > free:
        raise UserError(
            f"The iterates of {ridges} ridges and {problem.columns} outputs take {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are left for them. Give fewer --ridges, or raise --memory."
        )


class _Iterates:
    """Iterates of all ridges, which `run` improves epoch by epoch.

    Args:
        problem: K and Y.
        ridges: ρ.
        run: Settings of the solver's call.
        rows: Number of rows of a block. A run that is resumed keeps its own number, unless the user gave one.
        asked: The number that the user gave; 0: none.
        rank: Rank of the approximation of K_BB; 0: K_BB itself.
        seed: Random-number seed.
        limit: Relative residual at which a ridge is done.

    Attributes:
        w: Solutions (n, ridges, k).
        blocks: Number of blocks of an epoch.
        diverged: Mask of the ridges whose residuals grew without bound.
        stalled: Mask of the ridges whose residuals stagnate.
    """

    ARRAYS = (
        "w", "v", "blocks", "mu", "norms", "best", "waited", "sums", "limits", "trace", "active", "diverged",
        "checked", "place",
    )  # fmt: skip

    def __init__(
        self, problem: RowProblem, ridges: np.ndarray, run: LinearRun, rows: int, asked: int, rank: int, seed: int,
        limit: float,
    ):  # fmt: skip
        self.problem, self.ridges, self.settings, self.rank, self.seed = problem, ridges, run, rank, seed
        count, self.blocks = len(ridges), -(-problem.n // rows)
        self.scale = float(np.linalg.norm(problem.targets)) or 1.0
        self.w = np.zeros((problem.n, count, problem.columns))
        self.v = self.w.copy()
        self.mu, self.sums, self.norms = np.full(count, 1 / self.blocks), np.zeros(count), np.ones(count)
        self.best, self.waited, self.limits = np.ones(count), np.zeros(count, int), np.full(count, limit)
        self.trace, self.checked = np.empty((0, count)), np.full(count, np.inf)
        self.active, self.diverged = self.norms > self.limits, np.zeros(count, bool)
        self.place = np.zeros(2, int)  # numbers of the epoch and of its next block
        self.saved = run.checkpoint(n=problem.n, rows=asked, rank=rank, seed=seed, ridges=ridges.tolist(), limit=limit)
        for name, array in (self.saved.load("askotch") or {}).items():
            setattr(self, name, array)
        self.blocks = int(self.blocks)

    @property
    def stalled(self) -> np.ndarray:
        return self.waited >= STALL

    def reason(self, i: int) -> str:
        """Return why ridge `i` was given up, for a message; "" if it was not."""
        if self.diverged[i]:
            return "the iterates diverge, because K has negative eigenvalues; take a larger ridge, or check the kernel"
        if self.stalled[i]:
            return f"{STALL} epochs did not halve it; take a larger ridge or tolerance, or block_lanczos"
        return ""

    @property
    def histories(self) -> list[np.ndarray]:
        """Estimated relative residuals of each ridge after its epochs."""
        return [trace[~np.isnan(trace)] for trace in self.trace.T]

    def run(self) -> None:
        """Take blocks until no ridge is active, report the progress, and write checkpoints."""
        while self.active.any():
            epoch, block = map(int, self.place)
            order = np.random.default_rng([self.seed, epoch]).permutation(self.problem.n)
            self._step(np.array_split(order, self.blocks)[block], [self.seed, epoch, block])
            self.place = np.array([epoch, block + 1])
            if block + 1 == self.blocks:
                self._end_epoch()
            self.settings.report(len(self.trace), self.settings.max_iterations, self.norms, int(self.active.sum()))
            if self.saved.due:
                self._save()
        self._save()

    def go_on(self, wanted: np.ndarray, residuals: np.ndarray, relative: float) -> bool:
        """Activate ridges whose recomputed residual is above the tolerance, and return whether there are any.

        The estimates of residuals must then fall below a smaller limit. A ridge whose recomputed residual did not halve
        since the last call is not activated: products are not accurate enough.

        Args:
            wanted: Mask of the ridges that have not converged.
            residuals: Recomputed relative residual of each ridge.
            relative: Tolerance.
        """
        spent = np.array([len(one) for one in self.histories]) >= self.settings.max_iterations
        halved, self.checked = residuals <= self.checked / 2, np.minimum(residuals, self.checked)
        self.active = wanted & halved & ~self.diverged & ~self.stalled & ~spent
        factor = 2 * np.maximum(residuals / relative, 1)
        self.limits = np.where(self.active, np.minimum(self.limits, self.norms) / factor, self.limits)
        return bool(self.active.any())

    def _save(self) -> None:
        self.saved.save("askotch", {name: getattr(self, name) for name in self.ARRAYS})

    def _step(self, rows: Int64[np.ndarray, " b"], seed: list[int]) -> None:
        """Update the iterates of all active ridges by one block of rows.

        Args:
            rows: Indices of the rows.
            seed: Random-number seed of the approximation of the block.
        """
        here, nu = np.flatnonzero(self.active), self.blocks
        mu, ridges = self.mu[here, None], self.ridges[here, None]
        beta, gamma = 1 - np.sqrt(mu / nu), 1 / np.sqrt(mu * nu)
        share = 1 / (1 + gamma * nu)
        for i, part in zip(here, share[:, 0], strict=True):  # w becomes z, ridge by ridge without a second array
            self.w[:, i] += part * (self.v[:, i] - self.w[:, i])
        z = self.w if len(here) == len(self.ridges) else self.w[:, here]
        product, square = self.problem.row_block(rows, z.reshape(len(z), -1))
        slope = finite(product).reshape(len(rows), *z.shape[1:]) + ridges * z[rows] - self.problem.targets[rows, None]
        squares = np.sum(slope**2, axis=(0, 2))
        self.sums[here] += squares
        step = _BlockInverse(finite(square), ridges, self.rank, seed)(slope)
        lost = ~(squares < (DIVERGED * self.scale) ** 2)
        step[:, lost] = 0
        for i, part in zip(here, beta[:, 0], strict=True):
            self.v[:, i] += (1 - part) * (self.w[:, i] - self.v[:, i])
        self.w[np.ix_(rows, here)] -= step
        self.v[np.ix_(rows, here)] -= gamma * step
        self.diverged[here[lost]], self.active[here[lost]] = True, False

    def _end_epoch(self) -> None:
        """Estimate the residuals from those of the blocks, set μ for the next epoch, and end ridges that are done."""
        before, now = self.norms, np.sqrt(self.sums) / self.scale
        taken = self.active | (self.sums > 0)  # also ridges that diverged in this epoch
        self.norms = np.where(self.active, now, before)
        if window := min(WINDOW, len(self.trace)):
            earlier = np.where(np.isnan(self.trace[-window]), before, self.trace[-window])
            least = np.finfo(float).tiny
            fall = np.log(np.maximum(earlier, least) / np.maximum(self.norms, least)) / (window * self.blocks)
            mu = np.clip(LEAN * self.blocks * fall**2, self.mu / STEP, self.mu * STEP)
            slow = (fall * window * self.blocks < SLOW) & (self.mu * self.blocks < 1 / 4)
            again = self.active & (slow | (fall <= 0))
            mu = np.where(again, 1 / self.blocks, np.minimum(mu, 1 / self.blocks))
            self.mu = np.where(self.active, mu, self.mu)
            self.v[:, again] = self.w[:, again]
        self.trace = np.concatenate([self.trace, np.where(taken, now, np.nan)[None]])
        halved = self.active & (self.norms <= self.best / 2)
        self.best, self.waited = np.where(halved, self.norms, self.best), self.waited + self.active
        self.waited[halved] = 0
        self.active &= (self.norms > self.limits) & ~self.stalled
        self.active &= np.array([len(one) for one in self.histories]) < self.settings.max_iterations
        self.sums, self.place = np.zeros(len(self.sums)), np.array([self.place[0] + 1, 0])


class _BlockInverse:
    """M⁻¹ for one block and all ridges, with M = L(F Fᵀ + δI + ρI) ≽ K_BB + ρI.

    Args:
        square: K_BB (b, b).
        ridges: ρ, (ridges, 1).
        rank: Rank of F; 0: F Fᵀ is K_BB, δ is 0 and L is 1.
        seed: Random-number seed of F and of the power iterations.
    """

    def __init__(self, square: Float64[np.ndarray, "b b"], ridges: np.ndarray, rank: int, seed: list[int]):
        if rank:
            random = np.random.default_rng(seed)
            found = randomly_pivoted(np.maximum(np.diagonal(square), 0), lambda rows: square[:, rows], rank,
                                     seed=int(random.integers(2**62)))  # fmt: skip
            values, turned = np.linalg.eigh(found.factor @ found.factor.T)
            values, shift = np.maximum(values, np.finfo(float).tiny), found.residual.mean()
            self._vectors = found.factor.T @ (turned / np.sqrt(values))
        else:
            values, self._vectors = np.linalg.eigh(square)
            shift = 0.0
        self._values = np.maximum(values, 0)[:, None, None]
        self._shifts = np.maximum(ridges + shift, FLOOR * self._values.max(initial=0))
        self._shifts = np.where(self._shifts > 0, self._shifts, 1.0)  # K_BB = 0 without a ridge
        self._bound = 1.0
        if rank:
            x = random.standard_normal((len(square), len(ridges), 1))
            for _ in range(POWERS):
                x /= np.linalg.norm(x, axis=0)
                y = self(x)
                y = _times(square, y) + ridges * y
                bound, x = np.sum(x * y, axis=0), y
            self._bound = bound

    def __call__(self, right: Float64[np.ndarray, "b l c"]) -> Float64[np.ndarray, "b l c"]:
        """Return M⁻¹ times c columns for each ridge."""
        inner = _times(self._vectors.T, right)
        rest = right - _times(self._vectors, inner)
        return (_times(self._vectors, inner / (self._values + self._shifts)) + rest / self._shifts) / self._bound


def _times(matrix: Float64[np.ndarray, "p b"], right: Float64[np.ndarray, "b l c"]) -> Float64[np.ndarray, "p l c"]:
    """Return `matrix` times c columns for each of l ridges, in one matrix product."""
    return (matrix @ right.reshape(len(right), -1)).reshape(len(matrix), *right.shape[1:])
