"""Multi-shift conjugate gradients: (H + ρI)v = b for all ridges ρ with one product with H per step.

All ridges share the Krylov space of H and b, and their residuals are parallel (Frommer, Computing 70, 2003;
Jegerlehner, hep-lat/9612014). CG therefore runs at the smallest ridge, and its coefficients also determine the steps at
all other ridges. Two vectors are stored for each ridge. Every column of b has its own coefficients.

H is AᵀA and b is AᵀY in the primal; in the dual H is A Aᵀ and b is Y. In both cases the primal residual decides whether
a ridge counts as solved. In the dual, the primal residual is Aᵀs for a residual s. Its squared norm sᵀHs is known after
the next product, because s is a combination of the last two search directions. The dual is also more accurate in
float32: in the primal, rounding errors of products in the null space of A are divided by ρ.
"""

from collections.abc import Callable

import numpy as np

EXHAUSTED = 1e-15  # a column whose running residual has fallen by this factor is done


class MultiShift:
    """Conjugate gradients for (H + ρI)v = b at r ridges ρ, performed step by step, with one product with H per step.

    Call `step` until no ridge is `active`. Arrays are (r, p, c) for r ridges and c columns of length p, the side of H.

    Args:
        b: Right-hand side (p, c).
        ridges: ρ of each system, (r,).
        limit: Norm of the primal residual of a ridge, over all its columns, at which the ridge counts as solved.
        steps: Largest number of products.
        primal_norm: In the dual, ‖Aᵀb‖; None in the primal.

    Attributes:
        values: The current v of every ridge, (r, p, c).
        norms: Last known norm of the primal residual of each ridge, (r,): in the primal at `values`, in the dual at the
            iterate before `values`.
        trace: `norms` after each product, (products, r); NaN where a ridge was already solved.
        active: Mask of the ridges that `step` still updates, (r,).
    """

    def __init__(self, b: np.ndarray, ridges: np.ndarray, limit: float, steps: int, primal_norm: float | None = None):
        shape = (len(ridges), b.shape[1])
        self.ridge, self.shift = ridges.min(), (ridges - ridges.min())[:, None]
        self.limit, self.steps, self.dual = limit, steps, primal_norm is not None
        self.values = np.zeros((len(ridges), *b.shape))
        self.directions = np.repeat(b[None], len(ridges), axis=0)
        self.seed = int(np.argmin(ridges))
        self.residual, self.image = b.copy(), np.zeros_like(b)
        # ζ is the factor between the residuals of a ridge and of the smallest one; `ratio` is the quotient of ζ in
        # successive steps. A product of ratios does not underflow, whereas the recurrence of ζ itself divides 0 by 0.
        self.zeta, self.ratio = np.ones(shape), np.ones(shape)
        self.alpha, self.beta = np.ones(b.shape[1]), np.zeros(b.shape[1])
        self.square = np.sum(b**2, axis=0)
        self.floor = EXHAUSTED**2 * self.square
        self.trace = np.empty((0, len(ridges)))
        self.norms = np.full(len(ridges), np.linalg.norm(b) if primal_norm is None else primal_norm)
        self.active = self.norms > limit

    @property
    def iteration(self) -> int:
        """Number of steps so far, each of which takes one product with H."""
        return len(self.trace)

    def step(self, product: Callable[[np.ndarray], np.ndarray]) -> None:
        """Perform one product with H and one step of CG for every active ridge.

        The residual of every ridge is ζ times the residual of the smallest ridge, with `|ζ| <= 1`. So the smallest
        ridge is the last to be solved, and its search direction is always available. A column of b is no longer updated
        in two cases: the norm of its residual has fallen by a factor of 1e15, or the curvature along its search
        direction is 0 up to rounding errors.

        Args:
            product: Function that returns H times a matrix (p, c).
        """
        p = self.directions[self.seed]
        image = product(p)
        if self.dual:
            lengths = np.sum(self.residual * (image - self.beta * self.image), axis=0)
            self.image = image
            self._note(lengths)
        q = image + self.ridge * p
        curvature = np.sum(p * q, axis=0)
        alive = (self.square > self.floor) & (curvature > 0)
        alpha = np.where(alive, self.square / np.where(alive, curvature, 1), 0)
        momentum = np.where(alive, alpha * self.beta / np.where(self.alpha > 0, self.alpha, 1), 0)
        ratio = 1 / (1 + alpha * self.shift + momentum * (1 - self.ratio))
        self.residual -= alpha * q
        square = np.where(alive, np.sum(self.residual**2, axis=0), self.square)
        beta = np.where(alive, square / np.where(alive, self.square, 1), 0)
        zeta = self.zeta * ratio
        for i in np.flatnonzero(self.active):
            self.values[i] += alpha * ratio[i] * self.directions[i]
            self.directions[i] *= beta * ratio[i] ** 2
            self.directions[i] += zeta[i] * self.residual
        self.alpha, self.beta, self.square, self.ratio, self.zeta = alpha, beta, square, ratio, zeta
        if not self.dual:
            self._note(self.square)
        self.active &= self.iteration < self.steps
        if not alive.any():
            self.active[:] = False

    def _note(self, squares: np.ndarray) -> None:
        """Store the residuals of all ridges after a step, and set the solved ridges inactive.

        Args:
            squares: Squared norm of the primal residual of the smallest ridge in each column. The residuals of the
                other ridges are multiples of this residual.
        """
        norms = np.sqrt(np.maximum(np.sum(self.zeta**2 * squares, axis=1), 0))
        self.norms = np.where(self.active, norms, self.norms)
        self.trace = np.concatenate([self.trace, np.where(self.active, norms, np.nan)[None]])
        self.active = self.active & (norms > self.limit)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays that `step` changes, for a checkpoint."""
        names = ("values", "directions", "residual", "image", "zeta", "ratio", "alpha", "beta", "square", "norms",
                 "trace", "active")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def restore(self, arrays: dict[str, np.ndarray] | None) -> None:
        """Continue from the arrays of a checkpoint, which the method `arrays` returned; None changes nothing."""
        for name, array in (arrays or {}).items():
            setattr(self, name, array)
