"""Computation of features φ(x) of every row x of a dataset, with φ(x)·φ(z) ≈ k(x, z) for a kernel k.

A job divides the rows into shards, which are files, and can be resumed (`kernel_gen.jobs.runner`).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from kernel_gen.features.function import FeatureFunction
from kernel_gen.jobs.tiles import Tile, divide_features, feature_tiles, good_number_of_features
from kernel_gen.jobs.work import Work
from linearized.data.dataset import Dataset
from linearized.settings.embedding_settings import FEATURES as NAMES
from linearized.settings.embedding_settings import EmbeddingSettings
from linearized.settings.memory import refuse_large_embedding
from linearized.settings.operations import refuse_endless_embedding
from linearized.settings.run_settings import ShardSettings
from linearized.storage.manifest import FEATURES, Band, Kind, Manifest

LEAST_ROWS = 8  # smallest number of rows of a tile


@dataclasses.dataclass(frozen=True)
class EmbedSettings(ShardSettings, EmbeddingSettings):
    """Settings of `python -m kernel_gen.embed`, with methods that build the features and check their cost.

    The fields are described in `linearized.settings.embedding_settings` and `linearized.settings.run_settings`.
    """

    def build(self) -> FeatureFunction:
        """Return φ, a function that maps rows (n, d) of the dataset to features (n, m).

        Parameters that depend on the train rows, such as landmarks, are not set yet. Raises `UserError` if the settings
        do not fit the data.
        """
        return NAMES.load(self.features).build(self, self.described().image_shape, self.dim())

    def work(self) -> Work:
        """Return the `Work` that computes these features of the dataset."""
        return FeatureWork(self.build())

    def refuse_large(self) -> None:
        """Raise `UserError` if the random weights of the features, or one batch of features, do not fit in memory."""
        refuse_large_embedding(self, self.described().image_shape, self.dim(), self.row_counts()["train"])

    def amount(self) -> int:
        """Return the number of rows whose features are computed: all train, validation and test rows of the dataset."""
        return sum(self.row_counts().values())

    def refuse_endless(self, amount: float) -> None:
        """Raise `UserError` if this machine would take more than a month to compute the features of `amount` rows."""
        refuse_endless_embedding(self, amount)


class FeatureWork(Work):
    """The `Work` of a job that computes features φ(x) of every row x of a dataset.

    A tile is a group of consecutive rows. It consists of whole batches of φ, so that the features do not depend on the
    division into tiles.

    Args:
        features: The function φ, which maps rows (n, d) to (n, m).
    """

    kind: Kind = FEATURES

    def __init__(self, features: FeatureFunction):
        self._features, self.dtype, self.scale, self.dim = features, features.dtype, features.scale, features.dim
        self.tile = features.batch * math.ceil(LEAST_ROWS / features.batch)

    def prepare(self, dataset: Dataset) -> None:
        """Store the train, validation and test rows of the dataset, whose features `task` computes.

        If φ depends on train rows, for example on landmarks, these rows are selected here. The long computations from
        them are left to `start`.
        """
        super().prepare(dataset)
        self._features = self._features.on(dataset.train.x)
        self.dim = self._features.dim  # may depend on the rows
        self._splits = dataset.splits()

    def start(self) -> None:
        """Perform the long computations that φ needs before its first row, unless they are done.

        An example is the kernel between landmarks, see `FeatureFunction.ready`.
        """
        self._features.ready()

    def good_number(self, rows: Mapping[str, int]) -> int:
        """Return the default number of shards, each of about 64 MiB of features.

        Args:
            rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
        """
        return good_number_of_features(rows, self.dim * self.dtype.itemsize)

    def divide(self, rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
        """Return the bands of each shard: for every block of the dataset, one range of consecutive rows.

        Args:
            rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
            num_shards: Number of shards.

        Raises `UserError` for more shards than train rows, or fewer than one.
        """
        return divide_features(rows, num_shards)

    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """Return the tiles of a shard: groups of `self.tile` consecutive rows with all features.

        The number of rows in the manifest, `manifest.tile`, is not used, because it is 1 in old manifests.

        Args:
            manifest: Description of the folder of shards.
            shard: Index of the shard, from 0.
        """
        return feature_tiles(manifest, shard, self.tile)

    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """Return a function without arguments that computes the features (rows, m) of the rows of a tile.

        Args:
            manifest: Description of the folder of shards; not used.
            tile: The tile.
        """
        x = self._splits[tile.band.block].x[tile.start : tile.stop]
        return lambda: self._features(x)
