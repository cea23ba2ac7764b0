"""A shard in the making: finished tiles survive a kill, are verified when the work goes on, and become the shard."""

import time
import zlib
from pathlib import Path

import h5py
import numpy as np
from absl import logging

from data.array_files import open_hdf5
from data.files import sync
from data.manifest import Manifest
from data.reading import Absent, Unreadable
from data.shards import PIECE, attributes, create, finish, plain_errors, refuse_nan, with_symmetric_corner
from kernel_gen.tiles import Tile, tiles

TICK = np.uint64(2**32)  # added to a tile's CRC32 in the table: the tile is there


class PartialShard:
    """The file `*.part` beside a shard's place. Only the holder of the shard's lock may open one.

    Attributes:
        todo: Tiles that are not there yet.
    """

    def __init__(self, path: Path, manifest: Manifest, shard: int):
        """Opens what an earlier run left and verifies its tiles, or makes a new file.

        Raises OSError where the disk is full.
        """
        self._path, self._aside = path, partial_path(path)
        self._manifest, self._tiles = manifest, tiles(manifest, shard)
        self._place = {tile: index for index, tile in enumerate(self._tiles)}
        self._start, self._pairs = time.monotonic(), 0
        if not self._resumable(attributes(manifest, shard)):
            self._aside.unlink(missing_ok=True)
            try:
                create(self._aside, manifest, shard, tiles=len(self._tiles))
            except OSError:
                self._aside.unlink(missing_ok=True)  # the space that it took already
                raise
        self._file = h5py.File(self._aside, "r+", locking=False)
        self.todo = [tile for tile in self._tiles if not self._there(tile)]

    def __enter__(self) -> "PartialShard":
        return self

    def __exit__(self, *_) -> None:
        with plain_errors(self._aside):
            self._file.close()

    def write(self, tile: Tile, block: np.ndarray) -> None:
        """Writes a tile, then ticks it off: a kill in between costs this tile.

        Raises `UserError` for entries that are not finite, OSError where the disk is full.
        """
        refuse_nan(block, tile.band, tile.left)
        if tile.on_diagonal:
            block = with_symmetric_corner(block)
        block = np.ascontiguousarray(block, self._manifest.dtype)
        with plain_errors(self._aside):
            self._file[tile.band.name].write_direct(block, dest_sel=self._columns(tile))
            self._file.flush()
            self._file["tiles"][self._place[tile]] = TICK + np.uint64(zlib.crc32(block))
            self._file.flush()
        self._pairs += tile.pairs

    def finish(self) -> None:
        """Reads all back, compares every tile with its sum, enters the sums of the bands, syncs, renames.

        Raises OSError where the disk gave back other bytes; the next run computes those tiles again.
        """
        lost = [tile for tile in self._tiles if not self._there(tile)]
        if lost:
            raise OSError(f"{len(lost)} tiles of {self._aside} were not read back as written; run the command again")
        sums = {band: self._sum(self._file[band.name]) for band in {tile.band for tile in self._tiles}}
        finish(self._file, sums, self._pairs / max(time.monotonic() - self._start, 1e-9))
        self._file.close()
        sync(self._aside)
        self._aside.replace(self._path)
        sync(self._path.parent)

    def _resumable(self, expected: dict[str, int | str]) -> bool:
        try:
            with open_hdf5(self._aside) as file:
                tiles, bands = file["tiles"], {tile.band for tile in self._tiles}
                good = tiles.shape == (len(self._tiles),) and tiles.dtype == np.uint64
                good = good and all(file[band.name].shape == self._manifest.shape(band) for band in bands)
                good = good and all(file[band.name].dtype == self._manifest.dtype for band in bands)
                return good and all(file.attrs[name] == value for name, value in expected.items())
        except Absent:
            return False
        except Unreadable as error:
            logging.warning("The shard starts again from its first tile: %s", error)
            return False

    def _columns(self, tile: Tile) -> tuple[slice, slice]:
        return np.s_[:, tile.left - tile.band.left : tile.right - tile.band.left]

    def _there(self, tile: Tile) -> bool:
        """Whether a tile is ticked off and its bytes have the sum that they were written with."""
        tick = self._file["tiles"][self._place[tile]]
        if tick < TICK:
            return False
        block = self._file[tile.band.name][self._columns(tile)]
        return zlib.crc32(block) == int(tick - TICK)

    def _sum(self, band: h5py.Dataset) -> int:
        """CRC32 of a whole band, read by rows."""
        step, total = max(1, PIECE // (band.shape[1] * band.dtype.itemsize)), 0
        for start in range(0, len(band), step):
            total = zlib.crc32(band[start : start + step], total)
        return total


def partial_path(path: Path) -> Path:
    """Where the shard `path` is while it is made."""
    return path.with_suffix(".part")


def share_done(path: Path) -> float | None:
    """Which share of the tiles of a shard in the making is ticked off; None where there is no readable partial file."""
    try:
        with open_hdf5(partial_path(path)) as file:
            return float(np.mean(file["tiles"][()] >= TICK))
    except Unreadable:
        return None
