"""A Gram matrix read from its shards: symmetric over the stored triangle, by blocks of rows, never all of it at once.

Every file is looked at when the matrix is opened, and the checksum of each band is compared before its first use.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from data.errors import UserError
from data.manifest import Manifest, load_manifest
from data.shards import BadShard, Stored, read_header

MEMORY = 2**25  # bytes of a block of rows, where the caller names no other


class _Bands:
    """The bands of one block, in the order of their rows.

    Attributes:
        shape, dtype: Of the whole matrix.
    """

    def __init__(self, manifest: Manifest, stored: list[Stored], refuse: Callable[[Stored, str], None]):
        self._stored = sorted(stored, key=lambda one: one.band.start)
        self._refuse, self._checked = refuse, set()
        self.dtype = np.dtype(manifest.dtype)
        self.shape = (self._stored[-1].band.stop, manifest.n)

    def __len__(self) -> int:
        return self.shape[0]

    def check(self) -> None:
        """Compares all checksums now, on all cores. Raises `UserError` as reading does."""
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

    def _panels(self, memory: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """(first row, first column, entries) of about `memory` bytes each: bands together, or a part of a large one.

        Small bands are read side by side into one panel, since products of few rows are slow. What a panel lacks of a
        lower band, left of its diagonal, is not filled. One buffer serves all panels.
        """
        buffer, item = np.empty(0, self.dtype), self.dtype.itemsize
        for group in self._groups(memory):
            first = group[0]
            start, left, width = first.band.start, first.band.left, first.shape[1]
            rows = group[-1].band.stop - start
            step = min(rows, max(1, memory // (width * item))) if len(group) == 1 else rows
            if len(buffer) < step * width:
                buffer = np.empty(step * width, self.dtype)
            for row in range(0, rows, step):
                panel = buffer[: min(step, rows - row) * width].reshape(-1, width)
                for stored in group:
                    top, bottom = max(stored.band.start, start + row), min(stored.band.stop, start + row + len(panel))
                    into = panel[top - start - row : bottom - start - row, stored.band.left - left :]
                    self._read(stored, top - stored.band.start, into)
                yield start + row, left, panel

    def _groups(self, memory: int) -> Iterator[list[Stored]]:
        """Consecutive bands that make panels of at most `memory` bytes, or one band alone."""
        group: list[Stored] = []
        for stored in self._stored:
            if group:
                entries = (stored.band.stop - group[0].band.start) * group[0].shape[1]
                if entries * self.dtype.itemsize > memory:
                    yield group
                    group = []
            group.append(stored)
        yield group

    def _read(self, stored: Stored, row: int, out: np.ndarray) -> None:
        self._check(stored)
        try:
            stored.read_rows(row, out)
        except BadShard as error:
            self._refuse(stored, str(error))
        except OSError as error:
            self._refuse(stored, f"unreadable: {error}")

    def _range(self, rows: slice) -> tuple[int, int]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise UserError(f"A Gram matrix is read by ranges of rows. Received a step of {step}.")
        return start, max(start, stop)


class Rectangle(_Bands):
    """The kernel between test (or validation) rows and train rows, (m, n), stored whole."""

    def row_blocks(self, memory: int = MEMORY) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows, entries (rows, n)) in order. The entries are overwritten by the next step."""
        for start, _, entries in self._panels(memory):
            yield slice(start, start + len(entries)), entries

    def __matmul__(self, v: np.ndarray) -> np.ndarray:
        """The product with (n, k) or (n,), in one pass over the files."""
        out = np.empty((len(self), *v.shape[1:]), np.result_type(self.dtype, v))
        for rows, block in self.row_blocks():
            out[rows] = block @ v
        return out

    def __getitem__(self, rows: slice) -> np.ndarray:
        """A range of rows, (rows, n)."""
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
        """All of it, (m, n), for what fits."""
        out = np.empty(self.shape, dtype or self.dtype)
        for rows, block in self.row_blocks():
            out[rows] = block
        return out


