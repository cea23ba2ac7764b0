"""Files of unfinished shards, from which a job that was killed resumes.

A tile is a rectangular part of the matrix in a shard. Each tile is written to the file `*.part` of its shard as soon as
it is computed. When the job is resumed, the tiles in the file are verified by their checksums. After the last tile the
file is renamed to the finished shard. The file has the layout of the finished shard. An index at its end identifies the
shard and stores the positions of its bands, which are ranges of rows (`linearized.base.seals`). Until the shard is
finished, only the index is protected by a digest (sealed). The HDF5 metadata is written last, so HDF5 never opens an
unfinished file.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from absl import logging
from isal.isal_zlib import crc32

from kernel_gen.jobs.tiles import Tile
from linearized.base.seals import Damaged, Index, SealedPart, crc32_of, gaps, read_index, seal_parts, write_index
from linearized.storage.files import aside_folder, sync
from linearized.storage.manifest import Band, Manifest
from linearized.storage.shards import (
    attributes,
    create,
    finish,
    parts,
    plain_errors,
    refuse_not_finite,
    with_symmetric_corner,
)

TICK = np.uint64(2**32)  # added to a tile's CRC32 in the table to mark the tile as written
_TICK_BYTES = 8


class PartialShard:
    """Context manager of the file `*.part` in which the tiles of an unfinished shard are stored.

    Only the process that holds the shard's lock may open it.

    Attributes:
        todo: Tiles that are not yet written.
    """

    def __init__(self, path: Path, manifest: Manifest, shard: int, tiles: Sequence[Tile]):
        """Open the file of an earlier run and verify its tiles, or create a new file.

        Args:
            path: Path of the finished shard.
            manifest: Description of the folder.
            shard: Index of the shard, from 0.
            tiles: All tiles of the shard. A file that was begun with other tiles is not used.

        Raises `OSError` if the disk is full.
        """
        self._path, self._aside = path, partial_path(path)
        self._manifest, self._shard, self._tiles = manifest, shard, list(tiles)
        self._place = {tile: index for index, tile in enumerate(self._tiles)}
        self._start, self._amount = time.monotonic(), 0
        self._index = self._resumed() or self._made()
        self._parts = dict(zip(manifest.shards[shard], self._index.parts, strict=True))
        self._handle = os.open(self._aside, os.O_RDWR | os.O_CLOEXEC)
        self.todo = [tile for tile in self._tiles if not self._there(tile)]
        if damaged := sum(self._tick(tile) != 0 for tile in self.todo):
            logging.warning("%s: %d tiles are damaged and computed again", self._aside, damaged)

    def __enter__(self) -> "PartialShard":
        return self

    def __exit__(self, *_) -> None:
        os.close(self._handle)

    def write(self, tile: Tile, block: np.ndarray) -> None:
        """Write the entries of a tile, then mark it as written, so that a killed process loses only this tile.

        Args:
            tile: The tile.
            block: Its entries (rows, columns).

        Raises `UserError` for entries that are not finite, and `OSError` if the disk is full.
        """
        refuse_not_finite(block, self._manifest, tile.band, tile.start, tile.left)
        if tile.on_diagonal:
            block = with_symmetric_corner(block)
        block = np.ascontiguousarray(block, self._manifest.dtype)
        for offset, row in zip(self._rows(tile), block, strict=True):
            _write(self._handle, row, offset)
        tick = TICK + np.uint64(crc32(block))
        _write(self._handle, np.array([tick], "<u8"), self._tick_offset(tile))
        self._amount += tile.amount(self._manifest)

    def finish(self) -> None:
        """Turn the file into the finished shard: verify all tiles, write the HDF5 metadata, seal and rename the file.

        The whole file is read back, and every tile is compared with its checksum. Raises `OSError` if the disk returned
        other bytes; the next run recomputes those tiles.
        """
        lost = [tile for tile in self._tiles if not self._there(tile)]
        if lost:
            raise OSError(f"{len(lost)} tiles of {self._aside} were not read back as written; run the command again")
        sums = {band: crc32_of(self._aside, part) for band, part in self._parts.items()}
        self._write_header(sums, self._amount / max(time.monotonic() - self._start, 1e-9))
        sync(self._aside)
        seal_parts(self._aside)
        sync(self._aside)
        self._aside.replace(self._path)
        sync(self._path.parent)

    def _write_header(self, sums: dict[Band, int], speed: float) -> None:
        """Write the HDF5 metadata of the finished shard into the file, at the offsets that it has in a finished file.

        Args:
            sums: CRC32 of the entries of each band.
            speed: Pairs, or rows of features, that were computed per second.

        Raises `OSError` if HDF5 would use a different layout.
        """
        with aside_folder(self._aside.parent) as folder:
            header = folder / "header.h5"
            create(header, self._manifest, self._shard, tiles=len(self._tiles), allocate=False)
            with plain_errors(header), h5py.File(header, "r+", locking=False) as file:
                finish(file, sums, speed)
            found, size = parts(header, sums)
            if found != self._index.parts or size != self._index.start:
                raise OSError(f"{self._aside} has another layout than HDF5 gives it now. Remove it and run again")
            ticks = SealedPart(self._index.about["tiles"], _TICK_BYTES * len(self._tiles))
            with header.open("rb") as file:
                for start, stop in gaps(self._index._replace(parts=[*found, ticks])):
                    file.seek(start)
                    _write(self._handle, file.read(stop - start), start)

    def _identity(self) -> str:
        """Return a digest of everything that the entries and the layout of this file depend on.

        A file of an earlier run with a different digest is not resumed.
        """
        about = [attributes(self._manifest, self._shard), self._tiles, h5py.version.hdf5_version]
        return hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16).hexdigest()

    def _resumed(self) -> Index | None:
        """Return the index of the file that an earlier run left, or None if there is none or it cannot be used.

        A file that cannot be used is reported in the log.
        """
        try:
            index = read_index(self._aside, finished=False)
        except FileNotFoundError:
            return None
        except (OSError, Damaged) as error:
            logging.warning("%s cannot be used (%s): its shard starts from scratch", self._aside, error)
            return None
        if index is None or index.about.get("identity") != self._identity():
            logging.warning("%s is of other settings or another version: its shard starts from scratch", self._aside)
            return None
        return index

    def _made(self) -> Index:
        self._aside.unlink(missing_ok=True)
        try:
            create(self._aside, self._manifest, self._shard, tiles=len(self._tiles))
            with h5py.File(self._aside, "r", locking=False) as file:
                table = file["tiles"].id.get_offset()
            found, size = parts(self._aside, self._manifest.shards[self._shard])
            about = {"identity": self._identity(), "tiles": table, "count": len(self._tiles)}
            write_index(self._aside, size, found, about)
        except OSError:
            self._aside.unlink(missing_ok=True)  # frees the space that the file already takes
            raise
        return read_index(self._aside, finished=False)

    def _rows(self, tile: Tile) -> Iterator[int]:
        """Yield the offset in the file, in bytes, of each row of a tile."""
        width, size = self._manifest.shape(tile.band)[1], np.dtype(self._manifest.dtype).itemsize
        first = (tile.start - tile.band.start) * width + tile.left - self._manifest.left(tile.band)
        return (self._parts[tile.band].offset + (first + row * width) * size for row in range(tile.stop - tile.start))

    def _tick_offset(self, tile: Tile) -> int:
        return self._index.about["tiles"] + _TICK_BYTES * self._place[tile]

    def _tick(self, tile: Tile) -> int:
        return int.from_bytes(os.pread(self._handle, _TICK_BYTES, self._tick_offset(tile)), "little")

    def _there(self, tile: Tile) -> bool:
        """Return whether a tile is marked as written and its bytes have the checksum with which they were written."""
        tick = self._tick(tile)
        if tick < TICK:
            return False
        count, total = (tile.right - tile.left) * np.dtype(self._manifest.dtype).itemsize, 0
        for offset in self._rows(tile):
            total = crc32(os.pread(self._handle, count, offset), total)
        return total == tick - int(TICK)


def _write(handle: int, content: bytes | np.ndarray, offset: int) -> None:
    """Write all of `content` at an offset of the file of descriptor `handle`. Raises OSError if the disk is full."""
    rest = memoryview(content).cast("B")
    while len(rest):
        count = os.pwrite(handle, rest, offset)
        rest, offset = rest[count:], offset + count


def partial_path(path: Path) -> Path:
    """Return the path of the partial file, `*.part`, of the shard whose finished file has the path `path`."""
    return path.with_suffix(".part")


def share_done(path: Path) -> float | None:
    """Return the share of its tiles, from 0 to 1, that an unfinished shard has written.

    Args:
        path: Path of the finished shard.

    Returns: The share; None if there is no readable partial file.
    """
    try:
        index = read_index(partial_path(path), finished=False)
        if index is None:
            return None
        with partial_path(path).open("rb") as file:
            file.seek(index.about["tiles"])
            ticks = np.frombuffer(file.read(_TICK_BYTES * index.about["count"]), "<u8")
    except (OSError, Damaged):
        return None
    return float(np.mean(ticks >= TICK))
