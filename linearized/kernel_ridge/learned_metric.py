"""The metric M of a recursive feature machine: its initial value, the kernel k(√M x, √M z), and its update."""

import dataclasses
import math

import numpy as np
from absl import logging

from kernel_gen.kernels.differentiable import DifferentiableKernel
from kernel_gen.kernels.stretched import StretchedKernel, effective_rank, to_power, trace
from linearized.kernel_ridge.ridge_path import RidgePath
from linearized.settings.feature_machine_settings import refuse_without_gradients
from linearized.settings.gram_settings import KERNELS, KernelSettings

COLLAPSED = 1.05  # effective rank of M below which it has only one direction left
UNLEARNED = 0.98  # loss, relative to that of a constant, above which the best ridge has learned nothing
FITTED = 0.5  # largest fraction of the variance of the train labels that the fit used instead may leave unexplained


@dataclasses.dataclass(frozen=True)
class Variant:
    """Options of the update of a metric from gradients.

    Attributes:
        diagonal: Whether only the diagonal of M is learned (the weights of the coordinates). It needs fewer rows than
            the full matrix.
        centred: Whether the mean gradient is subtracted before the outer products are averaged.
        power: Exponent of the average outer product of gradients (AGOP); below 1 the metric changes more slowly.
        factor: Ratio of the bandwidth to the median distance of the train rows in the metric, if no bandwidth is given.
        base: Name of the base kernel; "": that of the settings.
    """

    diagonal: bool = False
    centred: bool = True
    power: float = 1.0
    factor: float = 1.0
    base: str = ""

    def __str__(self) -> str:
        words = ["diagonal" if self.diagonal else "full", "centred" if self.centred else "uncentred"]
        words += [] if self.power == 1 else [f"power {self.power:g}"]
        words += [] if self.factor == 1 else [f"bandwidth x {self.factor:g}"]
        return ", ".join(words + ([f"base {self.base}"] if self.base else []))

    def start(self, dim: int) -> np.ndarray:
        """Return the metric of iteration 0, the identity (dim, dim) or its diagonal, with which the kernel is fixed."""
        return np.ones(dim) if self.diagonal else np.eye(dim)


def base_kernel(
    settings: KernelSettings, image_shape: tuple[int, ...] | None = None, base: str = ""
) -> DifferentiableKernel:
    """Return the base kernel k of a feature machine.

    Args:
        settings: Settings of `--kernel=RFM`, or of the base kernel itself.
        image_shape: (height, width, channels) of rows that are images.
        base: Base kernel of a `Variant`, which replaces that of the settings; "": that of the settings.

    Raises:
        UserError: If the kernel has no gradients; it names those that have.
    """
    name = base or (settings.base if settings.kernel == "RFM" else settings.kernel)
    refuse_without_gradients(name, settings)
    return KERNELS.load(name).build(settings, image_shape)


def metric_size(base: DifferentiableKernel, train: np.ndarray) -> int:
    """Return the side d of the metrics (d, d) of a base kernel.

    Args:
        base: Base kernel. A kernel on patches has metrics of the size of a patch.
        train: Train rows, whose length is d for all other kernels.
    """
    return train.shape[1] if base.metric_shape is None else math.prod(base.metric_shape)


def at_metric(
    base: DifferentiableKernel, metric: np.ndarray, train: np.ndarray, factor: float = 1.0
) -> StretchedKernel:
    """Return the kernel k(√M x, √M z), with the parameters that the train rows determine, such as the bandwidth.

    Args:
        base: Base kernel.
        metric: M, (d, d), or its diagonal (d,).
        train: Train rows.
        factor: Factor of a bandwidth that is the median distance of the train rows.
    """
    found = StretchedKernel(base, metric).on(train)
    if factor != 1:
        found.base.bandwidth *= factor  # `on` returned a copy, so the original is unchanged
    return found


def followed_ridge(path: RidgePath, y: np.ndarray, best: int, relative: float) -> int:
    """Return the index of the ridge whose fitted function determines the next metric.

    It is the best ridge, unless that has learned nothing. While no direction has been learned, the best ridge is a
    large one, whose fitted function is nearly constant and has gradients of noise. In this case it is the largest ridge
    whose fit leaves at most half the variance of the train labels unexplained. Structure in the labels, such as the
    quadratic terms that the train rows of SYNTH have at noise level κ = 0, appears in the gradients of this fit before
    it appears in any loss.

    Args:
        path: Solutions of (K + ρI)α = y, whose residuals on the train rows are ρα.
        y: Train labels (n, k), of mean 0.
        best: Index of the ridge with the smallest loss.
        relative: Smallest loss, divided by the loss of a constant.
    """
    if not relative > UNLEARNED:
        return best
    left = np.square(path.ridges[:, None] * path.alpha.reshape(len(path.ridges), -1)).sum(axis=1)
    fits = np.nonzero(left <= FITTED * np.square(y).sum())[0]  # False for NaN
    return int(fits[path.ridges[fits].argmax()]) if len(fits) else best


def next_metric(
    kernel: StretchedKernel, train: np.ndarray, alpha: np.ndarray, variant: Variant, *, sample: int = 0
) -> np.ndarray | None:
    """Return the metric that is learned from a fitted function, scaled to trace d; None if all gradients are 0.

    Args:
        kernel: Kernel in the current metric.
        train: Train rows (n, d).
        alpha: Coefficients (n, k) of the fitted function.
        variant: Options of the update.
        sample: Number of evenly spaced train rows at which gradients are computed; 0: all.
    """
    prepared = kernel.prepare(train)
    points = kernel.prepare(train[np.linspace(0, len(train) - 1, sample).astype(int)]) if sample else prepared
    found = kernel.average_outer_product(points, prepared, alpha, diagonal=variant.diagonal, centred=variant.centred)
    largest = np.abs(found).max()
    if not (np.isfinite(largest) and largest > 0):
        return None
    found = to_power(found / largest, variant.power)
    return found * (len(found) / trace(found))


def warn_collapsed(index: int, metric: np.ndarray) -> None:
    """Log a warning if the metric that follows iteration `index` has only one direction left."""
    if effective_rank(metric) < COLLAPSED:
        logging.warning("after iteration %d the metric has one direction left", index)
