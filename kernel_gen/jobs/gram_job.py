"""Computation of a Gram matrix: the kernel between all rows of a dataset and its train rows.

A job divides the rows of the matrix into shards, which are files, and can be resumed (`kernel_gen.jobs.runner`).
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from kernel_gen import KERNELS
from kernel_gen.jobs.tiles import Tile, divide, good_number, tiles
from kernel_gen.jobs.work import Work
from kernel_gen.kernel import Kernel, quiet, underflow
from linearized.data.dataset import Dataset
from linearized.settings.gram_settings import GramSettings
from linearized.settings.memory import refuse_large_kernel
from linearized.settings.operations import gram_pairs, refuse_endless_kernel
from linearized.settings.run_settings import ShardSettings
from linearized.storage.manifest import GRAM, Band, Kind, Manifest


@dataclasses.dataclass(frozen=True)
class KernelJobSettings(GramSettings):
    """Settings of a kernel on a dataset, with methods that build the kernel and check the cost of its Gram matrix."""

    def build(self, image_shape: tuple[int, ...] | None) -> Kernel:
        """Return the kernel of these settings on rows, or on images (height, width, channels) if a shape is given.

        Raises `UserError` if it does not fit the data.
        """
        return KERNELS.load(self.kernel).build(self, image_shape)

    def work(self) -> Work:
        """Return the `Work` that computes this kernel's Gram matrix of the dataset."""
        return GramWork(self.build(self.described().image_shape))

    def refuse_large(self) -> None:
        """Raise `UserError` if the random weights of a finite RF kernel do not fit in memory.

        Other kernels have no such weights.
        """
        refuse_large_kernel(self)

    def amount(self) -> int:
        """Return the number of pairs of rows whose kernel is computed."""
        return gram_pairs(self.row_counts())

    def refuse_endless(self, amount: float) -> None:
        """Raise `UserError` if this machine would take more than a month to compute `amount` pairs."""
        refuse_endless_kernel(self, amount)


@dataclasses.dataclass(frozen=True)
class GramJobSettings(ShardSettings, KernelJobSettings):
    """Settings of `python -m kernel_gen`: a kernel on a dataset, and the shards to compute."""


class GramWork(Work):
    """The `Work` that computes a Gram matrix: the kernel between all rows of a dataset and its train rows.

    Args:
        kernel: The kernel.
        settled: Whether the kernel has all its parameters, such as a bandwidth; otherwise `prepare` sets them from the
            train rows.
    """

    kind: Kind = GRAM

    def __init__(self, kernel: Kernel, *, settled: bool = False):
        self._settled = settled
        self.kernel, self.dtype, self.scale = kernel, np.dtype(kernel.dtype), kernel.scale
        self.tile, self.own_threads = kernel.tile, kernel.own_threads
        self._band: tuple[Band, Any] | None = None  # the current band and its prepared rows
        self._columns: _Columns | None = None
        self._warned = False

    def prepare(self, dataset: Dataset) -> None:
        """Store the rows of the dataset, and set parameters of the kernel, such as a bandwidth, from the train rows."""
        super().prepare(dataset)
        self._splits = dataset.splits()
        if not self._settled:
            self.kernel = self.kernel.on(dataset.train.x)
        self.tile = self.kernel.tile  # may depend on the rows

    def good_number(self, rows: Mapping[str, int]) -> int:
        """Return the default number of shards, with which each shard has two bands of `kernel.tile` train rows.

        A band is a range of consecutive rows. The number is at most 250, unless shards would then exceed 1 GiB.

        Args:
            rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
        """
        return good_number(rows, self.tile, self.dtype.itemsize)

    def divide(self, rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
        """Divide the rows of a Gram matrix into shards of equal cost, and return the bands of rows of each shard.

        A band is a range of consecutive rows. It has at most `kernel.tile` rows.

        Args:
            rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
            num_shards: Number of shards.

        Raises `UserError` if a shard would have no pair of train rows.
        """
        return divide(rows, num_shards, self.tile)

    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """Return the tiles of a shard in the order of computation: for each band of rows, ranges of columns.

        The first tile of a band of train rows is the square on the diagonal.

        Args:
            manifest: Description of the folder of shards.
            shard: Index of the shard, from 0.
        """
        return tiles(manifest, shard)

    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """Return a function without arguments that computes the kernel entries (rows, columns) of a tile.

        The rows of a band are prepared once for all its tiles. Only the prepared rows of the latest band are kept.

        Args:
            manifest: Description of the folder of shards.
            tile: The tile, a part of one band.
        """
        if self._columns is None:
            x = self._splits["train"].x
            self._columns = _Columns(self.kernel, x, len(x) if self.kernel.on_demand else manifest.tile)
        if self._band is None or self._band[0] != tile.band:
            self._band = tile.band, self._rows(tile.band)
        rows, columns = self._band[1], self._columns

        def compute() -> np.ndarray:
            with quiet():
                if tile.on_diagonal:
                    block = self.kernel.block(rows, rows, same=True)
                    self._warn(underflow(self.kernel, block, self._splits["train"].x[tile.start : tile.stop]))
                    return block
                return self.kernel.block(rows, columns.part(tile.left, tile.right))

        return compute

    def _warn(self, words: str) -> None:
        """Log `words` as a warning, unless it is empty or a warning was logged before."""
        if words and not self._warned:
            self._warned = True
            logging.warning("%s", words)

    def _rows(self, band: Band) -> Any:
        """Return the rows of a band, prepared by the kernel (see `Kernel.prepare`)."""
        if self.kernel.on_demand and band.block == "train":
            return self._columns.part(band.start, band.stop)
        return self.kernel.prepare(self._splits[band.block].x[band.start : band.stop])


class _Columns:
    """The train rows for the columns of a Gram matrix, which the kernel prepares (`Kernel.prepare`) on first use.

    Consecutive rows, called a run, are prepared together, by the first thread that needs one of them.

    Args:
        kernel: The kernel.
        x: Train rows (n, d).
        length: Number of rows of a run.
    """

    def __init__(self, kernel: Kernel, x: np.ndarray, length: int):
        self._kernel, self._length = kernel, length
        self._runs = [x[start : start + length] for start in range(0, len(x), length)]
        self._prepared: list[Any] = [None] * len(self._runs)
        self._locks = [threading.Lock() for _ in self._runs]

    def part(self, left: int, right: int) -> Any:
        """Return the prepared rows with the indices `left` to `right` - 1, which must lie in one run."""
        run, first = divmod(left, self._length)
        with self._locks[run]:
            if self._prepared[run] is None:
                self._prepared[run] = self._kernel.prepare(self._runs[run])
        return self._prepared[run][first : first + right - left]
