"""Reader of a stored Gram matrix: computes products, rows and columns from the files without loading the matrix.

The matrix consists of up to three blocks: the kernel between train, validation or test rows and the train rows. A block
is divided into bands, ranges of consecutive rows. The bands are stored in shards, one HDF5 file each. Of the symmetric
train block, only the upper triangle is stored.

The header of every file is checked when the matrix is opened, and the checksum of each band is compared before its
first use. Products hold two groups of rows in memory, never the whole matrix.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from linearized.base.errors import UserError
from linearized.base.keywords import suggests_keywords
from linearized.storage.manifest import GRAM, Manifest
from linearized.storage.products import add_symmetric, multiply, spread
from linearized.storage.shard_folder import open_shards
from linearized.storage.shards import BadShard, Stored

MEMORY = 2**25  # bytes of a block of rows in a product, whose parts are divided among the cores
CACHE = 2**21  # bytes of a block of rows in other passes; it stays in the cache, which makes reading 1.7 times as fast
TRANSPOSED = 128  # rows of a block that is also written as columns, whose short pieces would be slow

Item = TypeVar("Item")


class _Bands:
    """Base class of `Gram` and `Rectangle`: a stored part of a kernel matrix, in bands (ranges of rows).

    The rows of a band are stored together.

    Attributes:
        shape: Shape of the whole block.
        dtype: Dtype of the entries.
        seconds_reading: Total seconds spent on reading and checking files.
        seconds_waiting: Total seconds during which matrix products waited for rows. Rows are read while products with
            earlier rows are computed, so products wait only for a part of `seconds_reading`.
    """

    def __init__(self, manifest: Manifest, stored: list[Stored], refuse: Callable[[Stored, str], None]):
        self._stored = sorted(stored, key=lambda one: one.band.start)
        self._refuse, self._checked = refuse, set()
        self.seconds_reading = self.seconds_waiting = 0.0
        self.dtype = np.dtype(manifest.dtype)
        self.shape = (self._stored[-1].band.stop, manifest.n)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def folder(self) -> Path:
        """Folder of the shards."""
        return self._stored[0].path.parent

    def check(self) -> None:
        """Compare the checksums of all bands now, in parallel.

        Raises `UserError` if a checksum differs or a file cannot be read.
        """
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(self._check, self._stored))

    def _check(self, stored: Stored) -> None:
        if stored.band in self._checked:
            return
        try:
            stored.check_sum()
        except (BadShard, OSError) as error:
            self._refuse(stored, str(error) if isinstance(error, BadShard) else f"unreadable: {error}")
        self._checked.add(stored.band)

    def _panels(
        self, memory: int, bands: slice = slice(None), buffers: int = 1
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield the stored rows in parts (panels) of about `memory` bytes, each as (first row, first column, entries).

        A panel holds several small bands, because products of few rows are slow, or a part of a large band. Train rows
        are stored from the diagonal onwards. In a panel of several train bands, entries that are not stored are
        undefined.

        Args:
            memory: Approximate size of a panel in bytes; a single row may take more.
            bands: Range of the bands to read, by default all.
            buffers: Number of buffers that are used in turn. The entries of a panel are valid until `buffers` more
                panels have been requested.
        """
        free, item = [np.empty(0, self.dtype)] * buffers, self.dtype.itemsize
        for group in self._groups(memory, bands):
            first = group[0]
            start, left, width = first.band.start, first.band.left, first.shape[1]
            rows = group[-1].band.stop - start
            step = min(rows, max(1, memory // (width * item))) if len(group) == 1 else rows
            for row in range(0, rows, step):
                buffer = free.pop(0)
                if len(buffer) < step * width:
                    buffer = np.empty(step * width, self.dtype)
                free.append(buffer)
                panel = buffer[: min(step, rows - row) * width].reshape(-1, width)
                for stored in group:
                    top, bottom = max(stored.band.start, start + row), min(stored.band.stop, start + row + len(panel))
                    into = panel[top - start - row : bottom - start - row, stored.band.left - left :]
                    self._read(stored, top - stored.band.start, into)
                yield start + row, left, panel

    def _groups(self, memory: int, bands: slice) -> Iterator[list[Stored]]:
        """Yield groups of consecutive bands that fit together in `memory` bytes.

        A band that is larger than `memory` is a group of its own.

        Args:
            memory: Largest size of a group in bytes.
            bands: Range of the bands to group.
        """
        group: list[Stored] = []
        for stored in self._stored[bands]:
            if group:
                entries = (stored.band.stop - group[0].band.start) * group[0].shape[1]
                if entries * self.dtype.itemsize > memory:
                    yield group
                    group = []
            group.append(stored)
        if group:
            yield group

    def _read(self, stored: Stored, row: int, out: np.ndarray) -> None:
        began = time.perf_counter()
        self._check(stored)
        try:
            stored.read_rows(row, out)
        except BadShard as error:
            self._refuse(stored, str(error))
        except OSError as error:
            self._refuse(stored, f"unreadable: {error}")
        self.seconds_reading += time.perf_counter() - began

    def _ahead(self, blocks: Iterator[Item]) -> Iterator[Item]:
        """Yield the items of an iterator while a thread reads the next one, so that reading and computing overlap.

        The iterator must use two buffers, because the next item is read while the current one is in use.
        """
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(next, blocks, None)
            while True:
                began = time.perf_counter()
                block = coming.result()
                self.seconds_waiting += time.perf_counter() - began
                if block is None:
                    return
                coming = reader.submit(next, blocks, None)
                yield block

    def _range(self, rows: slice) -> tuple[int, int]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise UserError(f"A Gram matrix is read by ranges of rows. Received a step of {step}.")
        return start, max(start, stop)


class Rectangle(_Bands):
    """The stored kernel between test (or validation) rows and train rows, (m, n), with all of its entries.

    `rectangle @ v` and `rectangle[start:stop]` read the files; nothing else is kept in memory.
    """

    def row_blocks(self, memory: int = CACHE, *, buffers: int = 1) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield all rows in order as (slice of row numbers, entries (rows, n)).

        Args:
            memory: Approximate size of the yielded entries in bytes; a single row may take more.
            buffers: Number of buffers that are used in turn. The entries are valid until `buffers` more items have been
                requested.
        """
        for start, _, entries in self._panels(memory, buffers=buffers):
            yield slice(start, start + len(entries)), entries

    def __matmul__(self, v: np.ndarray) -> np.ndarray:
        """Compute the product with v, (n, k) or (n,), in the wider of the two dtypes.

        The files are read once. Two groups of rows are in memory, one being read and one in use.
        """
        columns = np.ascontiguousarray(v).reshape(len(v), -1)
        out = np.empty((len(self), columns.shape[1]), np.result_type(self.dtype, v))
        with spread() as each:
            for rows, block in self._ahead(self.row_blocks(MEMORY, buffers=2)):
                multiply(block, columns, each, out[rows])
        return out.reshape(len(self), *v.shape[1:])

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read a range of rows, (rows, n). Raises `UserError` for a slice with a step other than 1."""
        start, stop = self._range(rows)
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        for stored in self._stored:
            first, last = max(start, stored.band.start), min(stop, stored.band.stop)
            if first < last:
                self._check(stored)
                out[first - start : last - start] = stored.mapped()[
                    first - stored.band.start : last - stored.band.start
                ]
        return out

    def to_memory(self, dtype: np.dtype | str | None = None) -> np.ndarray:
        """Read the whole matrix, (m, n), into memory, in `dtype` or by default in the stored type."""
        out = np.empty(self.shape, dtype or self.dtype)
        for rows, block in self.row_blocks():
            out[rows] = block
        return out


class Gram(_Bands):
    """A stored symmetric kernel matrix K between train rows, (n, n); the files hold its upper triangle.

    `gram @ v`, `gram[start:stop]` and the methods read the files. Only `to_memory` loads the whole matrix.

    Attributes:
        manifest: Description of the folder: settings, fingerprint of the dataset, scale, and division into files.
        test: Kernel between test and train rows, or None if it is not stored.
        validation: Kernel between validation and train rows, or None if it is not stored.
    """

    test: Rectangle | None = None
    validation: Rectangle | None = None

    def __init__(self, manifest: Manifest, stored: list[Stored], refuse: Callable[[Stored, str], None]):
        parts = {block: [one for one in stored if one.band.block == block] for block in manifest.rows}
        super().__init__(manifest, parts.pop("train"), refuse)
        self.manifest = manifest
        for block, bands in parts.items():
            setattr(self, block, Rectangle(manifest, bands, refuse))

    def row_blocks(
        self, memory: int = CACHE, *, bands: slice = slice(None), buffers: int = 1
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield all rows from the diagonal onwards, in order, as (rows, K[rows, rows.start:]) with slices `rows`.

        Each stored entry is read once. The first len(rows) columns of the entries are the square on the diagonal of K,
        including its lower triangle. The other columns, transposed, are the entries of K below this square.

        Args:
            memory: Approximate size of the yielded entries in bytes; a single row may take more.
            bands: Slice of the bands (ranges of rows that are stored together) to read, as `parts` returns it; by
                default all.
            buffers: Number of buffers that are used in turn. The entries are valid until `buffers` more items have been
                requested.
        """
        corners = {stored.band.start: stored.band.stop for stored in self._stored}
        for start, left, entries in self._panels(memory, bands, buffers):
            entries = entries[:, start - left :]
            top, rows = 0, len(entries)
            while (bottom := corners.get(start + top, start + rows) - start) < rows:  # the squares are complete already
                entries[bottom:, top:bottom] = entries[top:bottom, bottom:rows].T
                top = bottom
            yield slice(start, start + rows), entries

    def __matmul__(self, v: np.ndarray) -> np.ndarray:
        """Compute K @ v for v of shape (n, k) or (n,).

        The stored half is read once, and each entry off the diagonal is used twice. Products and sums are in the wider
        of the two dtypes. Two groups of rows are in memory, one being read and one in use.
        """
        return self.multiply(v)

    def multiply(self, v: np.ndarray, *, bands: slice = slice(None), memory: int = MEMORY) -> np.ndarray:
        """Compute the contribution of some of the stored rows, and of their transpose, to K @ v.

        The contributions of all slices that `parts` returns sum to K @ v, so that several processes can share a
        product. Calls without `bands` return K @ v itself.

        Args:
            v: Vectors of shape (n, k) or (n,).
            bands: Slice of the bands (ranges of rows that are stored together) to use, as `parts` returns it; by
                default all.
            memory: Approximate size in bytes of each of the two groups of rows in memory.

        Returns: An array of the shape of v, in the wider of the dtypes of K and v.
        """
        columns = np.ascontiguousarray(v).reshape(len(v), -1)
        total = np.zeros(columns.shape, np.result_type(self.dtype, v))
        with spread() as each:
            for rows, block in self._ahead(self.row_blocks(memory, bands=bands, buffers=2)):
                add_symmetric(block, rows.start, columns, total, each)
        return total.reshape(v.shape)

    def diagonal(self) -> np.ndarray:
        """Return the diagonal in float64, in one pass over the files."""
        return np.concatenate([np.diagonal(block).astype(np.float64) for _, block in self.row_blocks()])

    def trace(self) -> float:
        """Return the sum of the diagonal, in one pass over the files."""
        return float(self.diagonal().sum())

    def columns(self, chosen: np.ndarray) -> np.ndarray:
        """Return some columns of the matrix, K[:, chosen], (n, b), in one pass over the files.

        This is faster than reading single rows by `gram[i : i + 1]`, which gathers the entries left of the diagonal
        from all rows above.

        Args:
            chosen: Indices of the columns, (b,).
        """
        out = np.empty((len(self), len(chosen)), self.dtype)
        for rows, block in self._ahead(self.row_blocks(buffers=2)):
            right = np.flatnonzero(chosen >= rows.start)
            out[rows, right] = block[:, chosen[right] - rows.start]
            here = right[chosen[right] < rows.stop]
            out[rows.start :, here] = block[chosen[here] - rows.start].T
        return out

    def parts(self, count: int) -> list[slice]:
        """Divide the bands (ranges of rows that are stored together) into parts with about the same number of entries.

        Args:
            count: Largest number of parts.

        Returns: Slices of the bands, for the argument `bands` of `multiply` and `row_blocks`.
        """
        edges = np.cumsum([0] + [stored.shape[0] * stored.shape[1] for stored in self._stored])
        ends = sorted({int(np.searchsorted(edges, edges[-1] * i / count)) for i in range(count + 1)})
        return [slice(start, stop) for start, stop in itertools.pairwise(ends)]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read a range of full rows, (rows, n), completed by symmetry.

        Entries below the diagonal are gathered from all rows above; `row_blocks` is faster for reading all rows.

        Raises `UserError` for a slice with a step other than 1.
        """
        start, stop = self._range(rows)
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        for stored in self._stored:
            band = stored.band
            if band.start >= stop:
                break
            self._check(stored)
            entries = stored.mapped()
            first, below = max(start, band.start), max(start, band.stop)
            if first < min(stop, band.stop):
                last = min(stop, band.stop)
                self._read(stored, first - band.start, out[first - start : last - start, band.start :])
            if below < stop:
                out[below - start :, band.start : band.stop] = entries[:, below - band.start : stop - band.start].T
        return out

    def to_memory(self, dtype: np.dtype | str | None = None) -> np.ndarray:
        """Read the whole symmetric matrix, (n, n), into memory, in `dtype` or by default in the stored type."""
        out = np.empty(self.shape, dtype or self.dtype)
        for rows, block in self.row_blocks(max(CACHE, TRANSPOSED * len(self) * self.dtype.itemsize)):
            out[rows, rows.start :] = block
            out[rows.stop :, rows] = block[:, rows.stop - rows.start :].T
        return out

    def check(self) -> None:
        """Compare the checksums of all stored train, validation and test rows now, in parallel.

        Raises `UserError` if a checksum differs or a file cannot be read.
        """
        super().check()
        for block in (self.validation, self.test):
            if block is not None:
                block.check()


@suggests_keywords
def open_gram(folder: Path | str, *, fingerprint: str | None = None, check: bool = False) -> Gram:
    """Open the stored Gram matrix in a folder, after a check that every shard exists and agrees with `gram.json`.

    Args:
        folder: Folder of `gram.json` and the shards.
        fingerprint: Fingerprint of the dataset that the matrix must belong to; None skips this check.
        check: Compare all checksums now, not only before the first use of each band of rows.

    Raises `UserError`, which names the file and the command that makes the file again, if a file is missing, damaged or
    belongs to another matrix.
    """
    opened = open_shards(folder, GRAM, fingerprint)
    gram = Gram(opened.manifest, opened.stored, opened.refuse)
    if check:
        gram.check()
    return gram
