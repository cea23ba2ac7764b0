"""POLYNOMIAL: (c + x·z/√d)^p, as published. Both kinds are this kernel."""

import numpy as np

from kernel_gen.kernel import Kernel
from kernel_gen.rows import Rows, inner_products, prepare_rows
from linearized.base.shapes import Float
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads

READS = reads("degree", "offset")
ROTATION_INVARIANT = ALWAYS


class PolynomialKernel(Kernel):
    """The kernel (offset + x·z/√d)^degree; costs 2d + degree operations per entry."""

    tile = 1024

    def __init__(self, degree: int, offset: float, dtype: str = "float32", scale: str = "stax"):
        self.degree, self.offset = degree, offset
        self.dtype, self.scale = np.dtype(dtype), scale

    def prepare(self, x: np.ndarray) -> Rows:
        """Return the rows in the kernel's dtype."""
        return prepare_rows(x, self.dtype)

    def block(self, one: Rows, two: Rows, *, same: bool = False) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel between two sets of rows, (n1, n2)."""
        two = one if same else two
        entries = inner_products(one, two)
        entries /= np.sqrt(one.values.shape[1])
        entries += self.offset
        base = entries.copy() if self.degree > 1 else entries
        for _ in range(self.degree - 1):
            entries *= base
        return entries


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> PolynomialKernel:
    """Return the kernel of `degree` and `offset`; images are treated as rows."""
    return PolynomialKernel(settings.degree, settings.offset, settings.dtype)
