"""LAPLACE: the kernel exp(-‖x - z‖ / L) of bandwidth L, the default base kernel of recursive feature machines.

It is not the kernel of a network, so the setting `kind` (NTK or NNGP) does not apply.
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


class LaplaceKernel(RadialKernel):
    """The Laplace kernel exp(-r) of r = ‖x - z‖ / L, with the bandwidth L of a `RadialKernel`."""

    def profile(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return the kernel exp(-r) for distances r (n1, n2) in units of the bandwidth L, which are overwritten."""
        np.negative(distances, out=distances)
        return np.exp(distances, out=distances)

    def slope(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return f'(r)/r = -exp(-r) / r, the factor of gradients of f(r) = exp(-r), for distances r in units of L.

        It is infinite at 0.
        """
        with np.errstate(divide="ignore"):
            return -np.exp(-distances) / distances


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> LaplaceKernel:
    """Return the Laplace kernel of bandwidth `settings.bandwidth`; 0 stands for the median distance of train rows.

    `image_shape` is not used, because images are treated as rows.
    """
    return LaplaceKernel(settings.bandwidth, settings.dtype)