class Gram(_Bands):
    """The symmetric kernel between train rows, (n, n), of which the upper triangle is stored.

    Attributes:
        manifest: Settings, fingerprint of the dataset, scale and division.
        test, validation: The blocks against the train rows, or None where there is none.
    """

    test: Rectangle | None = None
    validation: Rectangle | None = None

    def __init__(self, manifest: Manifest, stored: list[Stored], refuse: Callable[[Stored, str], None]):
        parts = {block: [one for one in stored if one.band.block == block] for block in manifest.rows}
        super().__init__(manifest, parts.pop("train"), refuse)
        self.manifest = manifest
        for block, bands in parts.items():
            setattr(self, block, Rectangle(manifest, bands, refuse))

    def row_blocks(self, memory: int = MEMORY) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows, entries (rows, n - rows.start)) in order: K[rows, rows.start:], each stored entry read once.

        The first columns are the square on the diagonal, whole; the rest stands for its transpose too. The entries are
        overwritten by the next step.

        Args:
            memory: Bytes of a block, about; a single row may take more.
        """
        corners = {stored.band.start: stored.band.stop for stored in self._stored}
        for start, left, entries in self._panels(memory):
            entries = entries[:, start - left :]
            top, rows = 0, len(entries)
            while (bottom := corners.get(start + top, start + rows) - start) < rows:  # the squares are whole already
                entries[bottom:, top:bottom] = entries[top:bottom, bottom:rows].T
                top = bottom
            yield slice(start, start + rows), entries

    def __matmul__(self, v: np.ndarray) -> np.ndarray:
        """K @ v for v of (n, k) or (n,), in one pass over the stored half, each entry serving twice."""
        out = np.zeros((len(self), *v.shape[1:]), np.result_type(self.dtype, v))
        for rows, block in self.row_blocks():
            out[rows] += block @ v[rows.start :]
            out[rows.stop :] += block[:, rows.stop - rows.start :].T @ v[rows]
        return out

    def __getitem__(self, rows: slice) -> np.ndarray:
        """A range of whole rows, (rows, n), mirrored from the triangle.

        What lies below the diagonal is gathered from all bands above: for all rows in turn, `row_blocks` is quicker.
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
        """All of it, (n, n) and symmetric, for what fits."""
        out = np.empty(self.shape, dtype or self.dtype)
        for rows, block in self.row_blocks():
            out[rows, rows.start :] = block
            out[rows.stop :, rows] = block[:, rows.stop - rows.start :].T
        return out

    def check(self) -> None:
        """Compares all checksums now, of all blocks, on all cores."""
        super().check()
        for block in (self.validation, self.test):
            if block is not None:
                block.check()


def open_gram(folder: Path | str, *, fingerprint: str | None = None, check: bool = False) -> Gram:
    """Opens the Gram matrix in a folder; every shard must be there and be what `gram.json` says.

    Args:
        fingerprint: Of the dataset that it must belong to; None asks nothing.
        check: Compares all checksums now, instead of each at its first use.

    Raises `UserError` naming the file and the command that makes it anew, for whatever is missing, damaged or foreign.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    if fingerprint is not None and fingerprint != manifest.fingerprint:
        raise UserError(
            f"{folder} is of another dataset (fingerprint {manifest.fingerprint}, not {fingerprint}). Make one with: "
            f"{manifest.command}"
        )
    stored, bad, shard_of = [], {}, {}
    for shard, bands in enumerate(manifest.shards):
        shard_of |= dict.fromkeys(bands, shard)
        try:
            stored += read_header(manifest.path(folder, shard), manifest, shard)
        except BadShard as error:
            bad[shard] = str(error)
    if bad:
        shard, problem = next(iter(bad.items()))
        many = f"{len(bad)} of {len(manifest.shards)} shards are not ready; the first: " if len(bad) > 1 else ""
        raise UserError(
            f"{many}{manifest.path(folder, shard)} is {problem}. Make it with: {manifest.remake(shard)} "
            f"(without --shard: all that are not ready)"
        )

    def refuse(stored: Stored, problem: str) -> None:
        raise UserError(f"{stored.path} is {problem}. Make it anew with: {manifest.remake(shard_of[stored.band])}")

    gram = Gram(manifest, stored, refuse)
    if check:
        gram.check()
    return gram
