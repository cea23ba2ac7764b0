"""GAUSSIAN: the radial basis function kernel exp(-‖x - z‖² / 2L²) of bandwidth L.

L is scikit-learn's `length_scale`, and γ = 1 / 2L² its `gamma`.
"""

import numpy as np

from kernel_gen.kernels.radial import RadialKernel
from linearized.base.shapes import Float64
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads

READS = reads("bandwidth")
TRACE_GRID = True  # ridges scale with the trace of the Gram matrix, because none are published for this kernel
GRADIENTS = ALWAYS
ROTATION_INVARIANT = ALWAYS


class GaussianKernel(RadialKernel):
    """The Gaussian kernel exp(-r²/2) of r = ‖x - z‖ / L, with the bandwidth L of a `RadialKernel`."""

    def profile(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return the kernel exp(-r²/2) for distances r (n1, n2) in units of the bandwidth L, which are overwritten."""
        np.square(distances, out=distances)
        distances *= -0.5
        return np.exp(distances, out=distances)

    def slope(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return f'(r)/r = -exp(-r²/2), the factor of gradients of f(r) = exp(-r²/2), for distances r in units of L."""
        return -np.exp(-0.5 * np.square(distances))


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> GaussianKernel:
    """Return the Gaussian kernel of bandwidth `settings.bandwidth`; 0 stands for the median distance of train rows.

    `image_shape` is not used, because images are treated as rows.
    """
    return GaussianKernel(settings.bandwidth, settings.dtype)
