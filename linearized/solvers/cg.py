"""Conjugate gradients on the normal equations (AᵀA + ρI)v = AᵀY, for all ridges at the price of one.

All ridges share the Krylov space of AᵀA and AᵀY, and their residuals are parallel: one run at the smallest ridge
carries the others along (multi-shift CG: Frommer, Computing 70, 2003; Jegerlehner, hep-lat/9612014). It takes one
product a step and two vectors a ridge. Columns go in lock-step, each with coefficients of its own.

In float32 the running residual ends below the true one. So the true one is computed at the end, and the ridges that
miss their tolerance start again from where they are, side by side, as long as that helps.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.lock_step import EXHAUSTED, LockStep
from linearized.solvers.solution import (
    ATOL,
    MAX_ITERATIONS,
    RTOL,
    LinearProblem,
    Progress,
    Solution,
    Tolerance,
    checked_ridges,
    finite,
    measured,
    ridge_batch,
)


def solve(
    problem: LinearProblem, ridges: Sequence[float] | np.ndarray, *, rtol: float = RTOL, atol: float = ATOL,
    max_iterations: int = MAX_ITERATIONS, progress: Progress | None = None, checkpoint: Path | None = None,
    key: str = "", interval: float = 60.0,
) -> list[Solution]:  # fmt: skip
    """Solves the problem at every ridge.

    Args:
        ridges: ρ, in any order.
        rtol, atol: Published units, see linearized.solvers.solution.
        max_iterations: Products a ridge may take, restarts included.
        progress: Called after each product with (iteration, max_iterations, residual a ridge, ridges left).
        checkpoint: A folder; a run that was killed goes on from there. It is the caller's to remove.
        key: What the checkpoint belongs to, such as the fingerprint of data and settings.
        interval: Seconds between checkpoints.

    Costs a product with AᵀA a step and 16 p · columns bytes a ridge. Raises `UserError` for bad settings and for
    features or labels that are not finite.
    """
    ridges = checked_ridges(ridges, problem, rtol, atol, max_iterations)
    moment = finite(problem.moment())
    tolerance = Tolerance.of(float(np.linalg.norm(moment)), problem.n, rtol, atol)
    run = _Run(problem, tolerance, max_iterations, progress, checkpoint, key, interval)
    values, histories = run.shifted(moment, ridges, "cg")
    return run.polished(measured(problem, ridges, values, histories, tolerance))


def polish(
    problem: LinearProblem, solutions: list[Solution], tolerance: Tolerance, *, max_iterations: int,
    progress: Progress | None, checkpoint: Path | None, key: str, interval: float,
) -> list[Solution]:  # fmt: skip
    """Goes on from the solutions of any solver that miss the tolerance, all of them in each product; see `solve`.

    Takes 24 p · columns bytes for each of them, in batches of as many as `ridge_batch` says.
    """
    run = _Run(problem, tolerance, max_iterations, progress, checkpoint, key, interval)
    return run.polished(solutions)


class _Run:
    """What one call of `solve` holds fixed."""

    def __init__(self, problem, tolerance, max_iterations, progress, checkpoint, key, interval):
        self.problem, self.tolerance, self.max_iterations = problem, tolerance, max_iterations
        self.progress, self.checkpoint, self.key, self.interval = progress, checkpoint, key, interval

    def polished(self, solutions: list[Solution]) -> list[Solution]:
        """Restarts what has not converged, while iterations are left and the last restart halved the residual."""
        solutions = list(solutions)
        size, attempt = ridge_batch(self.problem), 0
        missing = [i for i, solution in enumerate(solutions) if self._may_go_on(solution)]
        while missing:
            left = []
            for start in range(0, len(missing), size):
                batch = missing[start : start + size]
                better = self.restarted([solutions[i] for i in batch], f"cg-{attempt}-{batch[0]}")
                for i, new in zip(batch, better, strict=True):
                    halved = new.residual <= solutions[i].residual / 2
                    solutions[i] = new if new.residual < solutions[i].residual else solutions[i]
                    if halved and self._may_go_on(new):
                        left.append(i)
            missing, attempt = left, attempt + 1
        return solutions

    def _may_go_on(self, solution: Solution) -> bool:
        return not solution.converged and solution.iterations < self.max_iterations

    def restarted(self, solutions: list[Solution], name: str) -> list[Solution]:
        """Each solution after a run of CG on its true residual, all of them in lock-step."""
        ridges = np.array([solution.ridge for solution in solutions])
        _, gradient = self.problem.evaluate(np.concatenate([solution.value for solution in solutions], axis=1))
        parts = np.split(gradient, len(solutions), axis=1)
        residuals = np.stack([part - one.ridge * one.value for part, one in zip(parts, solutions, strict=True)])
        spent = np.array([solution.iterations for solution in solutions])
        state = LockStep(residuals, ridges, self._relative * self._scale, self.max_iterations - spent)
        self.run(state, name, ridges, int(spent.max()))
        histories = [
            np.concatenate([solution.history, trace[~np.isnan(trace)] / self._scale])
            for solution, trace in zip(solutions, state.trace.T, strict=True)
        ]
        values = [solution.value + step for solution, step in zip(solutions, state.values, strict=True)]
        return measured(self.problem, ridges, values, histories, self.tolerance)

    def shifted(self, b: np.ndarray, ridges: np.ndarray, name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Multi-shift CG on (AᵀA + ρI)v = b from v = 0: the values and the histories, a ridge each."""
        state = _MultiShift(b, ridges, self._relative * self._scale, self.max_iterations)
        self.run(state, name, ridges)
        return list(state.values), [trace[~np.isnan(trace)] / self._scale for trace in state.trace.T]

    def run(self, state: "_MultiShift | LockStep", name: str, ridges: np.ndarray, spent: int = 0) -> None:
        """Steps until no ridge is left, from the state that was saved under `name` if there is one."""
        saved = Checkpoint(
            self.checkpoint, key=self.key, shape=state.values.shape, ridges=ridges.tolist(), relative=self._relative
        )
        state.restore(saved.load(name))
        written = time.monotonic()
        while state.active.any():
            state.step(lambda v: finite(self.problem.primal_product(v)))
            if self.progress is not None:
                left = int(state.active.sum())
                self.progress(state.iteration + spent, self.max_iterations, state.norms / self._scale, left)
            if time.monotonic() - written >= self.interval:
                saved.save(name, state.arrays())
                written = time.monotonic()
        saved.save(name, state.arrays())

    @property
    def _scale(self) -> float:
        return self.tolerance.moment_norm or 1.0

    @property
    def _relative(self) -> float:
        return self.tolerance.relative if self.tolerance.moment_norm > 0 else 0.0


