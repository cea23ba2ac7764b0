"""POLYNOMIAL: the kernel (c + x·z/√d)^p of rows with d columns, with offset c and degree p.

It is not the kernel of a network, so the setting `kind` (NTK or NNGP) does not apply.
"""

import numpy as np

from kernel_gen.kernel import Kernel
from kernel_gen.rows import Rows, inner_products, prepare_rows
from linearized.base.shapes import Float
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads

READS = reads("degree", "offset")
ROTATION_INVARIANT = ALWAYS


class PolynomialKernel(Kernel):
    """The kernel (c + x·z/√d)^p of rows with d columns; an entry costs 2d + p operations.

    Args:
        degree: Degree p, at least 1.
        offset: Offset c.
        dtype: Data type of the entries, "float32" or "float64".
        scale: Name of the scale that shards and results store; it does not affect the entries.
    """

    tile = 1024

    def __init__(self, degree: int, offset: float, dtype: str = "float32", scale: str = "stax"):
        self.degree, self.offset = degree, offset
        self.dtype, self.scale = np.dtype(dtype), scale

    def prepare(self, x: np.ndarray) -> Rows:
        """Return the rows of `x` (n, d) in the kernel's dtype with their squared norms.

        Raises `UserError` for rows that are not finite.
        """
        return prepare_rows(x, self.dtype)

    def block(self, one: Rows, two: Rows, *, same: bool = False) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel (n1, n2) between two sets of rows, which `prepare` returned.

        Args:
            one: The n1 inputs of the rows.
            two: The n2 inputs of the columns.
            same: Whether `two` contains the inputs of `one`.

        Raises `UserError` if the two sets differ in their numbers of columns.
        """
        two = one if same else two
        entries = inner_products(one, two)
        entries /= np.sqrt(one.values.shape[1])
        entries += self.offset
        base = entries.copy() if self.degree > 1 else entries
        for _ in range(self.degree - 1):
            entries *= base
        return entries


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> PolynomialKernel:
    """Return the kernel of degree `settings.degree` and offset `settings.offset`.

    `image_shape` is not used, because images are treated as rows.
    """
    return PolynomialKernel(settings.degree, settings.offset, settings.dtype)
