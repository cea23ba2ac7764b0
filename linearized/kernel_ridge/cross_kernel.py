"""Kernel matrix between new rows and train rows, for predictions, whose entries are computed during products.

The entries are computed in blocks of rows and columns, called tiles. The whole matrix is never in memory, unless the
caller reads all of its rows.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernel_gen.kernel import Kernel, quiet, refuse_overflow
from linearized.base.blocks import cores, for_each
from linearized.base.shapes import Float, Float64
from linearized.storage.products import cut


class CrossKernel:
    """Kernel matrix K (m, n) between m new rows and n train rows, whose entries are computed when they are used.

    `K @ v` and `product` return products, and `K[start:stop]` returns a range of rows. Entries are computed in blocks
    of rows and columns (tiles), and are not kept.

    Args:
        kernel: Kernel whose parameters are set.
        x: New rows (m, d).
        train: Train rows, in the form that `kernel.prepare` returns.
        names: Names of the new rows and of the train rows in error messages.
        first: Index of the first of the new rows in error messages.

    Attributes:
        shape: (m, n).
        dtype: Data type of the entries.
    """

    def __init__(
        self, kernel: Kernel, x: np.ndarray, train: Any, names: tuple[str, str] = ("the new rows", "the train rows"),
        first: int = 0,
    ):  # fmt: skip
        self._kernel, self._x, self._train, self._names, self._first = kernel, x, train, names, first
        self.shape, self.dtype = (len(x), len(train)), np.dtype(kernel.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Float[np.ndarray, "b n"]:
        """Compute the entries of a range of b rows, (b, n). Raises `UserError` for entries that are not finite."""
        start, stop, _ = rows.indices(len(self))
        out = np.empty((max(stop - start, 0), self.shape[1]), self.dtype)

        def fill(part: slice) -> None:
            for columns, block in self._blocks(slice(start + part.start, start + part.stop)):
                out[part, columns] = block

        self._each(len(out), fill)
        return out

    def __matmul__(self, v: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "m k"]:
        """Return the product K v in float64. Raises `UserError` if an entry of K is not finite."""
        return self.product(slice(0, len(self)), v)

    def product(self, rows: slice, v: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "b k"]:
        """Return the product K[rows] v in float64, for a range of b rows.

        Each entry of K[rows] is computed once. The product needs the memory of one tile per core, and of the prepared
        rows of these tiles.

        Args:
            rows: Range of the new rows.
            v: Columns to multiply by, such as coefficients of the train rows.

        Raises:
            UserError: If an entry of K[rows] is not finite.
        """
        start, stop, _ = rows.indices(len(self))
        out = np.zeros((max(stop - start, 0), v.shape[1]))

        def add(part: slice) -> None:
            for columns, block in self._blocks(slice(start + part.start, start + part.stop)):
                out[part] += block.astype(np.float64, copy=False) @ v[columns]

        self._each(len(out), add)
        return out

    def _each(self, rows: int, work: Callable[[slice], None]) -> None:
        """Divide a number of rows into ranges of at most one tile, and call `work` for each range, on all cores.

        Args:
            rows: Number of rows.
            work: Function of a range of rows.
        """
        if self._kernel.own_threads:
            for part in cut(rows, self._kernel.tile):
                work(part)  # in this thread, where the kernel uses all cores
        else:
            for_each(cut(rows, self._kernel.tile, least=cores()), work)

    def _blocks(self, rows: slice) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the entries of a range of rows in blocks, as pairs (range of columns, entries (b, columns)).

        A block is at most one tile wide. Raises `UserError` for entries that are not finite.
        """
        with quiet():
            new = self._kernel.prepare(self._x[rows])
        for start in range(0, self.shape[1], self._kernel.tile):
            columns = slice(start, start + self._kernel.tile)
            with quiet():
                block = self._kernel.block(new, self._train[columns])
            refuse_overflow(block, (self._names[0], self._first + rows.start), (self._names[1], start))
            yield columns, block
