"""GAUSSIAN: exp(-‖x - z‖² / 2L²), the radial basis function kernel; L is scikit-learn's `length_scale`, γ = 1 / 2L²."""

import numpy as np

from kernel_gen.kernels.radial import RadialKernel
from linearized.base.shapes import Float64
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads

READS = reads("bandwidth")
TRACE_GRID = True  # no ridges are published for it
GRADIENTS = ALWAYS
ROTATION_INVARIANT = ALWAYS


class GaussianKernel(RadialKernel):
    """The kernel exp(-r²/2) with r = ‖x - z‖ / L."""

    def profile(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return exp(-r²/2), overwriting r."""
        np.square(distances, out=distances)
        distances *= -0.5
        return np.exp(distances, out=distances)

    def slope(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return -exp(-r²/2)."""
        return -np.exp(-0.5 * np.square(distances))


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> GaussianKernel:
    """Return the kernel of `bandwidth`."""
    return GaussianKernel(settings.bandwidth, settings.dtype)
