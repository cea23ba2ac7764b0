"""A shard: a few bands of a Gram matrix, or of features, in one HDF5 file, checksummed, whole or absent.

Bands lie contiguously, since whole rows are what is read: a band is then a run of bytes at a known offset, and reading
it directly goes at the speed of a flat file, in as many threads as one likes, which HDF5's own lock does not allow.
Everything is allocated and described when the file is made; what is written later replaces as many bytes in place.

The bands carry checksums, which are compared before the first use of each. A seal at the end of the file
(`linearized.base.seals`) protects all other bytes and is compared before HDF5 opens the file. Shards of version 0.1
have no seal: their entries are protected by the checksums, their attributes are not.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from absl import logging
from isal.isal_zlib import crc32

from linearized.base.array_checks import first_not_finite
from linearized.base.errors import UserError
from linearized.base.reading import Unreadable
from linearized.base.seals import FORMAT, Damaged, SealedPart, read_index, seal_parts, write_index
from linearized.storage.array_files import open_hdf5
from linearized.storage.files import whole_file
from linearized.storage.manifest import Band, Manifest
from linearized.storage.results import versions

PIECE = 2**24  # bytes read at once to check a sum
_SUM, _DONE = "crc32", "finished"
SPEED = "pairs_per_second"  # attribute of a shard; rows per second for features


class BadShard(Exception):
    """What is wrong with a shard's file, in words that begin with missing, damaged or foreign."""


