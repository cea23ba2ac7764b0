"""Block Lanczos with full reorthogonalisation: one Krylov space for all ridges and all columns.

In the dual (rows < p) the space is that of A Aᵀ and Y, with v = Aᵀα and (A Aᵀ + ρI)α = Y; else that of AᵀA and AᵀY.
In the basis Q the operator is block tridiagonal, T with diagonal blocks T_j and B_j below them, and every ridge is a
small problem (T + ρI)X = E₁R. Its block elimination,

    D_j = T_j + ρI - B_{j-1} D_{j-1}⁻¹ B_{j-1}ᵀ,    z_{j+1} = -B_j D_j⁻¹ z_j,    z_1 = R,

gives the residual as it goes: Y - (A Aᵀ + ρI)α = Q_{j+1} z_{j+1}. A dual residual r is a primal one of Aᵀr, whose norm
is tr zᵀT_{j+1}z: exact, and known one product later. A step costs one product, 8 · size · side · block operations of
reorthogonalisation, and next to nothing a ridge. (Golub & Underwood, Mathematical Software III, 1977; shifted systems
as in Frommer, Computing 70, 2003.)
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg
from absl import logging

from linearized.base.errors import UserError
from linearized.base.shapes import Float64
from linearized.solvers.linear import cg
from linearized.solvers.linear.driver import LinearRun, TimedCheckpoint, linear_solver
from linearized.solvers.linear.solution import (
    LinearProblem,
    Solution,
    basis_bytes,
    basis_room,
    finite,
    measured,
    ridge_batch,
)

DROP = 1e-10  # a new direction below this share of the product is rounding, and is left out
# Smallest relative residual for which float32 products are tried. Those of kernels of 10,000 images stagnate near 1e-4.
# They err by 4e-7 ‖K‖‖v‖, so that the residual they reach grows as ‖K‖/ρ: nothing is promised by this constant alone,
# since residuals are recomputed with accurate products, and a run that missed its tolerance is repeated with these.
ROUGH = 3e-4
PANEL = 64  # basis vectors that are held together


@linear_solver(interval=10.0)
def solve(problem: LinearProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve the problem at every ridge. The arguments are those of `linearized.solvers.linear.cg.solve`.

    A block has `problem.block` columns, the ones beyond the labels' random: they take no part in the solutions, but
    widen the space, and a problem asks for as many as its products take at little cost. The number of steps falls
    about as one over the square root of the block (n = 5,000, one label: 206 steps with a block of 1, 107 with 4, 48
    with 21). The basis grows by 8 · min(rows, p) · block bytes a step; the block is narrower where that would not fit.

    If it would outgrow the problem's spare memory, or a recomputed residual misses its tolerance, CG goes on from
    there. `value` is taken from the whole basis at every ridge, so it is at least as good as `history` says.

    A tolerance of ROUGH or more is met by a problem's quicker `rough_product`, where it has one; if a recomputed
    residual shows that it is not, the run is made again with accurate products.
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
    """The state of a run: basis, projected operator, ridges; as far as it was saved before.

    The width of the saved block counts, for a problem may choose another one after measuring anew.
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
        self.trace = np.empty((0, len(ridges)))  # NaN where a ridge was done before
        self.residuals = np.ones(len(ridges))
        self.active = np.full(len(ridges), self.block.shape[1] > 0)
        # In the primal Aᵀy is at hand; in the dual its norm comes with the first product, unless Y = 0.
        self.tolerance = run.tolerance(float(np.linalg.norm(first)), problem.n)
        self._restore(begun)

    def iterate(self) -> None:
        """Perform steps until every ridge is done, the steps are spent or the basis is all that fits."""
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
        """Products so far."""
        return len(self.diagonals)

    def step(self) -> None:
        """One product, one block more."""
        product = finite(self.apply(self.block))
        diagonal = self.block.T @ product
        rest = self.basis.reject(product)
        fresh, left = _independent(rest, DROP * np.linalg.norm(product, axis=0).max())
        # Once more on unit vectors: small ones carry the basis' rounding of the large ones, magnified.
        fresh, again = np.linalg.qr(self.basis.reject(fresh))
        self._take((diagonal + diagonal.T) / 2, again @ left, fresh)

    def _take(self, diagonal: np.ndarray, below: np.ndarray, fresh: np.ndarray) -> None:
        """Enters T_j, B_j and Q_{j+1}, and the residuals that they tell."""
        if self.problem.dual:
            self._note(np.sqrt(np.maximum(np.einsum("rwc,wv,rvc->r", self.small.z, diagonal, self.small.z), 0)))
        self.small.eliminate(diagonal, below)
        if not self.problem.dual:
            self._note(np.linalg.norm(self.small.z, axis=(1, 2)))
        elif fresh.shape[1] == 0:
            self.trace[-1, self.active] = 0.0  # the space is exhausted: what comes next is nothing
            self.residuals[self.active] = 0.0
        self.diagonals.append(diagonal)
        self.below.append(below)
        self.basis.add(fresh)
        self.block = fresh
        self.active &= (self.residuals > self.tolerance.relative) & (fresh.shape[1] > 0)

    def _note(self, norms: np.ndarray) -> None:
        if self.problem.dual and not self.diagonals:
            self.tolerance = self.run.tolerance(float(norms[0]), self.problem.n)
        relative = norms / (self.tolerance.moment_norm or 1.0)
        self.residuals = np.where(self.active, relative, self.residuals)
        self.trace = np.concatenate([self.trace, np.where(self.active, relative, np.nan)[None]])

    def histories(self) -> list[np.ndarray]:
        """The running residuals of each ridge, up to where it was done."""
        return [trace[~np.isnan(trace)] for trace in self.trace.T]

    def values(self) -> tuple[list[np.ndarray] | None, list[np.ndarray]]:
        """Return α (None in the primal) and v of every ridge, from the whole basis."""
        small, vectors, size = self.small.solve(), [], ridge_batch(self.problem)
        for batch in (small[i : i + size] for i in range(0, len(small), size)):
            vectors += np.split(self.basis.combine(np.concatenate(batch, axis=1)), len(batch), axis=1)
        return (vectors, cg.primal_values(self.problem, vectors)) if self.problem.dual else (None, vectors)

    def save(self) -> None:
        """Writes the steps since the last time into a file of their own."""
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
        """Takes up the saved steps, as far as their files follow each other without a gap."""
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
    """(T + ρI)X = E₁R for every ridge by block elimination, a block at a time; (r, w, ...) for r ridges."""

    def __init__(self, ridges: np.ndarray, first: np.ndarray):
        self.ridges, self.first_width, self.columns = ridges, *first.shape
        self.z = np.repeat(first[None], len(ridges), axis=0)
        self.update: np.ndarray | float = 0.0  # B D⁻¹Bᵀ of the block before
        self.solved: list[np.ndarray] = []  # D⁻¹z
        self.links: list[np.ndarray] = []  # D⁻¹Bᵀ

    def eliminate(self, diagonal: np.ndarray, below: np.ndarray) -> None:
        """Enters T_j and B_j; z becomes the coefficients of the residual in the next block."""
        pivot = diagonal + self.ridges[:, None, None] * np.eye(len(diagonal)) - self.update
        right = np.concatenate([self.z, np.broadcast_to(below.T, (len(self.ridges), *below.T.shape))], axis=2)
        try:
            solved = np.linalg.solve(pivot, right)
        except np.linalg.LinAlgError as error:
            raise UserError("The features depend on each other and the ridge is 0. Take a ridge above 0.") from error
        self.solved.append(solved[..., : self.columns])
        self.links.append(solved[..., self.columns :])
        self.z = -below @ self.solved[-1]
        self.update = below @ self.links[-1]

    def solve(self) -> list[np.ndarray]:
        """X of every ridge, (size, columns), by substitution from the last block back."""
        blocks, after = [], None
        for solved, link in zip(reversed(self.solved), reversed(self.links), strict=True):
            after = solved if after is None else solved - link @ after
            blocks.append(after)
        if not blocks:
            return [np.zeros((0, self.columns))] * len(self.ridges)
        return list(np.concatenate(blocks[::-1], axis=1))


