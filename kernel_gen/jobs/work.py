"""The computation of a sharded job behind one interface: Gram matrix entries, features, or entries read from files.

The module `runner` computes the shards of a job, resumes it and shows its progress; a `Work` computes the entries. The
settings of a command create its `Work` and name its folder.
"""

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kernel_gen.jobs.tiles import Tile
from linearized.data.dataset import Dataset
from linearized.storage.manifest import Band, Kind, Manifest


class Work(abc.ABC):
    """The computation of the entries of a job, tile by tile.

    Attributes:
        kind: Kind of the folder's contents, a Gram matrix or features.
        dtype: Data type of the entries.
        scale: Scale of the inputs: "input" (raw) or "stax" (divided by √d or √channels).
        tile: Number of rows and columns of the tiles of a Gram matrix, or of rows of the tiles of features.
        dim: Number of features per row; 0 for a Gram matrix.
        own_threads: Whether a tile uses all cores itself; otherwise tiles are computed in parallel.
        rows: Number of rows of each block of the dataset ("train", "validation", "test"), available after `prepare`.
    """

    kind: Kind
    dtype: np.dtype
    scale: str
    tile: int
    dim: int = 0
    own_threads: bool = False
    rows: dict[str, int]

    def prepare(self, dataset: Dataset) -> None:
        """Set `rows` from a dataset and prepare the computation, before anything is written.

        Args:
            dataset: Dataset whose train, validation and test rows the job uses.

        Raises `UserError` if its rows do not fit.
        """
        self.rows = {name: len(split) for name, split in dataset.splits().items()}

    @abc.abstractmethod
    def good_number(self, rows: Mapping[str, int]) -> int:
        """Return the default number of shards.

        Args:
            rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
        """

    @abc.abstractmethod
    def divide(self, rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
        """Return the bands of each shard.

        Args:
            rows: Number of rows of each block by its name.
            num_shards: Number of shards.

        Raises `UserError` for an impossible number of shards.
        """

    @abc.abstractmethod
    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """Return the tiles of a shard in the order of computation; they cover each entry of each band once.

        Args:
            manifest: Description of the folder.
            shard: Number of the shard.
        """

    @abc.abstractmethod
    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """Return a function without arguments that returns the entries (rows, columns) of a tile.

        One thread calls this method, in the order of tiles; threads of a pool call the functions.

        Args:
            manifest: Description of the folder.
            tile: The tile, one of those that `tiles` returned.
        """


class JobSettings(Protocol):
    """Settings of a command whose job writes shards.

    Attributes:
        dataset: Name of the dataset.
        data: The user's own data, such as a file's path; "": the dataset is used.
        noise_ind: Index of the noise level.
        num_shards: Number of shards; 0: that of the existing folder, or else the default of the `Work`.
    """

    dataset: str
    data: str
    noise_ind: int
    num_shards: int

    def path(self) -> Path:
        """Return the folder of the shards."""

    def command(self) -> str:
        """Return the command line of these settings."""

    def identity(self) -> dict[str, Any]:
        """Return the settings, by name, that determine the entries of the matrix or the features."""

    def code(self) -> dict[str, str]:
        """Return digests of the user-defined functions that determine the entries, by setting."""

    def label(self) -> str:
        """Return a short name of what is computed."""

    def work(self) -> Work:
        """Return the `Work` of these settings. Raises `UserError` if the settings do not fit the dataset."""

    def refuse_large(self) -> None:
        """Raise `UserError` if the memory that the work needs exceeds that of this machine."""

    def amount(self) -> int:
        """Return the work of all shards, in pairs or rows, from the settings alone; 0 if only files determine it."""

    def refuse_endless(self, amount: float) -> None:
        """Raise `UserError` if this machine would take more than a month for a job.

        Args:
            amount: Number of pairs, or of rows of features, that the job computes.
        """


class RunnerSettings(JobSettings, Protocol):
    """Settings of a command that computes shards, see `linearized.settings.run_settings.ShardSettings`.

    Attributes:
        shard: Number of the only shard to compute; -1: all that are not finished.
        wait: Seconds to wait for another process that computes a shard.
        threads: Number of tiles computed in parallel; 0: one for each core.
        list: Whether to print the commands of the unfinished shards instead of computing them.
    """

    shard: int
    wait: float
    threads: int
    list: bool
