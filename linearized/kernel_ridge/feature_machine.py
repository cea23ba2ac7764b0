"""Recursive feature machines: kernel ridge regression whose kernel learns a metric M from its own gradients.

Radhakrishnan, Beaglehole, Pandit & Belkin (Science 2024): fit f by kernel ridge regression with k(x, z) = p(‖x - z‖_M),
set M to the average outer product of the gradients of f (AGOP) at the train rows, and repeat. The metric stretches the
directions in which f varies, as the first layer of a network does. The kernel changes from iteration to iteration, so
that it is computed here, in memory.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from kernel_gen.gram_in_memory import gram
from kernel_gen.kernels.radial import RadialKernel
from kernel_gen.kernels.radial_gradients import average_outer_product
from linearized.base.array_checks import real_array, refuse_not_finite
from linearized.base.errors import UserError
from linearized.kernel_ridge import ridge_path
from linearized.settings.gram_settings import KERNELS, KernelSettings

RIDGES = tuple(10.0 ** np.arange(-8, 0.25, 0.5))  # ρ/n, since the kernels are 1 on the diagonal
COLLAPSED = 1.05  # effective rank of M below which it has one direction left


@dataclasses.dataclass(frozen=True)
class FeatureStep:
    """Kernel ridge regression in one metric.

    Attributes:
        metric: M, (d, d), or its diagonal (d,); of trace d.
        bandwidth: L of p(‖x - z‖_M / L).
        effective_rank: (tr M)² / ‖M‖_F², between 1 and d.
        validation_losses: Mean squared norm of the validation residuals at each ridge; NaN where it was not solved.
        place: Index of the ridge with the smallest of them.
    """

    metric: np.ndarray
    bandwidth: float
    effective_rank: float
    validation_losses: np.ndarray
    place: int

    @property
    def loss(self) -> float:
        """The validation loss at the best ridge."""
        return float(self.validation_losses[self.place])


@dataclasses.dataclass(frozen=True)
class FeatureMachine:
    """A fitted recursive feature machine; predictions are those of its best iteration.

    Attributes:
        steps: One per iteration, from the fixed kernel (iteration 0) on.
        best: Index of the iteration with the smallest validation loss.
        ridges: ρ of (K + ρI)α = y.
        x: Train rows (n, d).
        alpha: Coefficients (n, k) of the best iteration at its best ridge.
        kernel: The base kernel with its bandwidth in the best iteration.
    """

    steps: list[FeatureStep]
    best: int
    ridges: np.ndarray
    x: np.ndarray
    alpha: np.ndarray
    kernel: RadialKernel

    @property
    def ridge(self) -> float:
        """The chosen ridge."""
        return float(self.ridges[self.steps[self.best].place])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs (m, k) of rows (m, d); 2mnd operations and those of M."""
        root = _root(self.steps[self.best].metric)
        return gram(self.kernel, _stretched(real_array(x, "x"), root), _stretched(self.x, root)) @ self.alpha


def fit(
    x: np.ndarray, y: np.ndarray, x_validation: np.ndarray, y_validation: np.ndarray, *, base: str = "LAPLACE",
    iterations: int = 5, ridges: Sequence[float] | None = None, diagonal: bool = False, centred: bool = True,
    power: float = 1.0, bandwidth: float = 0.0, smoothness: str = "2.5", sample: int = 0, solver: str = "auto",
    progress: Callable[[int, FeatureStep], None] = lambda index, step: None,
) -> FeatureMachine:  # fmt: skip
    """Fit a recursive feature machine; the ridge and the iteration are those of the smallest validation loss.

    All iterations are run and all are candidates, the fixed kernel too: the validation loss may stay where it is for
    iterations before it falls, and later iterations are often worse. An iteration costs one solution of the whole ridge
    path in float32, 2mndk operations for the gradients at m rows with k outputs, and 2md²k for their outer products
    (2mdk with `diagonal`). Memory: K (n, n) and what its solver needs.

    Args:
        x, y: Train rows (n, d) and labels (n,) or (n, k), centred as you wish.
        x_validation, y_validation: Rows that ridge and iteration are chosen on.
        base: LAPLACE, GAUSSIAN or MATERN.
        iterations: How many times the metric is learned; 0 leaves the fixed kernel.
        ridges: ρ; None: n · 10^[-8, 0] in half decades (the trace of K is n).
        diagonal: Learn the diagonal of M alone: which coordinates matter. It needs fewer rows than the full matrix.
        centred: Take the outer products of the gradients' differences from their mean.
        power: Exponent of M in the next iteration; below 1 the metric sharpens more slowly.
        bandwidth: L; 0: in each iteration the median distance of train rows in its metric.
        smoothness: Of MATERN.
        sample: m, rows drawn evenly from the train rows for the gradients; 0: all.
        solver: A solver of `linearized.solvers.GRAM_SOLVERS`.
        progress: Called with each iteration's index and step.

    Raises `UserError` for data that do not fit together, settings out of range, and kernels without gradients.
    """
    x, x_validation = _rows(x, "x"), _rows(x_validation, "x_validation")
    y, y_validation = ridge_path.checked_labels(y), ridge_path.checked_labels(y_validation)
    if x.shape[1:] != x_validation.shape[1:] or (len(x), len(x_validation)) != (len(y), len(y_validation)):
        raise UserError(
            f"x, y and their validation rows must fit together. Received: {x.shape}, {y.shape}, {x_validation.shape} "
            f"and {y_validation.shape}."
        )
    if iterations < 0 or not 0 < power <= 10 or not 0 <= sample <= len(x):
        raise UserError(
            f"iterations must be at least 0, power above 0 and at most 10, and sample at most {len(x)} rows. Received: "
            f"{iterations}, {power} and {sample}."
        )
    ridges = ridge_path.checked_path(len(x) * np.array(RIDGES) if ridges is None else ridges)
    kernel = _base(base, bandwidth, smoothness)
    points = np.linspace(0, len(x) - 1, sample).astype(int) if sample else np.arange(len(x))
    metric = np.ones(x.shape[1]) if diagonal else np.eye(x.shape[1])
    steps, kept = [], None
    for index in range(iterations + 1):
        root = _root(metric)
        rows = _stretched(x, root)
        try:
            used = kernel.on(rows)
            path = ridge_path.fit(gram(used, rows), y, ridges, solver=solver, overwrite=True)
            outputs = path.predict(gram(used, _stretched(x_validation, root), rows))
            step = _scored(metric, used.bandwidth, path, outputs - y_validation)
        except UserError as error:
            if not steps:
                raise
            logging.warning("iteration %d cannot be fitted, earlier ones are kept: %s", index, error)
            break
        alpha = path.alpha[step.place]
        if not steps or step.loss < min(one.loss for one in steps):
            kept = index, alpha, used
        steps.append(step)
        progress(index, step)
        if index < iterations:
            metric = _next_metric(used, rows, points, alpha, root, diagonal, centred, power)
            if metric is None:
                logging.warning("iteration %d has no gradients left: no further metric is learned", index)
                break
            if _effective_rank(metric) < COLLAPSED:
                logging.warning("after iteration %d the metric has one direction left", index)
    best, alpha, used = kept
    return FeatureMachine(steps, best, ridges, x, alpha, used)


