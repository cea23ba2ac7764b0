"""Kernel matrix K between train rows whose entries are computed again in every product and never stored.

Iterative solvers can thus work with a K that fits neither in memory nor on a disk. K is computed in square blocks of
rows and columns, called tiles.

A band is a range of rows of the upper triangle of K. In a product K v, a worker computes and multiplies one band at a
time. It receives the train rows once, and v once per product. The summands of the product are added in the order of the
bands.
"""

import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kernel_gen.gram_in_memory import in_tiles
from kernel_gen.kernel import Kernel, quiet, refuse_overflow
from linearized.base.blocks import for_each
from linearized.base.shapes import Float, Float64, Int64
from linearized.cluster.tiles import Here, OnWorkers
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.storage.products import cut

NAMES = ("the train rows", "the train rows")
FEW, MANY = 16, 64  # columns of two products that are timed
TIMED = 1024  # rows of a tile that is timed


@dataclasses.dataclass(frozen=True)
class TrainRows:
    """A kernel and the train rows (n, d), from which tiles of K are computed."""

    kernel: Kernel
    x: np.ndarray

    @functools.cached_property
    def prepared(self) -> Any:
        """The rows in the form that `kernel.prepare` returns, computed at the first use."""
        with quiet():
            return self.kernel.prepare(self.x)

    def block(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a tile of K. Raises `UserError` for entries that are not finite."""
        with quiet():
            block = self.kernel.block(self.prepared[rows], self.prepared[columns], same=rows == columns)
        refuse_overflow(block, (NAMES[0], rows.start), (NAMES[1], columns.start))
        return block

    def each(self, band: slice, work: Callable[[slice, slice], None]) -> None:
        """Call `work` for each tile of a band (a range of rows of the upper triangle of K), on all cores.

        Args:
            band: Range of rows, whose start is a multiple of the side of a tile.
            work: Function of the rows and the columns of a tile.
        """
        side, n = self.kernel.tile, len(self.x)
        tiles = [(slice(i, min(i + side, n)), slice(j, min(j + side, n)))
                 for i in range(band.start, band.stop, side) for j in range(i, n, side)]  # fmt: skip
        self.prepared  # noqa: B018 - before threads need it
        if self.kernel.own_threads:
            for tile in tiles:
                work(*tile)  # in this thread, where the kernel uses all cores
        else:
            for_each(tiles, lambda tile: work(*tile))


def multiplied(train: TrainRows, v: Float64[np.ndarray, "n c"], band: slice) -> Float64[np.ndarray, "m c"]:
    """Return the summand of K v that a band (a range of rows of the upper triangle of K) and its transpose contribute.

    The summand is 0 before row `band.start`; these rows are left out.
    """
    out, lock, first = np.zeros((len(v) - band.start, v.shape[1])), threading.Lock(), band.start

    def add(rows: slice, columns: slice) -> None:
        block = train.block(rows, columns).astype(np.float64, copy=False)
        ahead, below = block @ v[columns], block.T @ v[rows] if rows != columns else None
        with lock:
            out[rows.start - first : rows.stop - first] += ahead
            if below is not None:
                out[columns.start - first : columns.stop - first] += below

    train.each(band, add)
    return out


def entries(train: TrainRows, band: slice) -> Float[np.ndarray, "b m"]:
    """Return the entries of K in a band (range of rows) from column `band.start` on; tiles below the diagonal are 0."""
    out, first = np.zeros((band.stop - band.start, len(train.x) - band.start), train.kernel.dtype), band.start

    def fill(rows: slice, columns: slice) -> None:
        out[rows.start - first : rows.stop - first, columns.start - first : columns.stop - first] = train.block(
            rows, columns
        )

    train.each(band, fill)
    return out


def multiplied_rows(train: TrainRows, v: Float64[np.ndarray, "n c"], rows: Int64[np.ndarray, " b"]) -> np.ndarray:
    """Return K[rows] v for the indices `rows` of train rows, (b, c)."""
    return CrossKernel(train.kernel, train.x[rows], train.prepared, NAMES) @ v


class ComputedGram:
    """Symmetric kernel matrix K (n, n) between train rows whose entries are computed in each product.

    K is symmetric, so that only the tiles of its upper triangle are computed. A product with c columns computes n²/2
    kernel entries (2 d operations each, if the kernel depends on inner products), and multiplies them with 2 n² c
    operations. It needs the memory of the prepared rows and of one tile per core.

    Args:
        kernel: Kernel whose parameters are set.
        x: Train rows (n, d).
        place: Object that computes the tiles, from `linearized.cluster.tiles.places`; None: this process.

    Attributes:
        shape: (n, n).
        dtype: Data type of the entries.
        seconds_reading, seconds_waiting: 0, because no files are read. Matrices in shards have the same attributes.
    """

    seconds_reading = seconds_waiting = 0.0

    def __init__(self, kernel: Kernel, x: np.ndarray, place: Here | OnWorkers | None = None):
        self._kernel, self._x, self._place = kernel, x, place or Here()
        self._train = TrainRows(kernel, x)
        self._shared = self._place.share(self._train)
        self.shape, self.dtype = (len(x), len(x)), np.dtype(kernel.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def multiply(self, v: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """Return the product K v in float64. Raises `UserError` if an entry of K is not finite."""
        out, columns, bands = np.zeros(v.shape), self._place.share(v), self._bands()
        summands = self._place.ordered(multiplied, ((self._shared, columns, band) for band in bands))
        for band, summand in zip(bands, summands, strict=True):
            out[band.start :] += summand
        return out

    def _bands(self) -> list[slice]:
        """Return the bands: ranges of rows of whole tiles, each computed by one call."""
        n, side = len(self), self._kernel.tile
        step = side * max(1, n // (side * self._place.parts))
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def diagonal(self) -> Float64[np.ndarray, " n"]:
        """Return the diagonal of K, in float64."""
        return self._kernel.diagonal(self._train.prepared).astype(np.float64)

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

    def row_block(
        self, rows: Int64[np.ndarray, " b"], v: Float64[np.ndarray, "n c"]
    ) -> tuple[Float64[np.ndarray, "b c"], Float64[np.ndarray, "b b"]]:
        """Return the product K[rows] v and the square K[rows][:, rows].

        The entries of K[rows] are computed, and those of the square once more, as a kernel matrix of the rows alone:
        rounding would otherwise change its diagonal. The product takes the entries of the square from there.

        Args:
            rows: Indices of the b rows.
            v: Columns (n, c).
        """
        square = in_tiles(self._kernel, self._x[rows], side=self._kernel.tile).astype(np.float64, copy=False)
        others = v.copy()
        others[rows] = 0
        columns, parts = self._place.share(others), cut(len(rows), self._kernel.tile, least=self._place.parts)
        products = self._place.ordered(multiplied_rows, ((self._shared, columns, rows[part]) for part in parts))
        return np.concatenate(list(products)) + square @ v[rows], square

    def to_memory(self, dtype: np.dtype | str | None = None) -> Float[np.ndarray, "n n"]:
        """Compute the whole matrix and return it as an array.

        In this process, the memory beside the array is that of the prepared rows and of a tile of side `kernel.tile`
        per core, as in a product; an array of another type than the kernel's is a copy.

        Args:
            dtype: Data type of the array; None: the data type of the kernel.
        """
        if isinstance(self._place, Here):
            whole = in_tiles(self._kernel, self._x, side=self._kernel.tile)
            return whole.astype(dtype or self.dtype, copy=False)
        whole, bands = np.empty(self.shape, dtype or self.dtype), self._bands()
        found = self._place.ordered(entries, ((self._shared, band) for band in bands))
        for band, rows in zip(bands, found, strict=True):
            own = len(rows)
            whole[band, band.stop :] = rows[:, own:]
            whole[band.stop :, band] = rows[:, own:].T
            whole[band, band] = np.triu(rows[:, :own]) + np.triu(rows[:, :own], 1).T
        return whole

    def computing_columns(self) -> float:
        """Measure how many columns v can be multiplied by K in the time that it takes to compute the entries of K.

        The result is the time to compute n²/2 entries, divided by the time that each additional column adds to a
        product K v. Both times are measured with one tile (a square block of K). A solver uses the result to choose
        how many columns to multiply together.
        """
        part = slice(0, min(TIMED, self._kernel.tile, len(self)))
        self._train.block(part, part)  # the first block of some kernels is compiled
        began = time.perf_counter()
        block = self._train.block(part, part).astype(np.float64, copy=False)
        computed, seconds = time.perf_counter() - began, []
        for columns in (FEW, MANY):
            v, began = np.ones((block.shape[1], columns)), time.perf_counter()
            block @ v
            seconds.append(time.perf_counter() - began)
        return computed / 2 / max((seconds[1] - seconds[0]) / (MANY - FEW), 1e-9)
