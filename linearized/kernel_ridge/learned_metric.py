"""The metric M of a recursive feature machine: its initial value, the kernel k(√M x, √M z), and its update.

A recursive feature machine (`linearized.kernel_ridge.feature_machine`) alternates between kernel ridge regression with
this kernel, and an update of M from the gradients of the fitted function.
"""

import dataclasses
import math

import numpy as np
from absl import logging

from kernel_gen.kernels.differentiable import DifferentiableKernel
from kernel_gen.kernels.stretched import BLOCK_BYTES, StretchedKernel, effective_rank, to_power, trace
from linearized.kernel_ridge.ridge_path import RidgePath
from linearized.settings.feature_machine_settings import refuse_without_gradients
from linearized.settings.gram_settings import KERNELS, KernelSettings

COLLAPSED = 1.05  # effective rank of M below which it has only one direction left
UNLEARNED = 0.98  # loss, relative to that of a constant, above which the best ridge has learned nothing
GRADIENT_ARRAYS = 8  # arrays with one float64 per point and row that exist at once when gradients are computed
FITTED = 0.5  # largest fraction of the variance of the train labels that the fit used instead may leave unexplained


@dataclasses.dataclass(frozen=True)
class Variant:
    """Options of a recursive feature machine: how its metric M is updated, and its base kernel.

    Attributes:
        diagonal: Whether only the diagonal of M is learned (the weights of the coordinates). It needs fewer rows than
            the full matrix.
        centred: Whether the mean gradient is subtracted before the outer products are averaged.
        power: Exponent of the matrix power of the average outer product of gradients (AGOP); below 1 the metric changes
            more slowly.
        factor: Ratio of the bandwidth to the median distance ‖√M(x - z)‖ of the train rows, if no bandwidth is given.
        base: Name of the base kernel; "": the base kernel of the kernel settings.
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
        """Return the metric of iteration 0, before anything is learned: the identity (dim, dim), or its diagonal.

        Args:
            dim: Side of the metric, from `metric_size`.
        """
        return np.ones(dim) if self.diagonal else np.eye(dim)


def base_kernel(
    settings: KernelSettings, image_shape: tuple[int, ...] | None = None, base: str = ""
) -> DifferentiableKernel:
    """Return the base kernel k of a recursive feature machine, whose kernel is k(√M x, √M z) with a metric M.

    Args:
        settings: Settings of `--kernel=RFM`, or of the base kernel itself.
        image_shape: (height, width, channels) of rows that are images.
        base: Name of a base kernel, which replaces the base kernel of the settings; "": none.

    Raises:
        UserError: If the kernel has no gradients. The message lists the kernels that have gradients.
    """
    name = base or (settings.base if settings.kernel == "RFM" else settings.kernel)
    refuse_without_gradients(name, settings)
    return KERNELS.load(name).build(settings, image_shape)


def metric_size(base: DifferentiableKernel, train: np.ndarray) -> int:
    """Return the side d of the metric M (d, d) in the kernel k(√M x, √M z) for a base kernel k.

    For a kernel on patches of images, d is the number of entries of a patch. For all other kernels, d is the number of
    columns of the train rows.

    Args:
        base: Base kernel.
        train: Train rows (n, columns).
    """
    return train.shape[1] if base.metric_shape is None else math.prod(base.metric_shape)


def at_metric(
    base: DifferentiableKernel, metric: np.ndarray, train: np.ndarray, factor: float = 1.0
) -> StretchedKernel:
    """Return the kernel k(√M x, √M z), with the parameters that the train rows determine, such as the bandwidth.

    Args:
        base: Base kernel k.
        metric: M, (d, d), or its diagonal (d,).
        train: Train rows (n, d).
        factor: Number that the bandwidth is multiplied by, for a base kernel whose bandwidth is the median distance
            ‖√M(x - z)‖ of the train rows.
    """
    found = StretchedKernel(base, metric).on(train)
    if factor != 1:
        found.base.bandwidth *= factor  # `on` returned a copy, so the original is unchanged
    return found


def followed_ridge(path: RidgePath, y: np.ndarray, best: int, relative: float) -> int:
    """Return the index of the ridge whose fitted function determines the next metric.

    This is the ridge with the smallest loss, if that loss is at most 0.98 times the loss of a constant function.
    Otherwise it is the largest ridge whose fit leaves at most half the variance of the train labels unexplained (or the
    ridge with the smallest loss, if there is no such fit). While no direction has been learned, the ridge with the
    smallest loss is large. Its fitted function is nearly constant, and the gradients are mostly noise. Structure in the
    labels, such as quadratic terms, appears in the gradients of a closer fit before any loss decreases.

    Args:
        path: Solutions of kernel ridge regression with their predictions for the train rows.
        y: Train labels (n, k), of mean 0.
        best: Index, from 0, of the ridge with the smallest loss.
        relative: Smallest loss, divided by the loss of a constant function.
    """
    if not relative > UNLEARNED:
        return best
    left = np.array([np.square(y - one.predictions).sum() for one in path.solutions])
    fits = np.nonzero(left <= FITTED * np.square(y).sum())[0]  # False for NaN
    return int(fits[path.ridges[fits].argmax()]) if len(fits) else best


def next_metric(
    kernel: StretchedKernel, train: np.ndarray, alpha: np.ndarray, variant: Variant, *, sample: int = 0,
    centres: np.ndarray | None = None, memory: int | None = None,
) -> np.ndarray | None:  # fmt: skip
    """Return the metric of the next iteration, from the average outer product of gradients of a fitted function.

    The average outer product (d, d) is raised to the matrix power `variant.power`, and scaled to trace d.

    Args:
        kernel: Kernel k(√M x, √M z) with the current metric M.
        train: Train rows (n, d).
        alpha: Coefficients (n, k) of the fitted function f(x) = Σ_i α_i k(√M x, √M x_i), or (m, k) for m centres.
        variant: Options of the update.
        sample: Number of evenly spaced train rows at which gradients are computed; 0: all.
        centres: Indices of the m train rows x_i of the fitted function; None: all train rows.
        memory: Memory in bytes for the arrays of one block of gradients; None: that of `BLOCK_BYTES`.

    Returns:
        M (d, d), or its diagonal (d,) if `variant.diagonal`; None if all gradients are 0 or some are not finite.
    """
    points = train[np.linspace(0, len(train) - 1, sample).astype(int)] if sample else train
    found = kernel.average_outer_product(
        points, kernel.prepare(train if centres is None else train[centres]), alpha, diagonal=variant.diagonal,
        centred=variant.centred, block_bytes=None if memory is None else min(BLOCK_BYTES, memory // GRADIENT_ARRAYS),
    )  # fmt: skip
    largest = np.abs(found).max()
    if not (np.isfinite(largest) and largest > 0):
        return None
    found = to_power(found / largest, variant.power)
    return found * (len(found) / trace(found))


def warn_collapsed(index: int, metric: np.ndarray) -> None:
    """Log a warning if a metric has hardly more than one direction left (an effective rank below 1.05).

    Args:
        index: Index of the iteration from which the metric was learned.
        metric: M (d, d), or its diagonal (d,).
    """
    if effective_rank(metric) < COLLAPSED:
        logging.warning("after iteration %d the metric has one direction left", index)