def _rows(x: np.ndarray, name: str) -> np.ndarray:
    x = real_array(x, name)
    if x.ndim != 2 or not x.size:
        raise UserError(f"{name} must be rows (n, d). Received: shape {x.shape}.")
    refuse_not_finite(x, name)
    return x


def _base(name: str, bandwidth: float, smoothness: str) -> RadialKernel:
    """Return the base kernel, in float32. Raises `UserError` for one without gradients."""
    given = {"smoothness": smoothness} if KERNELS.canonical(name) == "MATERN" else {}
    settings = KernelSettings.draft(kernel=name, bandwidth=bandwidth, **given)
    kernel = KERNELS.load(settings.kernel).build(settings)
    if not isinstance(kernel, RadialKernel):
        raise UserError(f"The gradients of LAPLACE, GAUSSIAN and MATERN are there, those of {name} are not.")
    return kernel


def _root(metric: np.ndarray) -> np.ndarray:
    """Return the symmetric root of M, or the root of its diagonal."""
    if metric.ndim == 1:
        return np.sqrt(metric)
    values, vectors = np.linalg.eigh(metric)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _stretched(x: np.ndarray, root: np.ndarray) -> np.ndarray:
    return x * root if root.ndim == 1 else x @ root


def _effective_rank(metric: np.ndarray) -> float:
    trace = metric.sum() if metric.ndim == 1 else np.trace(metric)
    return float(trace**2 / np.square(metric).sum())


def _scored(metric: np.ndarray, bandwidth: float, path: ridge_path.RidgePath, residuals: np.ndarray) -> FeatureStep:
    """Return the step of a solved path; unconverged ridges win only where none converged."""
    losses = np.square(residuals).sum(axis=2).mean(axis=1)
    converged = np.array([solution.converged for solution in path.solutions])
    candidates = np.where(np.isfinite(losses) & (converged | ~converged.any()), losses, np.inf)
    if not np.isfinite(candidates).any():
        raise UserError("No ridge could be solved. Give larger ridges.")
    losses = np.where(np.isfinite(losses), losses, np.nan)
    return FeatureStep(metric, bandwidth, _effective_rank(metric), losses, int(candidates.argmin()))


def _next_metric(
    kernel: RadialKernel, rows: np.ndarray, points: np.ndarray, alpha: np.ndarray, root: np.ndarray, diagonal: bool,
    centred: bool, power: float,
) -> np.ndarray | None:  # fmt: skip
    """Return the AGOP in the coordinates of x, to `power`, of trace d; None where all gradients are 0."""
    prepared = kernel.prepare(rows)
    at = kernel.prepare(rows[points])
    found = average_outer_product(kernel, at, prepared, alpha, diagonal=diagonal, centred=centred)
    found = found * np.square(root) if diagonal else root @ found @ root
    if power != 1:
        if diagonal:
            found = found**power
        else:
            values, vectors = np.linalg.eigh(found)
            found = (vectors * np.maximum(values, 0) ** power) @ vectors.T
    trace = found.sum() if diagonal else np.trace(found)
    if not (np.isfinite(trace) and trace > 0):
        return None
    return found * (len(found) / trace)
