"""Features as the work of a job: φ with φ(x)·φ(z) ≈ a kernel, for every row of a dataset."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

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

    `linearized.settings.embedding_settings` and `run_settings` describe the fields.
    """

    def build(self):
        """Return φ, a function that maps rows (n, d) of the dataset to features (n, m).

        Raises `UserError` if it does not fit the data.
        """
        return NAMES.load(self.features).build(self, self.described().image_shape, self.dim())

    def work(self) -> Work:
        """Return the `Work` that computes these features of the dataset."""
        return FeatureWork(self.build())

    def refuse_large(self) -> None:
        """Raise `UserError` if the features need more memory than this machine has."""
        refuse_large_embedding(self, self.described().image_shape, self.dim())

    def amount(self) -> int:
        """Return the number of rows of all blocks of the dataset."""
        return sum(self.row_counts().values())

    def refuse_endless(self, amount: float) -> None:
        """Raise `UserError` if this machine would take more than a month to embed `amount` rows."""
        refuse_endless_embedding(self, amount)


class FeatureWork(Work):
    """The work of a job that computes features φ(x) of every row x.

    A tile consists of whole batches of φ, so that the numbers do not depend on the division into tiles.

    Args:
        features: The function φ, which maps rows (n, d) to (n, m). Its attributes are `dim`, the number m, `dtype`,
            `scale`, and `batch`, the number of rows computed together.
    """

    kind: Kind = FEATURES

    def __init__(self, features):
        self._features, self.dtype, self.scale, self.dim = features, features.dtype, features.scale, features.dim
        self.tile = features.batch * math.ceil(LEAST_ROWS / features.batch)

    def prepare(self, dataset: Dataset) -> None:
        """Store the rows of the dataset, which `task` reads."""
        super().prepare(dataset)
        self._splits = dataset.splits()

    def good_number(self, rows: Mapping[str, int]) -> int:
        """Return the default number of shards for these numbers of rows per block."""
        return good_number_of_features(rows, self.dim * self.dtype.itemsize)

    def divide(self, rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
        """Return the bands of each shard, see `jobs.tiles.divide_features`."""
        return divide_features(rows, num_shards)

    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """Return the tiles of a shard, see `jobs.tiles.feature_tiles`.

        The tile of this object is used, not `manifest.tile`, which old manifests store as one row.
        """
        return feature_tiles(manifest, shard, self.tile)

    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """Return a function that computes the features of the rows of a tile."""
        x = self._splits[tile.band.block].x[tile.start : tile.stop]
        return lambda: self._features(x)
