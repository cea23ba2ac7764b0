"""Conjugate gradients for several ridges and right-hand sides of their own, side by side in one product a step.

Where multi-shift CG (linearized.solvers.cg) has one right-hand side for all ridges, here each ridge goes on from where
another solver left it, with a residual of its own: (AᵀA + ρᵢI)vᵢ = bᵢ. Every column has its own coefficients; what the
ridges share is the pass over A, which is most of the cost where A is read from files or made anew.
"""

from collections.abc import Callable

import numpy as np

EXHAUSTED = 1e-15  # a column whose running residual has fallen by this factor is done


class LockStep:
    """The state; (r, p, c) for r ridges and c columns each.

    Args:
        b: Right-hand sides (r, p, c).
        ridges: ρ of each, (r,).
        limit: ‖b - Hv‖, over the columns of a ridge, at which it is done.
        steps: How many each ridge may take, (r,).
    """

    def __init__(self, b: np.ndarray, ridges: np.ndarray, limit: float, steps: np.ndarray):
        self.ridges, self.limit, self.steps = ridges[:, None, None], limit, steps
        self.values, self.directions, self.residuals = np.zeros_like(b), b.copy(), b.copy()
        self.squares = np.sum(b**2, axis=1)
        self.floor = EXHAUSTED**2 * self.squares
        self.trace = np.empty((0, len(b)))  # NaN where a ridge was done before
        self.active = (self.norms > limit) & (steps > 0)

    @property
    def iteration(self) -> int:
        """Products so far."""
        return len(self.trace)

    @property
    def norms(self) -> np.ndarray:
        """The running residual of each ridge, over its columns."""
        return np.sqrt(np.sum(self.squares, axis=1))

    def step(self, product: Callable[[np.ndarray], np.ndarray]) -> None:
        """One product with the directions of all ridges that are not done.

        A column stands still once its residual is exhausted, or if rounding has taken the curvature along it.
        """
        here = np.flatnonzero(self.active)
        p = self.directions[here]
        beside = np.ascontiguousarray(p.transpose(1, 0, 2)).reshape(p.shape[1], -1)
        q = product(beside).reshape(p.shape[1], len(here), -1).transpose(1, 0, 2) + self.ridges[here] * p
        curvature, square = np.sum(p * q, axis=1), self.squares[here]
        alive = (square > self.floor[here]) & (curvature > 0)
        alpha = np.where(alive, square / np.where(alive, curvature, 1), 0)[:, None]
        self.values[here] += alpha * p
        residuals = self.residuals[here] - alpha * q
        fresh = np.where(alive, np.sum(residuals**2, axis=1), square)
        beta = np.where(alive, fresh / np.where(alive, square, 1), 0)[:, None]
        self.residuals[here], self.directions[here], self.squares[here] = residuals, residuals + beta * p, fresh
        self.trace = np.concatenate([self.trace, np.where(self.active, self.norms, np.nan)[None]])
        self.active[here] &= alive.any(axis=1)
        self.active &= (self.norms > self.limit) & (self.iteration < self.steps)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `step` changes."""
        names = ("values", "directions", "residuals", "squares", "trace", "active")
        return {name: getattr(self, name) for name in names}

    def restore(self, arrays: dict[str, np.ndarray] | None) -> None:
        """Goes on where `arrays` were taken; None changes nothing."""
        for name, array in (arrays or {}).items():
            setattr(self, name, array)
