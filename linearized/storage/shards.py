"""Shards: HDF5 files that each hold some rows of a Gram matrix or of features; a shard is complete or absent.

A shard holds bands, ranges of consecutive rows that are stored together. A band is stored as one byte range at a known
offset. It can be read without HDF5 at the speed of a flat file, also by several threads at once, which HDF5's own lock
does not allow. All space is allocated when the file is made; later writes replace bytes in place.

Each band has a checksum, which is compared before the first use of the band. A digest at the end of the file
(`linearized.base.seals`) protects all other bytes and is compared before HDF5 opens the file. Shards of version 0.1
have no digest, so that only their entries are protected.
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

PIECE = 2**24  # bytes read at once to compute a checksum
_SUM, _DONE = "crc32", "finished"
SPEED = "pairs_per_second"  # attribute of a shard; for features it holds rows per second


class BadShard(Exception):
    """An error for the file of a shard; its message begins with "missing", "damaged" or "foreign".

    A foreign shard was computed with other settings or from other data.
    """


class Stored(NamedTuple):
    """The location on disk of a band (a range of rows that are stored together): a byte range in a file.

    Attributes:
        band: Block and row numbers of the band.
        path: The file.
        offset: Position of the band's first byte in the file.
        shape: Numbers of rows and columns of the band.
        dtype: Type of the entries.
        crc32: Checksum of the bytes.
    """

    band: Band
    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype
    crc32: int

    def read_rows(self, start: int, out: np.ndarray) -> None:
        """Read consecutive rows from the file into `out`, without a comparison of their checksum.

        Args:
            start: First row to read, counted from 0 at the first row of the band.
            out: Array (rows, columns of the band), which is filled. Each of its rows must be contiguous.

        Raises BadShard if the file ends early.
        """
        row_bytes = self.shape[1] * self.dtype.itemsize
        step = max(1, min(1024, 2**30 // row_bytes))  # one call takes at most 1,024 buffers and 2 GiB
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
        """Return the rows as a read-only memory map, for reading few columns."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)

    def check_sum(self) -> None:
        """Read all rows and compare their checksum, at about 4 GB/s.

        Raises BadShard if the checksum differs or the file ends early.
        """
        rows, columns = self.shape
        buffer, total = np.empty((min(rows, max(1, PIECE // (columns * self.dtype.itemsize))), columns), self.dtype), 0
        for start in range(0, rows, len(buffer)):
            part = buffer[: rows - start]
            self.read_rows(start, part)
            total = crc32(part, total)
        if total != self.crc32:
            raise BadShard(f"damaged: the checksum of {self.band.name} differs")


def attributes(manifest: Manifest, shard: int, number: int = FORMAT) -> dict[str, int | str]:
    """Return the HDF5 attributes that the file of a shard must have, according to the description of its folder.

    Args:
        manifest: Description of the folder.
        shard: Number of the shard, from 0.
        number: Format number of the file, the attribute "format".
    """
    return {
        "format": number, "fingerprint": manifest.fingerprint, "dtype": manifest.dtype, "scale": manifest.scale,
        "settings": json.dumps(manifest.settings, sort_keys=True, ensure_ascii=False),
        "rows": json.dumps(manifest.rows, sort_keys=True),
        "shard": shard, "num_shards": len(manifest.shards), "bands": json.dumps(manifest.shards[shard]),
    }  # fmt: skip


def read_header(path: Path, manifest: Manifest, shard: int) -> list[Stored]:
    """Check the header of a finished shard and return the locations of its rows, without reading any entries.

    Args:
        path: File of the shard.
        manifest: Description of the folder.
        shard: Number of the shard, from 0.

    Raises BadShard if the file is missing, damaged, unfinished, or differs from the description.
    """
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
    """Check the file of a shard; return None if it is complete and undamaged, otherwise a description of the problem.

    The description begins with "missing", "damaged" or "foreign" (of other settings or data). Jobs use this check to
    find the shards that they must make, and the status command shows the result.

    Args:
        path: File of the shard.
        manifest: Description of the folder.
        shard: Number of the shard, from 0.
        sums: Compare the checksums of the entries too (about 3 GB/s); False checks only the header.
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
    """Rename the file of a bad shard, log a warning, and return the new path; the file is kept but not used.

    Args:
        path: File of the shard.
        problem: Problem as `check_shard` returns it; its first word, such as "damaged", becomes the suffix of the new
            path.
    """
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
    """Convert errors of h5py in a `with` block to the OSError that caused them, such as a full disk.

    The number of the OSError is read from the text of h5py's error. Errors without such a number are re-raised
    unchanged.

    Args:
        path: File that the new error names.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def create(path: Path, manifest: Manifest, shard: int, *, tiles: int = 0, allocate: bool = True) -> None:
    """Make the file of a shard without its entries, and reserve its disk space.

    Args:
        path: File to make.
        manifest: Description of the folder.
        shard: Number of the shard, from 0.
        tiles: Number of tiles, the parts in which a job computes the entries. The file gets a table `tiles` of this
            length, in which the job records the finished tiles; 0: no table.
        allocate: Reserve the disk space; False leaves the file sparse.

    Raises OSError if the disk is full, before any entries are computed.
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
    if not allocate or not hasattr(os, "posix_fallocate"):  # on macOS, later writes fail if the disk is full
        return
    handle = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, path.stat().st_size)
    finally:
        os.close(handle)


def _allocate(file: h5py.File, name: str, shape: tuple[int, int], dtype: str) -> h5py.Dataset:
    """Create a contiguous dataset, allocate its space in the file, and leave its entries undefined."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, how, links))


def finish(file: h5py.File, sums: dict[Band, int], speed: float) -> None:
    """Mark a shard as finished, and store the checksums of its entries.

    Args:
        file: The opened file of the shard.
        sums: CRC32 of each band, a range of rows that is stored together.
        speed: Pairs or rows computed per second, which is stored for estimates.
    """
    for band, own in sums.items():
        file[band.name].attrs.modify(_SUM, np.uint32(own))
    file.attrs.modify(SPEED, np.float64(speed))
    file.attrs.modify(_DONE, np.uint8(1))
    file.flush()


def parts(path: Path, bands: Iterable[Band]) -> tuple[list[SealedPart], int]:
    """Return the byte range of each band in the file of a shard, and the length of the file.

    The file is not checked; this process must have made it.

    Args:
        path: The file.
        bands: Bands (ranges of rows) in the file.
    """
    with h5py.File(path, "r", locking=False) as file:
        found = [SealedPart(file[band.name].id.get_offset(), file[band.name].nbytes) for band in bands]
    return found, path.stat().st_size


def write_shard(folder: Path | str, manifest: Manifest, shard: int, entries: Callable[[Band], np.ndarray]) -> Path:
    """Write a complete shard from entries that are already known, and return its path.

    Args:
        folder: Folder of the shard.
        manifest: Description of the folder.
        shard: Number of the shard, from 0.
        entries: Function that returns the entries of a band (a range of rows that are stored together), an array of
            shape `manifest.shape(band)`.

    Raises `UserError` for entries that are not finite or have another shape, and OSError if the disk is full.
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
    """Return a copy of some train rows of a Gram matrix with an exactly symmetric square on the diagonal.

    The lower triangle of the square is replaced by the transpose of the upper triangle.

    Args:
        block: Entries (m, columns) from the diagonal onwards; the first m columns are the square.
    """
    block, rows = block.copy(), len(block)
    corner = np.triu(block[:, :rows])
    block[:, :rows] = corner + np.triu(corner, 1).T
    return block


def refuse_not_finite(block: np.ndarray, manifest: Manifest, band: Band, start: int, left: int) -> None:
    """Raise `UserError` for the first entry that is not finite; the error names the two rows, or the row of a feature.

    Args:
        block: Some rows and columns of a band, a range of rows that are stored together.
        manifest: Description of the folder.
        band: The band: train, validation or test, and its row numbers.
        start: Number of the first row of `block` among all train, validation or test rows, from 0.
        left: Number of the first column of `block`, from 0: a train row, or a feature.
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
