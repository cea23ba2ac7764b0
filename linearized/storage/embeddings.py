"""Reader of the stored random features of a dataset: an array (rows, m) for each split (train, validation, test).

All arrays together are called an embedding. They are stored in shards, HDF5 files with some of the rows each. The
shards and the description of their folder have the same formats as for Gram matrices, see `linearized.storage.shards`
and `linearized.storage.manifest`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.base.keywords import suggests_keywords
from linearized.base.shapes import Float
from linearized.storage.manifest import FEATURES, Band, Manifest
from linearized.storage.shard_folder import open_shards
from linearized.storage.shards import BadShard, Stored

MEMORY = 2**25  # default size of a block in bytes


class FeatureMatrix:
    """The features of one split, (rows, m), on disk; `features[start:stop]` reads a range of rows.

    The checksum of each stored range of rows is compared before its first use.

    Attributes:
        shape: Shape (rows, m) of all features of the split.
        dtype: Dtype of the features.
    """

    def __init__(self, manifest: Manifest, stored: list[Stored], refuse: Callable[[Stored, str], None]):
        self._stored, self._refuse = sorted(stored, key=lambda one: one.band.start), refuse
        self._checked: set[Band] = set()
        self.shape = (self._stored[-1].band.stop, manifest.dim)
        self.dtype = np.dtype(manifest.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Float[np.ndarray, "rows m"]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise UserError(f"Features are read by ranges of rows. Received a step of {step}.")
        out = np.empty((max(stop - start, 0), self.shape[1]), self.dtype)
        for stored in self._stored:
            first, last = max(start, stored.band.start), min(stop, stored.band.stop)
            if first < last:
                self._read(stored, first - stored.band.start, out[first - start : last - start])
        return out

    def blocks(self, memory: int = MEMORY) -> Iterator[tuple[slice, Float[np.ndarray, "rows m"]]]:
        """Yield all rows in order as (slice of row numbers, features), in blocks of about `memory` bytes."""
        step = max(1, memory // (self.shape[1] * self.dtype.itemsize))
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self[rows]

    def _read(self, stored: Stored, row: int, out: np.ndarray) -> None:
        try:
            if stored.band not in self._checked:
                stored.check_sum()
                self._checked.add(stored.band)
            stored.read_rows(row, out)
        except BadShard as error:
            self._refuse(stored, str(error))
        except OSError as error:
            self._refuse(stored, f"unreadable: {error}")


@dataclasses.dataclass(frozen=True)
class Embedding:
    """The stored features of every split of a dataset.

    Attributes:
        manifest: Description of the folder: settings, fingerprint of the dataset, scale, and division into files.
        splits: Features by name of the split: train, validation (if any), test (if any).
    """

    manifest: Manifest
    splits: dict[str, FeatureMatrix]

    @property
    def validation(self) -> FeatureMatrix | None:
        """Features of the held-out train rows, or None if there are none."""
        return self.splits.get("validation")

    @property
    def test(self) -> FeatureMatrix | None:
        """Features of the test rows, or None if there are none."""
        return self.splits.get("test")


@suggests_keywords
def open_embedding(folder: Path | str, *, fingerprint: str | None = None) -> Embedding:
    """Open the stored features in a folder, after a check that every shard exists and agrees with `embedding.json`.

    Args:
        folder: Folder of `embedding.json` and the shards.
        fingerprint: Fingerprint of the dataset that the features must belong to; None skips this check.

    Raises `UserError`, which names the file and the command that makes the file again, if a file is missing, damaged or
    belongs to other features.
    """
    manifest, stored = opened = open_shards(folder, FEATURES, fingerprint)
    parts = {name: [one for one in stored if one.band.block == name] for name in manifest.rows}
    return Embedding(manifest, {name: FeatureMatrix(manifest, part, opened.refuse) for name, part in parts.items()})