class Stored(NamedTuple):
    """Where a band lies: a run of bytes in a file."""

    band: Band
    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype
    crc32: int

    def read_rows(self, start: int, out: np.ndarray) -> None:
        """Rows from `start` on into `out` (rows, columns of the band), a part of an array whose rows are contiguous.

        Raises BadShard where the file ends early.
        """
        row_bytes = self.shape[1] * self.dtype.itemsize
        step = max(1, min(1024, 2**30 // row_bytes))  # what one call takes: 1,024 buffers, 2 GiB
        handle = os.open(self.path, os.O_RDONLY)
        try:
            for row in range(0, len(out), step):
                part = out[row : row + step]
                into = [part] if part.flags.c_contiguous else list(part)
                if os.preadv(handle, into, self.offset + (start + row) * row_bytes) != len(part) * row_bytes:
                    raise BadShard("damaged: the file ends early")
        finally:
            os.close(handle)

    def mapped(self) -> np.ndarray:
        """The band as a memory map, for reading few columns."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)

    def check_sum(self) -> None:
        """Reads the band once, about 4 GB/s. Raises BadShard if a bit differs."""
        rows, columns = self.shape
        buffer, total = np.empty((min(rows, max(1, PIECE // (columns * self.dtype.itemsize))), columns), self.dtype), 0
        for start in range(0, rows, len(buffer)):
            part = buffer[: rows - start]
            self.read_rows(start, part)
            total = crc32(part, total)
        if total != self.crc32:
            raise BadShard(f"damaged: the checksum of {self.band.name} differs")


def attributes(manifest: Manifest, shard: int, number: int = FORMAT) -> dict[str, int | str]:
    """Return the attributes of a shard's file of format `number`, which must agree with the description."""
    return {
        "format": number, "fingerprint": manifest.fingerprint, "dtype": manifest.dtype, "scale": manifest.scale,
        "settings": json.dumps(manifest.settings, sort_keys=True, ensure_ascii=False),
        "rows": json.dumps(manifest.rows, sort_keys=True),
        "shard": shard, "num_shards": len(manifest.shards), "bands": json.dumps(manifest.shards[shard]),
    }  # fmt: skip


def read_header(path: Path, manifest: Manifest, shard: int) -> list[Stored]:
    """Where the bands of a finished shard lie. Raises BadShard for whatever is not as described."""
    if not path.is_file():
        raise BadShard("missing")
    try:
        sealed = read_index(path) is not None
    except Damaged as error:
        raise BadShard(f"damaged: {error}") from error
    try:
        with open_hdf5(path, passes=(BadShard,), whole=False) as file:
            if not sealed and file.attrs["format"] == FORMAT:
                raise BadShard("damaged: its digest is missing")
            for name, value in attributes(manifest, shard, FORMAT if sealed else 1).items():
                found = file.attrs[name]
                if found != value:
                    raise BadShard(f"foreign: its {name} is {found}, not {value}")
            if not file.attrs[_DONE]:
                raise BadShard("damaged: it is not finished")
            return [_stored(path, file[band.name], band, manifest) for band in manifest.shards[shard]]
    except Unreadable as error:
        raise BadShard(f"damaged: {error.reason}") from error


def _stored(path: Path, dataset: h5py.Dataset, band: Band, manifest: Manifest) -> Stored:
    offset = dataset.id.get_offset()
    if dataset.shape != manifest.shape(band) or dataset.dtype != manifest.dtype or offset is None:
        raise BadShard(f"damaged: {band.name} is {dataset.dtype} {dataset.shape}")
    if path.stat().st_size < offset + dataset.nbytes:
        raise BadShard("damaged: the file ends early")
    return Stored(band, path, offset, dataset.shape, dataset.dtype, int(dataset.attrs[_SUM]))


def check_shard(path: Path, manifest: Manifest, shard: int, *, sums: bool = True) -> str | None:
    """None for a finished shard; else what is wrong, beginning with "missing", "damaged" or "foreign".

    The one judge for planner, worker and reader.

    Args:
        sums: Whether the checksums are compared too (about 3 GB/s); else only what the file says of itself.
    """
    try:
        for stored in read_header(path, manifest, shard):
            if sums:
                stored.check_sum()
    except BadShard as error:
        return str(error)
    except OSError as error:
        return f"damaged: {error}"
    return None


def set_aside(path: Path, problem: str) -> Path:
    """Renames a bad shard to `*.damaged` or `*.foreign`, out of the way and not lost. Returns its new name."""
    suffix = problem.partition(":")[0]
    new = path.with_name(f"{path.name}.{suffix}")
    count = 1
    while new.exists():
        count += 1
        new = path.with_name(f"{path.name}.{count}.{suffix}")
    path.rename(new)
    logging.warning("%s is %s; it is kept as %s", path, problem, new.name)
    return new


@contextlib.contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """What the system refused to HDF5, as the OSError that it was: h5py hides its number in a long text."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def create(path: Path, manifest: Manifest, shard: int, *, tiles: int = 0, allocate: bool = True) -> None:
    """Make the file of a shard with nothing in it yet, and take its disk space.

    Args:
        tiles: Length of the table `tiles` in which finished pieces are ticked off.
        allocate: False leaves the file sparse.

    Raises OSError where the disk is full: now, not after an hour of work.
    """
    with plain_errors(path), h5py.File(path, "w", locking=False) as file:
        file.attrs.update(attributes(manifest, shard))
        file.attrs["versions"] = json.dumps(versions(), sort_keys=True)
        file.attrs[SPEED] = np.float64(0)
        file.attrs[_DONE] = np.uint8(0)
        for band in manifest.shards[shard]:
            _allocate(file, band.name, manifest.shape(band), manifest.dtype).attrs[_SUM] = np.uint32(0)
        if tiles:
            file.create_dataset("tiles", data=np.zeros(tiles, np.uint64))
    if not allocate or not hasattr(os, "posix_fallocate"):  # on macOS a full disk is noticed by later writes
        return
    handle = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, path.stat().st_size)
    finally:
        os.close(handle)


def _allocate(file: h5py.File, name: str, shape: tuple[int, int], dtype: str) -> h5py.Dataset:
    """A contiguous dataset whose bytes have their place at once, and are not filled."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, how, links))


def finish(file: h5py.File, sums: dict[Band, int], speed: float) -> None:
    """Enter the checksums of all bands and the speed (pairs or rows per second), and mark the shard as finished."""
    for band, own in sums.items():
        file[band.name].attrs.modify(_SUM, np.uint32(own))
    file.attrs.modify(SPEED, np.float64(speed))
    file.attrs.modify(_DONE, np.uint8(1))
    file.flush()


def parts(path: Path, bands: Iterable[Band]) -> tuple[list[SealedPart], int]:
    """Return where the bands lie in a file that this process has just made, and the length of the file."""
    with h5py.File(path, "r", locking=False) as file:
        found = [SealedPart(file[band.name].id.get_offset(), file[band.name].nbytes) for band in bands]
    return found, path.stat().st_size


def write_shard(folder: Path | str, manifest: Manifest, shard: int, entries: Callable[[Band], np.ndarray]) -> Path:
    """Write a whole shard at once, sealed; `entries(band)` gives those of a band, `manifest.shape(band)`.

    Raises `UserError` for entries that are not finite or of another shape, OSError if the disk is full.
    """
    path, bands = manifest.path(folder, shard), manifest.shards[shard]
    with whole_file(path) as aside:
        create(aside, manifest, shard)
        with plain_errors(aside), h5py.File(aside, "r+", locking=False) as file:
            sums = {}
            for band in bands:
                block = np.ascontiguousarray(entries(band), manifest.dtype)
                if block.shape != manifest.shape(band):
                    raise UserError(f"{band.name} takes {manifest.shape(band)} entries. Received: {block.shape}.")
                refuse_not_finite(block, manifest, band, band.start, manifest.left(band))
                if not manifest.dim and band.block == "train":
                    block = with_symmetric_corner(block)
                file[band.name].write_direct(block)
                sums[band] = crc32(block)
            finish(file, sums, 0.0)
        found, size = parts(aside, bands)
        write_index(aside, size, found)
        seal_parts(aside)
    return path


def with_symmetric_corner(block: np.ndarray) -> np.ndarray:
    """Return a copy of the first columns of a train band, the square on the diagonal mirrored from its upper half."""
    block, rows = block.copy(), len(block)
    corner = np.triu(block[:, :rows])
    block[:, :rows] = corner + np.triu(corner, 1).T
    return block


def refuse_not_finite(block: np.ndarray, manifest: Manifest, band: Band, start: int, left: int) -> None:
    """Raise `UserError` that names the first entry that is not finite.

    Args:
        block: Entries of a band, from row `start` of its block and from column `left` on.
    """
    where = first_not_finite(block)
    if where is None:
        return
    value, row, column = block[where], start + where[0], left + where[1]
    if manifest.dim:
        raise UserError(
            f"The features of {band.block} row {row} are not finite: number {column} is {value}. Look at this input, "
            "or take --dtype=float64."
        )
    raise UserError(
        f"The kernel of {band.block} row {row} and train row {column} is {value}. Look at these two inputs, or take "
        "--dtype=float64."
    )
