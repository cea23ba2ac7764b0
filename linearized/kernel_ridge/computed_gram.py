"""Kernel matrix K between train rows whose entries are computed again in every product and never stored.

Iterative solvers can thus work with a K that fits neither in memory nor on a disk. K is computed in square blocks of
rows and columns, called tiles.
"""

import threading
import time

import numpy as np

from kernel_gen.gram_in_memory import gram
from kernel_gen.kernel import Kernel, quiet, refuse_overflow
from linearized.base.blocks import for_each
from linearized.base.shapes import Float, Float64, Int64
from linearized.kernel_ridge.cross_kernel import CrossKernel

NAMES = ("the train rows", "the train rows")
FEW, MANY = 16, 64  # columns of two products that are timed
TIMED = 1024  # rows of a tile that is timed


class ComputedGram:
    """Symmetric kernel matrix K (n, n) between train rows whose entries are computed in each product.

    K is symmetric, so that only the tiles of its upper triangle are computed. A product with c columns takes n²/2
    kernel entries, 2d operations each for kernels of inner products, and 2 n² c operations for the multiplication. It
    needs the memory of the prepared rows and of one tile per core.

    Args:
        kernel: Kernel whose parameters are set.
        x: Train rows (n, d).

    Attributes:
        shape: (n, n).
        dtype: Data type of the entries.
        seconds_reading, seconds_waiting: 0, because no files are read. Matrices in shards have the same attributes.
    """

    seconds_reading = seconds_waiting = 0.0

    def __init__(self, kernel: Kernel, x: np.ndarray):
        self._kernel, self._x = kernel, x
        with quiet():
            self._rows = kernel.prepare(x)
        self.shape, self.dtype = (len(x), len(x)), np.dtype(kernel.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def multiply(self, v: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """Return the product K v in float64. Raises `UserError` if an entry of K is not finite."""
        out, lock, side = np.zeros(v.shape), threading.Lock(), self._kernel.tile

        def add(tile: tuple[slice, slice]) -> None:
            rows, columns = tile
            block = self._block(rows, columns).astype(np.float64, copy=False)
            ahead, below = block @ v[columns], block.T @ v[rows] if rows != columns else None
            with lock:
                out[rows] += ahead
                if below is not None:
                    out[columns] += below

        starts = range(0, len(self), side)
        tiles = [(slice(i, i + side), slice(j, j + side)) for i in starts for j in starts if i <= j]
        if self._kernel.own_threads:
            for tile in tiles:
                add(tile)  # in this thread, where the kernel uses all cores
        else:
            for_each(tiles, add)
        return out

    def diagonal(self) -> Float64[np.ndarray, " n"]:
        """Return the diagonal of K, in float64."""
        return self._kernel.diagonal(self._rows).astype(np.float64)

    def trace(self) -> float:
        """Return the trace of K, the sum of its diagonal."""
        return float(self.diagonal().sum())

    def columns(self, chosen: Int64[np.ndarray, " b"]) -> Float[np.ndarray, "n b"]:
        """Return the columns K[:, chosen].

        Args:
            chosen: Indices of the b columns.
        """
        with quiet():
            prepared = self._kernel.prepare(self._x[chosen])
        return CrossKernel(self._kernel, self._x, prepared, NAMES)[:]

    def to_memory(self, dtype: np.dtype | str | None = None) -> Float[np.ndarray, "n n"]:
        """Compute the whole matrix and return it as an array.

        Args:
            dtype: Data type of the array; None: that of the kernel.
        """
        return gram(self._kernel, self._x).astype(dtype or self.dtype, copy=False)

    def computing_columns(self) -> float:
        """Measure how many columns v can be multiplied by K in the time that it takes to compute the entries of K.

        The result is the time to compute n²/2 entries, divided by the time that each additional column adds to a
        product K v. Both times are measured with one tile (a square block of K). A solver uses the result to choose
        how many columns to multiply together.
        """
        part = slice(0, min(TIMED, self._kernel.tile, len(self)))
        self._block(part, part)  # the first block of some kernels is compiled
        began = time.perf_counter()
        block = self._block(part, part).astype(np.float64, copy=False)
        computed, seconds = time.perf_counter() - began, []
        for columns in (FEW, MANY):
            v, began = np.ones((block.shape[1], columns)), time.perf_counter()
            block @ v
            seconds.append(time.perf_counter() - began)
        return computed / 2 / max((seconds[1] - seconds[0]) / (MANY - FEW), 1e-9)

    def _block(self, rows: slice, columns: slice) -> np.ndarray:
        with quiet():
            block = self._kernel.block(self._rows[rows], self._rows[columns], same=rows == columns)
        refuse_overflow(block, (NAMES[0], rows.start), (NAMES[1], columns.start))
        return block
