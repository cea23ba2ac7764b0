"""Recursive feature machines: kernel ridge regression whose kernel learns a metric M from the fitted function.

The method of Radhakrishnan, Beaglehole, Pandit & Belkin (Science 2024) repeats two steps: fit a function f by kernel
ridge regression with the kernel k(√M x, √M z), and set M to the average outer product of the gradients of f (AGOP) at
the train rows. The metric stretches the directions in which f varies, like the first layer of a network. The kernel
changes in every iteration, so its Gram matrix is computed here, in memory or, if it does not fit there, again in every
product. It is not stored in shards.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from kernel_gen.gram_in_memory import gram
from kernel_gen.kernels.stretched import StretchedKernel, effective_rank
from linearized.base.array_checks import real_array, refuse_not_finite
from linearized.base.errors import UserError
from linearized.kernel_ridge import ridge_path
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.kernel_ridge.learned_metric import (
    Variant,
    at_metric,
    base_kernel,
    followed_ridge,
    metric_size,
    next_metric,
    warn_collapsed,
)  # fmt: skip
from linearized.settings.gram_settings import KernelSettings
from linearized.solvers import GRAM_SOLVERS, auto_gram

RIDGES = tuple(10.0 ** np.arange(-8, 0.25, 0.5))  # default ridges, in units of the trace of K


@dataclasses.dataclass(frozen=True)
class FeatureStep:
    """Result of one iteration of a recursive feature machine: kernel ridge regression with k(√M x, √M z).

    Attributes:
        metric: The metric M of the iteration, (d, d), or its diagonal (d,); its trace is d.
        bandwidth: Bandwidth L of a kernel that depends on ‖√M(x - z)‖ / L; NaN for kernels without one.
        effective_rank: (tr M)² / ‖M‖_F², between 1 and d.
        validation_losses: Mean squared norm of the validation residuals at each ridge; NaN if the ridge was not solved.
        place: Index, from 0, of the ridge with the smallest validation loss. Ridges that were not solved to the
            requested tolerance are considered only if no ridge was.
    """

    metric: np.ndarray
    bandwidth: float
    effective_rank: float
    validation_losses: np.ndarray
    place: int

    @property
    def loss(self) -> float:
        """Validation loss at the best ridge: the mean over the rows of the squared norm of prediction minus target."""
        return float(self.validation_losses[self.place])


@dataclasses.dataclass(frozen=True)
class FeatureMachine:
    """Fitted recursive feature machine, which predicts with its best iteration.

    Attributes:
        steps: Results of the iterations, in order. Iteration 0 is the kernel with M = I, before anything is learned.
        best: Index of the iteration with the smallest validation loss.
        ridges: Ridges ρ of (K + ρI)α = y. Every iteration was solved at each of them.
        x: Train rows (n, d).
        alpha: Coefficients α (n, k) of the best iteration at its best ridge.
        kernel: Kernel k(√M x, √M z) of the best iteration.
    """

    steps: list[FeatureStep]
    best: int
    ridges: np.ndarray
    x: np.ndarray
    alpha: np.ndarray
    kernel: StretchedKernel

    @property
    def ridge(self) -> float:
        """The ridge ρ with the smallest validation loss in the best iteration."""
        return float(self.ridges[self.steps[self.best].place])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the predicted outputs (m, k) for rows x (m, d).

        It costs 2 m n d operations for n train rows, and the product of the rows with √M.
        """
        return CrossKernel(self.kernel, real_array(x, "x"), self.kernel.prepare(self.x)) @ self.alpha


