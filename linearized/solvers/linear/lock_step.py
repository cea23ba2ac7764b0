"""Conjugate gradients for several ridges with different right-hand sides, side by side in one product per step.

In multi-shift CG (`linearized.solvers.linear.multi_shift`) all ridges have the same right-hand side. Here each ridge i
has its own, the residual bᵢ of an approximate solution, and the systems are (H + ρᵢI)vᵢ = bᵢ. H is AᵀA, or A Aᵀ in the
dual. Every column has its own coefficients of CG. The ridges share the pass over A, which is most of the cost if A is
read from files or recomputed. With a preconditioner, this CG refines solutions from a factorisation of K + ρI
(`linearized.solvers.linear.refinement`).
"""

from collections.abc import Callable

import numpy as np

from linearized.solvers.linear.multi_shift import EXHAUSTED

Precondition = Callable[[np.ndarray, np.ndarray], np.ndarray]


class LockStep:
    """Conjugate gradients for the systems (H + ρᵢI)vᵢ = bᵢ of r ridges, performed step by step.

    Call `step` until no ridge is `active`. Arrays are (r, p, c) for r ridges and c columns of length p, the side of H.

    Args:
        b: Right-hand sides (r, p, c).
        ridges: ρ of each system, (r,).
        limit: Norm of the primal residual of a ridge, over all its columns, at which the ridge counts as solved: one
            number, or one for each ridge.
        steps: Largest number of products for each ridge, (r,).
        primal_norms: In the dual, ‖Aᵀbᵢ‖ of each ridge; None in the primal.
        precondition: In the primal, a function of residuals (l, p, c) and the indices of their ridges (l,) that
            returns approximately (H + ρI)⁻¹ times the residuals; None: no preconditioner.
        stall: Number of steps within which the residual of a ridge must halve; otherwise the ridge is stopped. None
            never stops a ridge.

    Attributes:
        values: The current v of every ridge, (r, p, c).
        norms: Last known norm of the primal residual of each ridge, (r,): in the primal at `values`, in the dual at the
            iterate before `values`.
        trace: `norms` after each product, (products, r); NaN where a ridge was already solved.
        active: Mask of the ridges that `step` still updates, (r,).
    """

    def __init__(
        self, b: np.ndarray, ridges: np.ndarray, limit: float | np.ndarray, steps: np.ndarray,
        primal_norms: np.ndarray | None = None, precondition: Precondition | None = None, stall: int | None = None,
    ):  # fmt: skip
        self.ridges, self.limit, self.steps = ridges[:, None, None], limit, steps
        self.precondition, self.stall = precondition or (lambda residuals, _: residuals), stall
        self.values, self.residuals = np.zeros_like(b), b.copy()
        self.directions = np.array(self.precondition(b, np.arange(len(b))))
        self.squares = np.sum(b * self.directions, axis=1)
        self.floor = EXHAUSTED**2 * self.squares
        self.dual = primal_norms is not None
        self.images, self.betas = np.zeros_like(b if self.dual else b[:, :0]), np.zeros_like(self.squares)
        self.trace = np.empty((0, len(b)))
        self.norms = np.array(primal_norms) if self.dual else np.sqrt(np.sum(b**2, axis=(1, 2)))
        self.best, self.waited = self.norms.copy(), np.zeros(len(b), int)
        self.active = (self.norms > limit) & (steps > 0)

    @property
    def iteration(self) -> int:
        """Number of steps so far, each of which takes one product with H."""
        return len(self.trace)

    def step(self, product: Callable[[np.ndarray], np.ndarray]) -> None:
        """Perform one step of CG for all active ridges, with one product for their search directions.

        A column of a ridge is no longer updated in two cases: its residual (in the norm of the preconditioner) has
        fallen by a factor of 1e15, or the curvature along its search direction is 0 up to rounding errors.

        Args:
            product: Function that returns H times a matrix whose columns have length p.
        """
        here = np.flatnonzero(self.active)
        p = self.directions[here]
        beside = np.ascontiguousarray(p.transpose(1, 0, 2)).reshape(p.shape[1], -1)
        image = product(beside).reshape(p.shape[1], len(here), -1).transpose(1, 0, 2)
        if self.dual:
            fresh = image - self.betas[here][:, None] * self.images[here]
            lengths = np.sum(self.residuals[here] * fresh, axis=1)
            self.images[here] = image
            self._note(here, lengths)
        q = image + self.ridges[here] * p
        curvature, square = np.sum(p * q, axis=1), self.squares[here]
        alive = (square > self.floor[here]) & (curvature > 0)
        moving = alive & self.active[here][:, None]
        alpha = np.where(moving, square / np.where(alive, curvature, 1), 0)[:, None]
        self.values[here] += alpha * p
        self.residuals[here] -= alpha * q
        if not self.dual:
            self._note(here, np.sum(self.residuals[here] ** 2, axis=1))
        self.active[here] &= alive.any(axis=1)
        self.active &= self.iteration < self.steps
        kept = self.active[here]
        self._turn(here[kept], p[kept], square[kept], alive[kept])

    def _turn(self, here: np.ndarray, p: np.ndarray, square: np.ndarray, alive: np.ndarray) -> None:
        """Set the search directions of the next step for some ridges.

        Args:
            here: Indices of l ridges.
            p: Last search directions of these ridges, (l, p, c).
            square: Inner products of the last residuals and preconditioned residuals of these ridges, (l, c).
            alive: Mask (l, c) of the columns that are still updated.
        """
        if not here.size:
            return
        residuals = self.residuals[here]
        z = self.precondition(residuals, here)
        fresh = np.where(alive, np.sum(residuals * z, axis=1), square)
        beta = np.where(alive, fresh / np.where(alive, square, 1), 0)
        self.directions[here] = z + beta[:, None] * p
        self.squares[here], self.betas[here] = fresh, beta

    def _note(self, here: np.ndarray, squares: np.ndarray) -> None:
        """Store the residuals after a step; set ridges inactive that are solved or whose residual stagnates.

        Args:
            here: Indices of the l ridges that took the step.
            squares: Squared norms of the primal residuals of these ridges in each column, (l, c).
        """
        self.norms[here] = np.sqrt(np.maximum(np.sum(squares, axis=1), 0))
        self.trace = np.concatenate([self.trace, np.where(self.active, self.norms, np.nan)[None]])
        self.active &= self.norms > self.limit
        halved = self.norms <= self.best / 2
        self.waited = np.where(halved, 0, self.waited + 1)
        self.best = np.where(halved, self.norms, self.best)
        if self.stall is not None:
            self.active &= self.waited < self.stall

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays that `step` changes, for a checkpoint."""
        names = ("values", "directions", "residuals", "squares", "images", "betas", "norms", "trace", "active", "best",
                 "waited")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def restore(self, arrays: dict[str, np.ndarray] | None) -> None:
        """Continue from the arrays of a checkpoint, which the method `arrays` returned; None changes nothing."""
        for name, array in (arrays or {}).items():
            setattr(self, name, array)
