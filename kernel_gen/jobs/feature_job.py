"""Features as the work of a job: φ with φ(x)·φ(z) ≈ a kernel, of every row of a dataset."""

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

LEAST_ROWS = 8  # of a tile


@dataclasses.dataclass(frozen=True)
class EmbedSettings(ShardSettings, EmbeddingSettings):
    """Settings of `python -m kernel_gen.embed`, with the code behind the name of the features."""

    def build(self):
        """Return φ of the rows of the dataset. Raises `UserError` where it does not fit the data."""
        return NAMES.load(self.features).build(self, self.described().image_shape, self.dim())

    def work(self) -> Work:
        """See `JobSettings`."""
        return FeatureWork(self.build())

    def refuse_large(self) -> None:
        """See `JobSettings`."""
        refuse_large_embedding(self, self.described().image_shape, self.dim())

    def amount(self) -> int:
        """See `JobSettings`."""
        return sum(self.row_counts().values())

    def refuse_endless(self, amount: float) -> None:
        """See `JobSettings`."""
        refuse_endless_embedding(self, amount)


class FeatureWork(Work):
    """Rows of φ. A tile is a few batches of φ, so that its numbers do not depend on the division into tiles.

    Args:
        features: Maps rows (n, d) to (n, m); has `dim` m, `dtype`, `scale`, and `batch`, the rows computed together.
    """

    kind: Kind = FEATURES

    def __init__(self, features):
        self._features, self.dtype, self.scale, self.dim = features, features.dtype, features.scale, features.dim
        self.tile = features.batch * math.ceil(LEAST_ROWS / features.batch)

    def prepare(self, dataset: Dataset) -> None:
        """See `Work`."""
        super().prepare(dataset)
        self._splits = dataset.splits()

    def good_number(self, rows: Mapping[str, int]) -> int:
        """See `Work`."""
        return good_number_of_features(rows, self.dim * self.dtype.itemsize)

    def divide(self, rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
        """See `Work`."""
        return divide_features(rows, num_shards)

    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """See `Work`. Folders that were begun before there were tiles of features describe tiles of one row."""
        return feature_tiles(manifest, shard, self.tile)

    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """See `Work`."""
        x = self._splits[tile.band.block].x[tile.start : tile.stop]
        return lambda: self._features(x)
