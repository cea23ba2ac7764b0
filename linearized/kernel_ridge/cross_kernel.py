"""The kernel between new rows and train rows, computed in tiles while it is multiplied and never held whole."""

from typing import Any

import numpy as np

from kernel_gen.kernel import Kernel, quiet, refuse_overflow
from linearized.base.blocks import cores, for_each
from linearized.base.shapes import Float64
from linearized.storage.products import cut


class CrossKernel:
    """K (m, n) between new rows and train rows, for products.

    Args:
        kernel: Kernel whose parameters are set.
        x: New rows (m, d).
        train: Train rows prepared by the kernel.

    Attributes:
        shape: (m, n).
    """

    def __init__(self, kernel: Kernel, x: np.ndarray, train: Any):
        self._kernel, self._x, self._train = kernel, x, train
        self.shape = len(x), len(train)

    def __matmul__(self, v: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "m k"]:
        """Compute the product with v in float64, and every entry of K once.

        Needs the memory of one tile per core and of the prepared rows of as many tiles. Raises `UserError` for entries
        that are not finite.
        """
        side, out = self._kernel.tile, np.zeros((self.shape[0], v.shape[1]))

        def add(rows: slice) -> None:
            with quiet():
                new = self._kernel.prepare(self._x[rows])
            for start in range(0, self.shape[1], side):
                columns = slice(start, start + side)
                with quiet():
                    block = self._kernel.block(new, self._train[columns])
                refuse_overflow(block, ("the new rows", rows.start), ("the train rows", start))
                out[rows] += block.astype(np.float64, copy=False) @ v[columns]

        if self._kernel.own_threads:
            for rows in cut(self.shape[0], side):
                add(rows)  # in this thread, where the kernel uses all cores
        else:
            for_each(cut(self.shape[0], side, least=cores()), add)
        return out
