"""Who computes what: rows folded so that shards cost the same, cut into bands, bands into tiles.

Row i of the triangle has n - i entries and row n-1-i has i + 1: a pair of them costs n + 1 whatever i. So a shard owns
a range of rows of the upper half, the mirrored range of the lower half, and its share of the test and validation rows.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from linearized.base.errors import UserError
from linearized.storage.manifest import Band, Manifest

MOST_SHARDS = 250  # as published, where the shards do not get too large
SHARD_BYTES = 2**30


class Tile(NamedTuple):
    """Columns [left, right) of a band: what is computed and written at once."""

    band: Band
    left: int
    right: int

    @property
    def on_diagonal(self) -> bool:
        """Whether its rows are its columns."""
        return self.band.block == "train" and (self.left, self.right) == (self.band.start, self.band.stop)

    @property
    def pairs(self) -> int:
        """Entries."""
        return (self.band.stop - self.band.start) * (self.right - self.left)


def good_number(rows: Mapping[str, int], tile: int, itemsize: int) -> int:
    """How many shards: of two bands of `tile` rows, but at most 250, unless they would be larger than 1 GiB."""
    n = rows["train"]
    entries = n * n // 2 + n * (sum(rows.values()) - n)
    wanted = min(math.ceil(n / (2 * tile)), MOST_SHARDS)
    return min(max(wanted, math.ceil(entries * itemsize / SHARD_BYTES)), math.ceil(n / 2))


def divide(rows: Mapping[str, int], num_shards: int, tile: int) -> tuple[tuple[Band, ...], ...]:
    """The bands of each shard, of at most `tile` rows each.

    Args:
        rows: Rows of each block: train n, validation, test.

    Raises `UserError` where a shard would have no pair of train rows.
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
    ranges = [("train", start, stop), ("train", max(n - stop, half), n - start)]  # the middle row of an odd n once
    for block in sorted(set(rows) - {"train"}):
        ranges.append((block, rows[block] * shard // num_shards, rows[block] * (shard + 1) // num_shards))
    return tuple(Band(block, *cut) for block, start, stop in ranges for cut in _cuts(start, stop, tile))


def _cuts(start: int, stop: int, most: int) -> Iterator[tuple[int, int]]:
    """Even parts of [start, stop), of at most `most` rows."""
    parts = math.ceil((stop - start) / most)
    for part in range(parts):
        yield start + (stop - start) * part // parts, start + (stop - start) * (part + 1) // parts


def tiles(manifest: Manifest, shard: int) -> list[Tile]:
    """The tiles of a shard in the order of computing. The first of a train band is the square on the diagonal.

    The others lie each within one run of `manifest.tile` columns, counted from 0: what is prepared at once.
    """
    found = []
    for band in manifest.shards[shard]:
        left = band.left
        if band.block == "train":
            found.append(Tile(band, band.start, band.stop))
            left = band.stop
        while left < manifest.n:
            right = min(manifest.n, left - left % manifest.tile + manifest.tile)
            found.append(Tile(band, left, right))
            left = right
    return found