class _MultiShift:
    """The state of multi-shift CG; (r, p, c) for r ridges and c columns.

    With ζ the factor between the residuals of a ridge and of the smallest one, t is ζ's ratio from step to step: a
    product of ratios does not underflow where ζ's own recurrence divides 0 by 0.
    """

    def __init__(self, b: np.ndarray, ridges: np.ndarray, limit: float, steps: int):
        shape = (len(ridges), b.shape[1])
        self.ridge, self.shift = ridges.min(), (ridges - ridges.min())[:, None]
        self.limit, self.steps = limit, steps
        self.values = np.zeros((len(ridges), *b.shape))
        self.directions = np.repeat(b[None], len(ridges), axis=0)
        self.seed = int(np.argmin(ridges))
        self.residual = b.copy()
        self.zeta, self.ratio = np.ones(shape), np.ones(shape)
        self.alpha, self.beta = np.ones(b.shape[1]), np.zeros(b.shape[1])
        self.square = np.sum(b**2, axis=0)
        self.floor = EXHAUSTED**2 * self.square
        self.trace = np.empty((0, len(ridges)))  # NaN where a ridge was done before
        self.active = self.norms > limit

    @property
    def iteration(self) -> int:
        """Products so far."""
        return len(self.trace)

    @property
    def norms(self) -> np.ndarray:
        """The running residual of each ridge, over all columns."""
        return np.sqrt(np.sum(self.zeta**2 * self.square, axis=1))

    def step(self, product: Callable[[np.ndarray], np.ndarray]) -> None:
        """One product with AᵀA, one step of every ridge that is not done.

        The smallest ridge is the last to be done, since |ζ| <= 1: its direction is always at hand. A column stands
        still once its residual is exhausted, or if rounding has taken the curvature along it.
        """
        p = self.directions[self.seed]
        q = product(p) + self.ridge * p
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
        self.trace = np.concatenate([self.trace, np.where(self.active, self.norms, np.nan)[None]])
        self.active &= (self.norms > self.limit) & (self.iteration < self.steps)
        if not alive.any():
            self.active[:] = False

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `step` changes."""
        names = ("values", "directions", "residual", "zeta", "ratio", "alpha", "beta", "square", "trace", "active")
        return {name: getattr(self, name) for name in names}

    def restore(self, arrays: dict[str, np.ndarray] | None) -> None:
        """Goes on where `arrays` were taken; None changes nothing."""
        for name, array in (arrays or {}).items():
            setattr(self, name, array)
