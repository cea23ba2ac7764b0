"""Solver of least squares by block Lanczos with full reorthogonalisation: one Krylov space for all ridges and columns.

It solves min ‖A v - Y‖² + ρ‖v‖² for A (rows, p) at all ridges ρ. In the dual (rows < p) it solves (A Aᵀ + ρI)α = Y with
v = Aᵀα, and A Aᵀ and Y generate the Krylov space. Otherwise, in the primal, AᵀA and AᵀY generate the space. In the
orthonormal basis Q of the space, A Aᵀ or AᵀA is a block tridiagonal matrix T with diagonal blocks T_j and blocks B_j
below them. The right-hand side is Q E₁R: its coefficients are R in the first block and 0 in all others. Each ridge is
then a small problem (T + ρI)X = E₁R. Its block elimination,

    D_j = T_j + ρI - B_{j-1} D_{j-1}⁻¹ B_{j-1}ᵀ,    z_{j+1} = -B_j D_j⁻¹ z_j,    z_1 = R,

gives the residual at every step. In the dual, `Y - (A Aᵀ + ρI)α = Q_{j+1} z_{j+1}`, where Q_{j+1} is block j + 1 of the
basis. The primal residual of the same solution is Aᵀ times this dual residual. Its squared norm is `tr zᵀT_{j+1}z` with
z = z_{j+1}, which is exact and available after the next product.

The relative error of the predictions f is also bounded at every step: the residual bounds the error, and
‖f‖ >= tr Yᵀf / ‖Y‖. Here tr Yᵀf follows from `s = tr RᵀX = Σ tr z_jᵀD_j⁻¹z_j`. In the primal it equals s; in the dual
it equals ‖Y‖² - ρ s, because s = tr Yᵀα.

A step costs one product, and 8 · m · l · w operations of reorthogonalisation for a basis of m vectors of length l and
blocks of w columns. The cost per ridge is negligible. (Golub & Underwood, Mathematical Software III, 1977; shifted
systems as in Frommer, Computing 70, 2003.)
"""

from collections.abc import Callable

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.shapes import Float64
from linearized.solvers.linear import cg
from linearized.solvers.linear.driver import LinearRun, TimedCheckpoint, least_squares_solver
from linearized.solvers.linear.solution import (
    LinearProblem,
    Solution,
    basis_bytes,
    basis_room,
    finite,
    measured,
    ridge_batch,
)

DROP = 1e-10  # new directions shorter than this fraction of the product are rounding errors and are left out
# Smallest relative residual for which float32 products are tried; they stagnate near 1e-4 for kernels of 10,000 images.
# Their error is 4e-7 ‖K‖‖v‖, so the residual they reach grows as ‖K‖/ρ and this constant guarantees nothing:
# residuals are recomputed with accurate products, and a run that misses its tolerance is repeated with those.
ROUGH = 3e-4
PANEL = 64  # basis vectors per array