def fit(
    x: np.ndarray, y: np.ndarray, x_validation: np.ndarray, y_validation: np.ndarray, *, base: str = "LAPLACE",
    iterations: int = 5, ridges: Sequence[float] | None = None, diagonal: bool = False, centred: bool = True,
    power: float = 1.0, factor: float = 1.0, sample: int = 0, solver: str = "auto", memory: float | None = None,
    image_shape: tuple[int, ...] | None = None,
    progress: Callable[[int, FeatureStep], None] = lambda index, step: None, **settings: Any,
) -> FeatureMachine:  # fmt: skip
    """Fit a recursive feature machine, and choose the iteration and the ridge with the smallest validation loss.

    Each iteration fits kernel ridge regression with the kernel k(√M x, √M z), and sets M to the average outer product
    of the gradients (AGOP) of the fitted function. M is the identity at first. All iterations are run and all are
    candidates, including the fixed kernel with M = I, because the validation loss may stay constant for some iterations
    before it falls, and later iterations are often worse.

    For k outputs and gradients at m train rows, an iteration costs one solution of (K + ρI)α = y at all ridges in
    float32, 2 m n d k operations for the gradients, and 2 m d² k for their outer products (2 m d k with `diagonal`). It
    needs the memory of K (n, n) and of its solver, unless the solver needs only products with K: block_lanczos, which
    is chosen if a factor of K does not fit in memory, cg and rpcholesky compute the entries of a K that does not fit
    there in every product. This takes n² d operations for each product.

    Args:
        x: Train rows (n, d).
        y: Labels (n,) or (n, k), which are not centred here.
        x_validation: Validation rows, for the choice of ridge and iteration.
        y_validation: Labels of the validation rows.
        base: Base kernel: LAPLACE, GAUSSIAN, MATERN, or another kernel with gradients, such as PATCH.
        iterations: Number of times that the metric is learned; 0 keeps the fixed kernel.
        ridges: ρ; None: 17 values from 1e-8 to 1 times the trace of the fixed kernel's K.
        diagonal: Whether only the diagonal of M is learned.
        centred: Whether the mean gradient is subtracted before the outer products are averaged.
        power: Exponent of the matrix power of the AGOP, above 0 and at most 10; below 1 the metric changes more slowly.
        factor: Ratio of the bandwidth to the median distance ‖√M(x - z)‖ of the train rows, if no bandwidth is given.
        sample: m, the number of evenly spaced train rows at which gradients are computed; 0: all.
        solver: Solver of `linearized.solvers.GRAM_SOLVERS`, or "auto".
        memory: Available memory in bytes, besides that of the rows; None: half of the free memory.
        image_shape: (height, width, channels) of rows that are images, for PATCH.
        progress: Function that is called after each iteration with its index and its result, a `FeatureStep`.
        settings: Settings of the base kernel, such as smoothness and bandwidth (0: the median distance of the train
            rows in the metric of each iteration).

    Raises:
        UserError: If the shapes of the data disagree, settings are out of range, or the kernel has no gradients.
    """
    x, x_validation = _rows(x, "x"), _rows(x_validation, "x_validation")
    y, y_validation = ridge_path.checked_labels(y), ridge_path.checked_labels(y_validation)
    if x.shape[1:] != x_validation.shape[1:] or (len(x), len(x_validation)) != (len(y), len(y_validation)):
        raise UserError(
            f"x, y and their validation rows must fit together. Received: {x.shape}, {y.shape}, {x_validation.shape} "
            f"and {y_validation.shape}."
        )
    if iterations < 0 or not 0 < power <= 10 or not 0 <= sample <= len(x) or not factor > 0:
        raise UserError(
            f"iterations must be at least 0, power above 0 and at most 10, factor above 0, and sample at most {len(x)} "
            f"rows. Received: {iterations}, {power}, {factor} and {sample}."
        )
    variant, memory = Variant(diagonal, centred, power, factor), ridge_path.checked_memory(memory)
    kernel = base_kernel(KernelSettings(kernel=base, **settings), image_shape)
    if factor != 1 and getattr(kernel, "bandwidth", None) != 0:
        raise UserError(
            f"A factor multiplies a bandwidth that is the median distance. Received: {base}, factor {factor}."
        )
    path = None if ridges is None else ridge_path.checked_path(ridges)
    kernel, constant = kernel.settled(x), float(np.square(y_validation).sum(axis=1).mean())
    metric, steps, kept = variant.start(metric_size(kernel, x)), [], None
    for index in range(iterations + 1):
        try:
            used = at_metric(kernel, metric, x, factor)
            name = _solver(solver, used, len(x), len(RIDGES if path is None else path), memory)
            matrix = ComputedGram(used, x) if name in ridge_path.COMPUTED else gram(used, x)
            path = ridge_path.trace_of(matrix) * np.array(RIDGES) if path is None else path
            solved = ridge_path.fit(matrix, y, path, solver=name, memory=memory, overwrite=True)
            step = _scored(
                metric, used, solved, solved.predict(CrossKernel(used, x_validation, used.prepare(x))) - y_validation
            )
        except UserError as error:
            if not steps:
                raise
            logging.warning("iteration %d cannot be fitted, earlier ones are kept: %s", index, error)
            break
        alpha = solved.alpha[step.place]
        if not steps or step.loss < min(one.loss for one in steps):
            kept = index, alpha, used
        steps.append(step)
        progress(index, step)
        if index < iterations:
            place = followed_ridge(solved, y, step.place, step.loss / max(constant, np.finfo(float).tiny))
            metric = next_metric(used, x, solved.alpha[place], variant, sample=sample, memory=memory)
            if metric is None:
                logging.warning("iteration %d has no gradients left: no further metric is learned", index)
                break
            warn_collapsed(index, metric)
    best, alpha, used = kept
    return FeatureMachine(steps, best, path, x, alpha, used)


def _solver(solver: str, kernel: StretchedKernel, rows: int, ridges: int, memory: int) -> str:
    """Return the name of a solver; "auto" is replaced by the choice of `linearized.solvers.auto_gram`.

    Args:
        solver: Name of a solver, or "auto".
        kernel: Kernel of the train rows.
        rows: Number of train rows.
        ridges: Number of ridges.
        memory: Available memory in bytes.
    """
    if solver == "auto":
        return auto_gram(rows, kernel.dtype.itemsize, ridges, memory)[0]
    return GRAM_SOLVERS.canonical(solver)


def _rows(x: np.ndarray, name: str) -> np.ndarray:
    x = real_array(x, name)
    if x.ndim != 2 or not x.size:
        raise UserError(f"{name} must be rows (n, d). Received: shape {x.shape}.")
    refuse_not_finite(x, name)
    return x


def _scored(
    metric: np.ndarray, kernel: StretchedKernel, path: ridge_path.RidgePath, residuals: np.ndarray
) -> FeatureStep:
    """Return the result of one iteration: validation losses, and the ridge with the smallest one.

    A ridge whose solution did not converge can be chosen only if none converged.

    Args:
        metric: M, or its diagonal.
        kernel: Kernel k(√M x, √M z).
        path: Solutions of kernel ridge regression at every ridge.
        residuals: Residuals (ridges, rows, k) of the predictions on the validation rows.

    Raises:
        UserError: If the residuals are finite at no ridge.
    """
    losses = np.square(residuals).sum(axis=2).mean(axis=1)
    converged = np.array([solution.converged for solution in path.solutions])
    candidates = np.where(np.isfinite(losses) & (converged | ~converged.any()), losses, np.inf)
    if not np.isfinite(candidates).any():
        raise UserError("No ridge could be solved. Give larger ridges.")
    losses = np.where(np.isfinite(losses), losses, np.nan)
    bandwidth = getattr(kernel.base, "bandwidth", np.nan)
    return FeatureStep(metric, bandwidth, effective_rank(metric), losses, int(candidates.argmin()))
