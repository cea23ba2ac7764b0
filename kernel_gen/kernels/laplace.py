"""LAPLACE: exp(-‖x - z‖ / L), the initial kernel of recursive feature machines. Both kinds are this kernel."""

import numpy as np

from kernel_gen.kernels.radial import RadialKernel
from linearized.base.shapes import Float64
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads

READS = reads("bandwidth")
TRACE_GRID = True  # no ridges are published for it
GRADIENTS = ALWAYS
ROTATION_INVARIANT = ALWAYS


class LaplaceKernel(RadialKernel):
    """The kernel exp(-r) with r = ‖x - z‖ / L."""

    def profile(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return exp(-r), overwriting r."""
        np.negative(distances, out=distances)
        return np.exp(distances, out=distances)

    def slope(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return -exp(-r) / r, infinite at 0."""
        with np.errstate(divide="ignore"):
            return -np.exp(-distances) / distances


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> LaplaceKernel:
    """Return the kernel of `bandwidth`."""
    return LaplaceKernel(settings.bandwidth, settings.dtype)