@least_squares_solver(interval=10.0)
def solve(problem: LinearProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve min ‖A v - Y‖² + ρ‖v‖², or kernel ridge regression (K + ρI)α = Y, at every ridge ρ by block Lanczos.

    Each step multiplies one block of `problem.block` columns, as many as the problem can multiply at little extra cost.
    The first block consists of the right-hand side (Y in the dual, AᵀY in the primal) and of random columns from a
    fixed seed. The random columns only enlarge the Krylov space. The number of steps is about proportional to one over
    the square root of the number of columns (n = 5,000, one label: 206 steps with blocks of 1 column, 107 with 4, 48
    with 21). For A of shape (rows, p), the basis grows by 8 · min(rows, p) · block bytes per step; blocks are narrower
    if the basis would not fit in memory.

    If the basis would exceed the spare memory of the problem (at least 256 MiB), or if a recomputed residual misses the
    tolerance, CG continues from the current solution. Solutions are computed from the whole basis at every ridge, also
    from the steps after the ridge was solved.

    With `run.accuracy` a ridge counts as solved when the bound on the relative error of its predictions is at most half
    of the accuracy. If the problem has a `rough_product`, which is faster and less accurate, it is used for a relative
    tolerance of at least 3e-4. If a recomputed residual then misses the tolerance, the run is repeated with accurate
    products.

    Args:
        problem: A and Y, or K and Y, accessed by products alone.
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. Iterations are
            products, and progress is reported after each of them.

    Returns:
        A solution for each ridge; if it has not converged, its `message` states the reason.
    """
    start = problem.targets if problem.dual else finite(problem.moment())
    saved = run.checkpoint(dual=problem.dual, shape=start.shape)
    rough = getattr(problem, "rough_product", None)
    if run.tolerance(float(np.linalg.norm(start)), problem.n).relative < ROUGH:
        rough = None
    for product in (rough, None) if rough else (None,):
        state = _Lanczos(problem, start, ridges, run, saved, product)
        state.iterate()
        duals, values = state.values()
        solutions = measured(problem, ridges, values, state.histories(), state.tolerance, duals)
        if product is None or all(solution.converged for solution in solutions):
            break
        logging.info("rough products were not enough; again with accurate ones")
    return cg.polish(problem, solutions, state.tolerance, run, duals)


class _Lanczos:
    """One run of block Lanczos: the basis Q, the block tridiagonal matrix T, and the small problem of each ridge.

    If there are checkpoints of the run, they are restored, including their number of columns per block. The problem may
    state a different number of columns, which depends on a measurement of the machine's speed.

    Args:
        problem: Problem to solve.
        start: Right-hand side, the beginning of the first block: Y in the dual, AᵀY in the primal.
        ridges: ρ, (r,).
        run: Settings of the solver's call.
        checkpoint: Checkpoints of the run.
        product: Function that multiplies by A Aᵀ (dual) or AᵀA (primal); None: the accurate product of the problem.
    """

    def __init__(
        self, problem: LinearProblem, start: np.ndarray, ridges: np.ndarray, run: LinearRun,
        checkpoint: TimedCheckpoint, product: Callable[[np.ndarray], np.ndarray] | None = None,
    ):  # fmt: skip
        self.problem, self.ridges, self.run = problem, ridges, run
        self.apply = product or (problem.dual_product if problem.dual else problem.primal_product)
        self.checkpoint, self.name = checkpoint, "lanczos" if product is None else "rough"
        begun = checkpoint.load(f"{self.name}-start")
        self.width = width = int(begun["width"]) if begun else _block(problem)
        self.basis = _Basis(len(start))
        wide = np.concatenate([start, _extra(start, width - problem.columns)], axis=1)
        self.block, first = _independent(wide, DROP * np.linalg.norm(start, axis=0).max(initial=0))
        first = first[:, : start.shape[1]]
        self.basis.add(self.block)
        self.small = _SmallProblems(ridges, first)
        self.diagonals: list[np.ndarray] = []
        self.below: list[np.ndarray] = []
        self.saved = 0
        self.trace = np.empty((0, len(ridges)))  # NaN where a ridge was already done
        self.residuals = np.ones(len(ridges))
        self.active = np.full(len(ridges), self.block.shape[1] > 0)
        # In the primal Aᵀy is available; in the dual its norm follows from the first product, unless Y = 0.
        self.tolerance = run.tolerance(float(np.linalg.norm(first)), problem.n)
        self._restore(begun)

    def iterate(self) -> None:
        """Perform steps until every ridge is solved, all iterations are used, or the basis fills the available memory.

        Progress is reported after each step, and checkpoints are written.
        """
        most = basis_room(self.problem) // (8 * self.basis.length)
        while self.active.any() and self.iteration < self.run.max_iterations:
            if len(self.basis) > most:
                logging.info("the basis of %d vectors is all that fits; CG goes on", len(self.basis))
                break
            self.step()
            self.run.report(self.iteration, self.run.max_iterations, self.residuals, int(self.active.sum()))
            if self.checkpoint.due:
                self.save()
        self.save()

    @property
    def iteration(self) -> int:
        """Number of steps so far, each of which takes one product."""
        return len(self.diagonals)

    def step(self) -> None:
        """Perform one block Lanczos step: multiply the last block of the basis, and orthogonalise the product."""
        product = finite(self.apply(self.block))
        diagonal = self.block.T @ product
        rest = self.basis.reject(product)
        fresh, left = _independent(rest, DROP * np.linalg.norm(product, axis=0).max())
        # Orthogonalise again after scaling to unit length, which magnifies the rounding errors of short vectors.
        fresh, again = np.linalg.qr(self.basis.reject(fresh))
        self._take((diagonal + diagonal.T) / 2, again @ left, fresh)

    def _take(self, diagonal: np.ndarray, below: np.ndarray, fresh: np.ndarray) -> None:
        """Append the blocks of one step to T and to the basis, and update the residuals of all ridges.

        Args:
            diagonal: Diagonal block T_j of T.
            below: Block B_j below it.
            fresh: Next block of basis vectors, `Q_{j+1}`, one per column.
        """
        if self.problem.dual:
            self._note(np.sqrt(np.maximum(np.einsum("rwc,wv,rvc->r", self.small.z, diagonal, self.small.z), 0)))
        self.small.eliminate(diagonal, below)
        if not self.problem.dual:
            self._note(np.linalg.norm(self.small.z, axis=(1, 2)))
        elif fresh.shape[1] == 0:
            self.trace[-1, self.active] = 0.0  # the space is exhausted, so the solution is exact
            self.residuals[self.active] = 0.0
        self.diagonals.append(diagonal)
        self.below.append(below)
        self.basis.add(fresh)
        self.block = fresh
        self.active &= ~self._done() & (fresh.shape[1] > 0)

    def _done(self) -> np.ndarray:
        """Return whether each ridge meets the tolerance, (r,).

        If an accuracy of the predictions was requested, the bound on their error must be at most half of the accuracy,
        because recomputed errors are larger.
        """
        accuracy, small, size = self.tolerance.accuracy, self.small, np.linalg.norm(self.problem.targets)
        if accuracy is None:
            return self.residuals <= self.tolerance.relative
        left = np.linalg.norm(small.z, axis=(1, 2))
        if self.problem.dual:
            errors, along = left, size**2 - self.ridges * small.energy
        else:
            bounds = [self.problem.prediction_bound(*one) for one in zip(left.tolist(), self.ridges, strict=True)]
            errors, along = np.array(bounds), small.energy
        return cg.MARGIN * errors * size <= accuracy * along

    def _note(self, norms: np.ndarray) -> None:
        if self.problem.dual and not self.diagonals:
            self.tolerance = self.run.tolerance(float(norms[0]), self.problem.n)
        relative = norms / (self.tolerance.moment_norm or 1.0)
        self.residuals = np.where(self.active, relative, self.residuals)
        self.trace = np.concatenate([self.trace, np.where(self.active, relative, np.nan)[None]])

    def histories(self) -> list[np.ndarray]:
        """Return the relative residuals after each step, one array per ridge, up to the step at which it was solved."""
        return [trace[~np.isnan(trace)] for trace in self.trace.T]

    def values(self) -> tuple[list[np.ndarray] | None, list[np.ndarray] | None]:
        """Return the solutions at every ridge, computed from the whole basis.

        Returns:
            α of each ridge (None in the primal), and v of each ridge (None in the dual, where v = Aᵀα).
        """
        small, vectors, size = self.small.solve(), [], ridge_batch(self.problem)
        for batch in (small[i : i + size] for i in range(0, len(small), size)):
            vectors += np.split(self.basis.combine(np.concatenate(batch, axis=1)), len(batch), axis=1)
        return (vectors, None) if self.problem.dual else (None, vectors)

    def save(self) -> None:
        """Write a checkpoint: the first block, once, and the steps since the last checkpoint in a file of their own."""
        save, name = self.checkpoint.save, self.name
        if self.saved == 0:
            first = self.basis.vectors(0, self.small.first_width)
            save(f"{name}-start", {"block": first, "width": np.array(self.width)})
        if self.saved < self.iteration:
            steps = range(self.saved, self.iteration)
            arrays = {f"diagonal{j}": self.diagonals[j] for j in steps} | {f"below{j}": self.below[j] for j in steps}
            first = self.small.first_width + sum(len(below) for below in self.below[: self.saved])
            save(f"{name}-{self.saved:06d}", arrays | {"basis": self.basis.vectors(first, len(self.basis))})
        self.saved = self.iteration

    def _restore(self, start: dict[str, np.ndarray] | None) -> None:
        """Restore the steps in the checkpoints up to the first missing file, and delete files after the gap.

        Args:
            start: Checkpoint of the first block. If it is None or differs from the present first block, nothing is
                restored, and all checkpoints are deleted.
        """
        checkpoint, name = self.checkpoint, self.name
        same = start is not None and start["block"].shape == self.block.T.shape
        if not same or not np.allclose(start["block"], self.block.T, atol=1e-6):
            checkpoint.forget(f"{name}-*")
            return
        while (segment := checkpoint.load(f"{name}-{self.iteration:06d}")) is not None:
            first = 0
            for _ in range(sum(part.startswith("below") for part in segment)):
                diagonal, below = (segment[f"{part}{self.iteration}"] for part in ("diagonal", "below"))
                self._take(diagonal, below, segment["basis"][first : first + len(below)].T)
                first += len(below)
        self.saved = self.iteration
        checkpoint.forget(f"{name}-[0-9]*", keep=lambda file: int(file.split("-")[1]) < self.iteration)


class _SmallProblems:
    """The small problems (T + ρI)X = E₁R of all ridges, solved by block elimination while T grows.

    T is the block tridiagonal matrix of block Lanczos. E₁R is the right-hand side in the Lanczos basis: its first block
    is R, and all others are 0. Arrays are (r, w, ...) for r ridges and a block of w columns.

    Args:
        ridges: ρ, (r,).
        first: R, (w, columns).
    """

    def __init__(self, ridges: np.ndarray, first: np.ndarray):
        self.ridges, self.first_width, self.columns = ridges, *first.shape
        self.z = np.repeat(first[None], len(ridges), axis=0)
        self.energy = np.zeros(len(ridges))  # tr RᵀX of each ridge
        self.update: np.ndarray | float = 0.0  # B D⁻¹Bᵀ of the previous block
        self.solved: list[np.ndarray] = []  # D⁻¹z
        self.links: list[np.ndarray] = []  # D⁻¹Bᵀ

    def eliminate(self, diagonal: np.ndarray, below: np.ndarray) -> None:
        """Append the blocks of a step to T, and set `z` to the residuals' coefficients in the next block of the basis.

        Args:
            diagonal: Diagonal block T_j.
            below: Block B_j below it.

        Raises:
            UserError: If the matrix is singular, which happens only at a ridge of 0.
        """
        pivot = diagonal + self.ridges[:, None, None] * np.eye(len(diagonal)) - self.update
        right = np.concatenate([self.z, np.broadcast_to(below.T, (len(self.ridges), *below.T.shape))], axis=2)
        try:
            solved = np.linalg.solve(pivot, right)
        except np.linalg.LinAlgError as error:
            raise UserError("The features depend on each other and the ridge is 0. Take a ridge above 0.") from error
        self.energy += np.sum(self.z * solved[..., : self.columns], axis=(1, 2))
        self.solved.append(solved[..., : self.columns])
        self.links.append(solved[..., self.columns :])
        self.z = -below @ self.solved[-1]
        self.update = below @ self.links[-1]

    def solve(self) -> list[np.ndarray]:
        """Return the solution X (size, columns) for every ridge, by back substitution; T has `size` rows."""
        blocks, after = [], None
        for solved, link in zip(reversed(self.solved), reversed(self.links), strict=True):
            after = solved if after is None else solved - link @ after
            blocks.append(after)
        if not blocks:
            return [np.zeros((0, self.columns))] * len(self.ridges)
        return list(np.concatenate(blocks[::-1], axis=1))


class _Basis:
    """Orthonormal vectors of the same length, stored in panels so that growing the basis copies nothing."""

    def __init__(self, length: int):
        self.length, self.size = length, 0
        self.panels: list[np.ndarray] = []

    def __len__(self) -> int:
        return self.size

    def add(self, block: np.ndarray) -> None:
        """Append the columns of `block` to the basis; they must be orthonormal and orthogonal to it."""
        for column in block.T:
            if self.size % PANEL == 0:
                self.panels.append(np.empty((PANEL, self.length)))
            self.panels[-1][self.size % PANEL] = column
            self.size += 1

    def reject(self, block: np.ndarray) -> np.ndarray:
        """Return the part of each column of `block` that is orthogonal to the basis.

        Rounding errors are proportional to the norm of the column, even if the returned part is much smaller.
        """
        rest = np.array(block)
        for panel in self._filled():
            rest -= panel.T @ (panel @ rest)
        return rest

    def combine(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the linear combinations Q X of the basis vectors Q.

        Args:
            coefficients: X, one row per basis vector; the last basis vectors may have no row, which counts as 0.
        """
        total = np.zeros((self.length, coefficients.shape[1]))
        for i, panel in enumerate(self._filled()):
            part = coefficients[i * PANEL : (i + 1) * PANEL]
            total += panel[: len(part)].T @ part
        return total

    def vectors(self, start: int, stop: int) -> np.ndarray:
        """Return the basis vectors with the indices `start` to `stop` - 1, one per row."""
        rows = [self.panels[i // PANEL][i % PANEL] for i in range(start, stop)]
        return np.array(rows).reshape(-1, self.length)

    def _filled(self) -> list[np.ndarray]:
        last = self.size - PANEL * (len(self.panels) - 1)
        return [*self.panels[:-1], self.panels[-1][:last]] if self.panels else []


def _independent(block: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Q with orthonormal columns and R such that block ≈ Q R.

    Args:
        block: Columns, which may be linearly dependent.
        floor: Length up to which a direction counts as 0. Such directions are left out, so that Q may have fewer
            columns than the block.
    """
    if min(block.shape) == 0:
        return np.empty((len(block), 0)), np.empty((0, block.shape[1]))
    q, r = np.linalg.qr(block)  # without pivoting, because LAPACK's pivoted QR of all rows would not use BLAS-3
    turn, lengths, right = np.linalg.svd(r, full_matrices=False)
    rank = int(np.sum(lengths > floor))
    if rank == len(lengths):
        return q, r
    return q @ turn[:, :rank], lengths[:rank, None] * right[:rank]


def _block(problem: LinearProblem) -> int:
    """Return the number of columns per block: `problem.block`, or fewer if the basis would not fit in memory."""
    return next(
        (
            block
            for block in range(problem.block, problem.columns, -1)
            if basis_bytes(problem, block) <= basis_room(problem)
        ),
        problem.columns,
    )


def _extra(start: np.ndarray, columns: int) -> np.ndarray:
    """Return random columns that enlarge the first block; they are the same in every run.

    Args:
        start: Columns of the right-hand side. The random columns have about the norm of the longest of them.
        columns: Number of random columns.
    """
    random = np.random.default_rng(0).standard_normal((len(start), columns))
    return random * (np.linalg.norm(start, axis=0).max(initial=0) / np.sqrt(max(len(start), 1)))
