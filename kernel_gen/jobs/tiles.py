"""Division of the work of a job: rows into shards of equal cost, shards into bands, and bands into tiles.

A block is the part of the matrix for the train, validation or test rows. A band consists of consecutive rows of a
block, and a tile is a part of a band that is computed at once. Features cost the same for every row, so a shard of
features has one range of rows of each block. Of a Gram matrix of n train rows only the upper triangle is computed. In
it row i, counted from 0, has n - i entries and row n-1-i has i + 1, so the two rows together have n + 1 entries for
every i. Therefore a shard has a range of rows of the upper half, the mirrored range of the lower half, and its share of
the test and validation rows.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from linearized.base.errors import UserError
from linearized.storage.manifest import Band, Manifest

MOST_SHARDS = 250  # as published; more are used if shards would be larger than SHARD_BYTES
SHARD_BYTES = 2**30
FEATURE_BYTES = 2**26  # approximate size of a shard of features


class Tile(NamedTuple):
    """A part of a matrix, rows [start, stop) and columns [left, right), that is computed and written at once.

    Attributes:
        band: The band, a range of consecutive rows of a block, that contains the tile.
        start, stop, left, right: Rows and columns, counted from 0 in the whole block (train, validation or test).
        on_diagonal: Whether it is a square on the diagonal of a Gram matrix.
    """

    band: Band
    start: int
    stop: int
    left: int
    right: int
    on_diagonal: bool = False

    @property
    def entries(self) -> int:
        """The number of entries, rows times columns."""
        return (self.stop - self.start) * (self.right - self.left)

    def amount(self, manifest: Manifest) -> int:
        """Return the number of pairs of rows in the tile, or its number of rows if `manifest` describes features."""
        return self.entries // (manifest.dim or 1)


def good_number(rows: Mapping[str, int], tile: int, itemsize: int) -> int:
    """Return the default number of shards of a Gram matrix, with which each shard has two bands of `tile` train rows.

    A band is a range of consecutive rows. The number is at most 250, unless shards would then exceed 1 GiB.

    Args:
        rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
        tile: Largest number of rows of a band.
        itemsize: Bytes per entry.
    """
    n = rows["train"]
    entries = n * n // 2 + n * (sum(rows.values()) - n)
    wanted = min(math.ceil(n / (2 * tile)), MOST_SHARDS)
    return min(max(wanted, math.ceil(entries * itemsize / SHARD_BYTES)), math.ceil(n / 2))


def divide(rows: Mapping[str, int], num_shards: int, tile: int) -> tuple[tuple[Band, ...], ...]:
    """Return the bands of each shard of a Gram matrix; a band has at most `tile` rows.

    Args:
        rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
        num_shards: Number of shards.
        tile: Largest number of rows of a band.

    Raises `UserError` if a shard would have no pair of train rows.
    """
    n = rows["train"]
    half = math.ceil(n / 2)
    if not 1 <= num_shards <= half:
        raise UserError(
            f"--num_shards={num_shards} cannot divide {n} train rows, which are computed in pairs. Take 1 to {half}."
        )
    return tuple(_bands(rows, num_shards, tile, shard) for shard in range(num_shards))


def _bands(rows: Mapping[str, int], num_shards: int, tile: int, shard: int) -> tuple[Band, ...]:
    n = rows["train"]
    half = math.ceil(n / 2)
    start, stop = half * shard // num_shards, half * (shard + 1) // num_shards
    ranges = [("train", start, stop), ("train", max(n - stop, half), n - start)]  # the middle row of an odd n only once
    for block in sorted(set(rows) - {"train"}):
        ranges.append((block, rows[block] * shard // num_shards, rows[block] * (shard + 1) // num_shards))
    return tuple(Band(block, *cut) for block, start, stop in ranges for cut in _cuts(start, stop, tile))


def _cuts(start: int, stop: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of consecutive parts of [start, stop), of nearly equal size and at most `most` rows."""
    parts = math.ceil((stop - start) / most)
    for part in range(parts):
        yield start + (stop - start) * part // parts, start + (stop - start) * (part + 1) // parts


def tiles(manifest: Manifest, shard: int, run: int = 0) -> list[Tile]:
    """Return the tiles of a shard of a Gram matrix in the order of computation.

    The first tile of a band of train rows is the square on the diagonal. From column 0 on, columns are divided into
    groups of `run` columns, which are prepared together. Each of the other tiles lies within one group.

    Args:
        manifest: Description of the folder.
        shard: Index of the shard, from 0.
        run: Number of columns of a group; 0: `manifest.tile`.
    """
    run = run or manifest.tile
    found = []
    for band in manifest.shards[shard]:
        left = band.left
        if band.block == "train":
            found.append(Tile(band, band.start, band.stop, band.start, band.stop, on_diagonal=True))
            left = band.stop
        while left < manifest.n:
            right = min(manifest.n, left - left % run + run)
            found.append(Tile(band, band.start, band.stop, left, right))
            left = right
    return found


def good_number_of_features(rows: Mapping[str, int], row_bytes: int) -> int:
    """Return the default number of shards of features, each of about `FEATURE_BYTES` bytes.

    Args:
        rows: Number of rows of each block by its name.
        row_bytes: Bytes of the features of one row.
    """
    return min(max(1, sum(rows.values()) * row_bytes // FEATURE_BYTES), rows["train"])


def divide_features(rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
    """Return the bands of each shard of features: for every block of the dataset, one range of consecutive rows.

    Args:
        rows: Number of rows of each block by its name.
        num_shards: Number of shards.

    Raises `UserError` for more shards than train rows, or fewer than one.
    """
    if not 1 <= num_shards <= rows["train"]:
        raise UserError(f"--num_shards={num_shards} cannot divide {rows['train']} train rows.")
    cuts = [
        [(block, count * shard // num_shards, count * (shard + 1) // num_shards) for block, count in rows.items()]
        for shard in range(num_shards)
    ]
    return tuple(tuple(Band(*cut) for cut in shard if cut[1] < cut[2]) for shard in cuts)


def feature_tiles(manifest: Manifest, shard: int, rows: int) -> list[Tile]:
    """Return the tiles of a shard of features: groups of `rows` consecutive rows with all columns.

    The last tile of a band may have fewer rows.

    Args:
        manifest: Description of the folder.
        shard: Index of the shard, from 0.
        rows: Number of rows of a tile.
    """
    return [
        Tile(band, start, min(start + rows, band.stop), 0, manifest.dim)
        for band in manifest.shards[shard]
        for start in range(band.start, band.stop, rows)
    ]
