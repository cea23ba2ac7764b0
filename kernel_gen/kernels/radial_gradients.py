"""Gradients of Σ_i α_i k(x, x_i) for radial kernels, and their average outer product, in closed form and in row blocks.

With r = ‖x - z‖_M / L and k = p(r) the gradient in x is p'(r)/r · M(x - z)/L². The quotient p'(r)/r is `slope` of the
kernel; where x = z it counts as 0, since the Laplace kernel has no derivative there.
"""

import numpy as np

from kernel_gen.kernels.radial import RadialKernel, squared_distances
from kernel_gen.rows import Rows
from linearized.base.shapes import Float64

ROWS = 1024  # of points whose gradients are made together


def gradients(
    kernel: RadialKernel, points: Rows, rows: Rows, alpha: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, "k m d"]:
    """Return the gradients at `points` (m, d) of f_c(x) = Σ_i alpha_ic k(x, x_i), of k outputs.

    Costs 2mnd operations for the distances and 2mnd for each output; memory 16mn bytes.

    Args:
        kernel: With its bandwidth set.
        points, rows: Prepared by the kernel.
    """
    squares = squared_distances(points, rows)
    distances = np.sqrt(squares) / kernel.bandwidth
    slopes = np.where(distances > 0, kernel.slope(distances), 0.0)
    found = np.empty((alpha.shape[1], *points.values.shape))
    for output, weights in zip(found, alpha.T, strict=True):
        weighted = slopes * weights
        np.subtract(weighted.sum(axis=1)[:, None] * points.values, weighted @ rows.values, out=output)
    return found / kernel.bandwidth**2


def average_outer_product(
    kernel: RadialKernel, points: Rows, rows: Rows, alpha: Float64[np.ndarray, "n k"], *, diagonal: bool, centred: bool
) -> np.ndarray:
    """Return (1/m) Σ_j Σ_c g_jc g_jcᵀ over the gradients g at `points`, (d, d), or its diagonal (d,).

    2mndk + 2md²k operations, or 2mdk in the place of the last for the diagonal, in blocks of 1,024 points.

    Args:
        centred: Subtract from each output's gradients their mean over the points. A linear trend of f, whose gradient
            is the same everywhere, then does not hide the directions in which f bends.
    """
    d, k = points.values.shape[1], alpha.shape[1]
    total, sums = np.zeros(d if diagonal else (d, d)), np.zeros((k, d))
    for start in range(0, len(points), ROWS):
        found = gradients(kernel, points[start : start + ROWS], rows, alpha)
        sums += found.sum(axis=1)
        total += np.square(found).sum(axis=(0, 1)) if diagonal else sum(part.T @ part for part in found)
    total /= len(points)
    if centred:
        means = sums / len(points)
        total -= np.square(means).sum(axis=0) if diagonal else means.T @ means
    return np.maximum(total, 0) if diagonal else total
