"""MATERN: the Matérn kernels of smoothness 1.5 and 2.5 (Rasmussen & Williams 2006, eq. 4.17).

With r = ‖x - z‖ / L and bandwidth L they are (1 + √3 r) exp(-√3 r) and (1 + √5 r + 5r²/3) exp(-√5 r). Gaussian
processes with these covariances are once and twice differentiable in mean square. The Matérn kernel of smoothness 0.5
is the kernel LAPLACE.
"""

import math

import numpy as np

from kernel_gen.kernels.radial import RadialKernel
from linearized.base.shapes import Float64
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads

READS = reads("bandwidth", "smoothness")
TRACE_GRID = True  # ridges scale with the trace of the Gram matrix, because none are published for this kernel
GRADIENTS = ALWAYS
ROTATION_INVARIANT = ALWAYS


class MaternKernel(RadialKernel):
    """The Matérn kernel of smoothness ν = 1.5 or 2.5 of the distance r = ‖x - z‖ / L.

    Args:
        bandwidth: L, in units of the inputs; 0: the median distance between the train rows.
        smoothness: ν as text, "1.5" or "2.5".
        dtype: Data type of the entries, "float32" or "float64".
    """

    def __init__(self, bandwidth: float = 0.0, smoothness: str = "2.5", dtype: str = "float32"):
        super().__init__(bandwidth, dtype)
        self.smoothness = smoothness

    def profile(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return the Matérn function f of distances r (n1, n2) in units of the bandwidth L, which are overwritten.

        f is (1 + √3 r) exp(-√3 r) for smoothness 1.5 and (1 + √5 r + 5r²/3) exp(-√5 r) for 2.5.
        """
        distances *= math.sqrt(2 * float(self.smoothness))
        decay = np.exp(-distances)
        if self.smoothness == "2.5":
            decay *= 1 + distances + np.square(distances) / 3
        else:
            decay *= 1 + distances
        return decay

    def slope(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return f'(r)/r of the Matérn function f, the factor of its gradients, for distances r in units of L."""
        scaled = math.sqrt(2 * float(self.smoothness)) * distances
        decay = np.exp(-scaled)
        return -5 / 3 * (1 + scaled) * decay if self.smoothness == "2.5" else -3 * decay


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> MaternKernel:
    """Return the Matérn kernel of `settings.bandwidth` and `settings.smoothness`.

    A bandwidth of 0 stands for the median distance between train rows. `image_shape` is not used, because images are
    treated as rows.
    """
    return MaternKernel(settings.bandwidth, settings.smoothness, settings.dtype)
