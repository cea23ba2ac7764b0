"""The metric M of a feature machine: how it starts, what it makes of a kernel, and how it follows from gradients."""

import dataclasses
import math

import numpy as np
from absl import logging

from kernel_gen.kernels.differentiable import DifferentiableKernel
from kernel_gen.kernels.stretched import StretchedKernel, effective_rank, to_power, trace
from linearized.kernel_ridge.ridge_path import RidgePath
from linearized.settings.feature_machine_settings import refuse_without_gradients
from linearized.settings.gram_settings import KERNELS, KernelSettings

COLLAPSED = 1.05  # effective rank of M below which it has one direction left
UNLEARNED = 0.98  # of the loss of a constant: a ridge that is no better has learned nothing
FITTED = 0.5  # of the train labels' variance: the most that a fit leaves whose gradients are taken then


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a metric follows from gradients.

    Attributes:
        diagonal: Learn the diagonal of M alone: which coordinates matter. It needs fewer rows than the full matrix.
        centred: Take the outer products of the gradients' differences from their mean.
        power: Exponent of the AGOP; below 1 the metric sharpens more slowly.
        factor: The bandwidth over the median distance of the train rows in the metric, where none is given.
        base: The base kernel, where it is another than that of the settings.
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
        """Return the metric of iteration 0, that of the fixed kernel."""
        return np.ones(dim) if self.diagonal else np.eye(dim)


def base_kernel(
    settings: KernelSettings, image_shape: tuple[int, ...] | None = None, base: str = ""
) -> DifferentiableKernel:
    """Return the base kernel of settings, those of `--kernel=RFM` or of the kernel itself.

    Args:
        image_shape: (height, width, channels) of rows that are images.
        base: Of a `Variant`: a kernel in the place of the settings' own.

    Raises `UserError` that names the kernels with gradients for one without.
    """
    name = base or (settings.base if settings.kernel == "RFM" else settings.kernel)
    refuse_without_gradients(name, settings)
    return KERNELS.load(name).build(settings, image_shape)


def metric_size(base: DifferentiableKernel, train: np.ndarray) -> int:
    """Return d of the metrics (d, d) that stretch what a base kernel makes of train rows."""
    return train.shape[1] if base.metric_shape is None else math.prod(base.metric_shape)


def at_metric(
    base: DifferentiableKernel, metric: np.ndarray, train: np.ndarray, factor: float = 1.0
) -> StretchedKernel:
    """Return the base kernel in a metric, with what the train rows settle there.

    Args:
        factor: Multiplies a bandwidth that is the median distance of the train rows.
    """
    found = StretchedKernel(base, metric).on(train)
    if factor != 1:
        found.base.bandwidth *= factor  # a copy: the rows have settled it
    return found


def followed_ridge(path: RidgePath, y: np.ndarray, best: int, relative: float) -> int:
    """Return the index of the ridge whose function the next metric follows: the best, unless it has learned nothing.

    Where no direction is known yet, the best ridge is a large one, whose function is nearly constant and has gradients
    of noise. The largest ridge that fits half the variance of the train labels is taken then: what it finds in the
    labels, such as the quadratic terms that the train rows of SYNTH have at κ = 0, shows in its gradients before it
    shows in any loss.

    Args:
        path: Solutions (K + ρI)α = y, whose train residuals are ρα.
        y: Train labels (n, k), of mean 0.
        best: Index of the ridge with the smallest loss.
        relative: That loss over the loss of a constant.
    """
    if not relative > UNLEARNED:
        return best
    left = np.square(path.ridges[:, None] * path.alpha.reshape(len(path.ridges), -1)).sum(axis=1)
    fits = np.nonzero(left <= FITTED * np.square(y).sum())[0]  # false where it is NaN
    return int(fits[path.ridges[fits].argmax()]) if len(fits) else best


def next_metric(
    kernel: StretchedKernel, train: np.ndarray, alpha: np.ndarray, variant: Variant, *, sample: int = 0
) -> np.ndarray | None:
    """Return the metric that a fitted function learns, of trace d; None where all its gradients are 0.

    Args:
        kernel: In the present metric.
        train: Rows (n, d).
        alpha: Coefficients (n, k).
        sample: Rows drawn evenly from the train rows for the gradients; 0: all.
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
    """Log one line where the metric that follows iteration `index` has one direction left."""
    if effective_rank(metric) < COLLAPSED:
        logging.warning("after iteration %d the metric has one direction left", index)