class _Basis:
    """Orthonormal vectors of one length, held in panels so that growing copies nothing."""

    def __init__(self, length: int):
        self.length, self.size = length, 0
        self.panels: list[np.ndarray] = []

    def __len__(self) -> int:
        return self.size

    def add(self, block: np.ndarray) -> None:
        """Takes up the columns of `block`."""
        for column in block.T:
            if self.size % PANEL == 0:
                self.panels.append(np.empty((PANEL, self.length)))
            self.panels[-1][self.size % PANEL] = column
            self.size += 1

    def reject(self, block: np.ndarray) -> np.ndarray:
        """What of `block` is orthogonal to the basis, up to rounding of the whole."""
        rest = np.array(block)
        for panel in self._filled():
            rest -= panel.T @ (panel @ rest)
        return rest

    def combine(self, coefficients: np.ndarray) -> np.ndarray:
        """Q X for X of (at most size, columns)."""
        total = np.zeros((self.length, coefficients.shape[1]))
        for i, panel in enumerate(self._filled()):
            part = coefficients[i * PANEL : (i + 1) * PANEL]
            total += panel[: len(part)].T @ part
        return total

    def vectors(self, start: int, stop: int) -> np.ndarray:
        """Vectors start to stop, a row each."""
        rows = [self.panels[i // PANEL][i % PANEL] for i in range(start, stop)]
        return np.array(rows).reshape(-1, self.length)

    def _filled(self) -> list[np.ndarray]:
        last = self.size - PANEL * (len(self.panels) - 1)
        return [*self.panels[:-1], self.panels[-1][:last]] if self.panels else []


def _independent(block: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Q and R with block ≈ Q R, Q orthonormal; directions of length at most `floor` are left out."""
    if min(block.shape) == 0:
        return np.empty((len(block), 0)), np.empty((0, block.shape[1]))
    q, square = np.linalg.qr(block)  # of all rows without pivoting, which LAPACK does without BLAS-3
    turn, r, order = scipy.linalg.qr(square, mode="economic", pivoting=True, check_finite=False)
    rank = int(np.sum(np.abs(np.diag(r)) > floor))
    return q @ turn[:, :rank], r[:rank, np.argsort(order)]


def _block(problem: LinearProblem) -> int:
    """The problem's block, narrower if its basis would not fit."""
    return next(
        (
            block
            for block in range(problem.block, problem.columns, -1)
            if basis_bytes(problem, block) <= basis_room(problem)
        ),
        problem.columns,
    )


def _extra(start: np.ndarray, columns: int) -> np.ndarray:
    """Random columns as long as the longest of `start`: the same in every run."""
    random = np.random.default_rng(0).standard_normal((len(start), columns))
    return random * (np.linalg.norm(start, axis=0).max(initial=0) / np.sqrt(max(len(start), 1)))
