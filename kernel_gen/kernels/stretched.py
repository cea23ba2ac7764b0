"""Kernels k(√M x, √M z) of a base kernel k and a metric M, which is a symmetric positive semi-definite matrix.

Recursive feature machines use these kernels. They fit a function with the kernel and compute its average gradient outer
product (AGOP): the mean over points of the outer products of the gradients. M is a power of the AGOP. Such a metric
stretches the directions in which the fitted function varies, like the first layer of a trained network. A diagonal
metric stretches single coordinates.
"""

from typing import Any

import numpy as np

from kernel_gen.kernel import Kernel, OneKernel
from kernel_gen.kernels.differentiable import DifferentiableKernel
from linearized.base.shapes import Float

BLOCK_BYTES = 2**27  # largest array (points, rows) in float64 when gradients are computed; a few exist at once


class StretchedKernel(Kernel):
    """The kernel k(√M x, √M z) of a base kernel k and a metric M.

    Preparing a row of d numbers costs 2d² operations in addition to those of the base kernel (d for a diagonal metric).

    Args:
        base: The base kernel.
        metric: M, (d, d), symmetric positive semi-definite, or its diagonal (d,). It acts on rows of d columns or, for
            a base with a `metric_shape`, on vectors of d numbers in them, such as patches.
    """

    def __init__(self, base: DifferentiableKernel, metric: np.ndarray):
        self.base, self.root = base, _root(np.asarray(metric, np.float64))
        self.tile, self.scale, self.dtype, self.own_threads = base.tile, base.scale, base.dtype, base.own_threads
        self.positive = base.positive

    def on(self: OneKernel, train: np.ndarray) -> OneKernel:
        """Return the kernel with the parameters, such as a bandwidth, that the stretched train rows determine.

        Args:
            train: Train rows (n, d), before they are stretched.
        """
        found = type(self).__new__(type(self))
        found.__dict__ |= vars(self) | {"base": self.base.on(self.base.stretch(self.base.deciding(train), self.root))}
        return found

    def prepare(self, x: np.ndarray) -> Any:
        """Return the rows of `x` (n, d), stretched and then prepared by the base kernel."""
        return self.base.prepare(self.base.stretch(x, self.root))

    def block(self, one: Any, two: Any, *, same: bool = False) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel (n1, n2) between two sets of inputs, which `prepare` returned.

        Args:
            one: The n1 inputs of the rows.
            two: The n2 inputs of the columns.
            same: Whether `two` contains the inputs of `one`; entries at correlation 1, as on the diagonal, are then
                exact.
        """
        return self.base.block(one, two, same=same)

    def average_outer_product(
        self, points: np.ndarray, rows: Any, alpha: np.ndarray, *, diagonal: bool, centred: bool,
        block_bytes: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Return the average gradient outer product (1/m) Σ_j Σ_c g_jc g_jcᵀ, (d, d) in float64, or its diagonal (d,).

        Here f_c(x) = Σ_i alpha_ic k(√M x, √M x_i) is the fitted function of output c, an expansion in n rows x_i, and
        g_jc is its gradient in x at point j. There are m points. If the metric acts on patches, the gradients are those
        with respect to each patch of the points, and m is the number of patches.

        For K outputs it costs 2mnd operations for the derivatives of the kernel, 2mndK for the gradients and 2md²K for
        their outer products (2mdK for the diagonal alone with a diagonal metric). Gradients are computed for blocks of
        `gradient_rows` points, or of fewer if a float64 array with one entry per point of the block and row would
        exceed `block_bytes`.

        Args:
            points: The points (m, columns), before they are stretched.
            rows: The n rows of the expansions, prepared by this kernel.
            alpha: Coefficients of the expansions (n, K).
            diagonal: Whether only the diagonal is returned.
            centred: Whether the mean over the points is subtracted from each output's gradients. This removes linear
                trends of f_c, which could hide the directions in which f_c is nonlinear.
            block_bytes: Largest size of such an array, of which a few exist at once; None: `BLOCK_BYTES`.
        """
        entrywise = diagonal and self.root.ndim == 1
        d, k = len(self.root), alpha.shape[1]
        total, sums, count = np.zeros(d if entrywise else (d, d)), np.zeros((k, d)), 0
        most = BLOCK_BYTES if block_bytes is None else block_bytes
        points = self.prepare(points)  # at once: equal rows are then equal bit by bit, in `rows` as well
        step = min(self.base.gradient_rows, max(1, most // (8 * len(rows))))
        for start in range(0, len(points), step):
            found = self.base.gradients(points[start : start + step], rows, alpha)
            count += found.shape[1]  # a point may have several gradients, one for each patch
            sums += found.sum(axis=1)
            total += np.square(found).sum(axis=(0, 1)) if entrywise else sum(part.T @ part for part in found)
        total /= count
        if centred:
            means = sums / count
            total -= np.square(means).sum(axis=0) if entrywise else means.T @ means
        if entrywise:
            return np.maximum(total * np.square(self.root), 0)
        total = total * np.outer(self.root, self.root) if self.root.ndim == 1 else self.root @ total @ self.root
        return np.maximum(np.diagonal(total), 0) if diagonal else total


def _root(metric: np.ndarray) -> np.ndarray:
    """Return the symmetric square root of a metric (d, d), or of a diagonal metric (d,)."""
    if metric.ndim == 1:
        return np.sqrt(metric)
    values, vectors = np.linalg.eigh(metric)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def to_power(metric: np.ndarray, power: float) -> np.ndarray:
    """Return a power of a metric, (d, d), or (d,) if it is diagonal.

    Negative eigenvalues of a matrix count as 0, unless `power` is 1.
    """
    if power == 1:
        return metric
    if metric.ndim == 1:
        return metric**power
    values, vectors = np.linalg.eigh(metric)
    return (vectors * np.maximum(values, 0) ** power) @ vectors.T


def trace(metric: np.ndarray) -> float:
    """Return the trace of a metric, (d, d), or (d,) if it is diagonal."""
    return float(metric.sum() if metric.ndim == 1 else np.trace(metric))


def effective_rank(metric: np.ndarray) -> float:
    """Return (tr M)² / ‖M‖_F², between 1 and d, of a metric M, (d, d), or (d,) if it is diagonal."""
    return trace(metric) ** 2 / float(np.square(metric).sum())


def spectrum(metric: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of a metric, (d, d), or (d,) if it is diagonal, in descending order and at least 0."""
    values = metric if metric.ndim == 1 else np.linalg.eigvalsh(metric)
    return np.sort(np.maximum(values, 0))[::-1]


def overlap(metric: np.ndarray, directions: np.ndarray) -> float:
    """Return the share of the trace of a metric that lies in a subspace, between 0 and 1.

    For the unit matrix and a subspace of r dimensions it is r/d.

    Args:
        metric: The metric, (d, d), or (d,) if it is diagonal.
        directions: Orthonormal basis of the subspace (d, r).
    """
    inside = metric @ np.square(directions) if metric.ndim == 1 else np.einsum("dr,de,er->r", directions, metric,
                                                                                directions, optimize=True)  # fmt: skip
    return float(inside.sum()) / trace(metric)


def correlation(metric: np.ndarray, weights: np.ndarray) -> float:
    """Return the correlation between the entries of a metric M and those of WWᵀ, with W the first layer of a network.

    It tests the neural feature ansatz (Radhakrishnan et al. 2024): training makes WWᵀ proportional to a power of the
    average outer product of the network's gradients. The metric of a recursive feature machine is a power of the
    average outer product of the gradients of its fit. For a diagonal M only the diagonals are compared.

    Args:
        metric: M, (d, d), or its diagonal (d,).
        weights: W, (d, units).

    Returns: The correlation; NaN if all entries of M or of WWᵀ are equal.
    """
    products = np.square(weights).sum(axis=1) if metric.ndim == 1 else weights @ weights.T
    one, two = metric.ravel() - metric.mean(), products.ravel() - products.mean()
    norms = np.linalg.norm(one) * np.linalg.norm(two)
    return float(one @ two / norms) if norms > 0 else float("nan")
