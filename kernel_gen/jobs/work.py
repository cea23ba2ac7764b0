"""The base class `Work` of computations whose results a job writes to shards (files), and protocols of job settings.

The module `runner` computes the shards of a job, resumes it and shows its progress. It calls a `Work` for the entries,
which are those of a Gram matrix or of features. The settings of a command create its `Work` and name its folder.
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
    """Base class of computations of the entries of a Gram matrix or of features, one part (tile) at a time.

    Attributes:
        kind: Type of the folder's contents, a Gram matrix or features.
        dtype: Data type of the entries.
        scale: Scale of the inputs: "input" (raw) or "stax" (divided by √d or √channels).
        tile: Number of rows and columns of the tiles of a Gram matrix, or of rows of the tiles of features.
        dim: Number of features per row; 0 for a Gram matrix.
        own_threads: Whether the computation of one tile uses all cores; otherwise tiles are computed in parallel.
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

    def start(self) -> None:  # noqa: B027 - most computations have nothing in common to their tiles
        """Compute quantities that all tiles need, unless they were computed before; by default there are none.

        The runner calls this method before the first unfinished tile of each shard. It may use all cores.
        """

    @abc.abstractmethod
    def good_number(self, rows: Mapping[str, int]) -> int:
        """Return the default number of shards.

        Args:
            rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
        """

    @abc.abstractmethod
    def divide(self, rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
        """Divide the rows into shards, and return the bands (ranges of consecutive rows of a block) of each shard.

        Args:
            rows: Number of rows of each block by its name: "train" and, if present, "validation" and "test".
            num_shards: Number of shards.

        Raises `UserError` for an impossible number of shards.
        """

    @abc.abstractmethod
    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """Return the tiles of a shard in the order of computation; they cover each entry of each band once.

        Args:
            manifest: Description of the folder of shards.
            shard: Index of the shard, from 0.
        """

    @abc.abstractmethod
    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """Return a function without arguments that returns the entries (rows, columns) of a tile.

        One thread calls this method, in the order of tiles; threads of a pool call the functions.

        Args:
            manifest: Description of the folder of shards.
            tile: The tile, one of those that `tiles` returned.
        """


class JobSettings(Protocol):
    """Protocol of the settings of a command whose job writes shards.

    Attributes:
        dataset: Name of the dataset.
        data: The user's own data, such as a file's path; "": the dataset is used.
        noise_ind: Index of the noise level, from 0.
        num_shards: Number of shards; 0: the number in the existing folder, or else the default of the `Work`.
    """

    dataset: str
    data: str
    noise_ind: int
    num_shards: int

    def path(self) -> Path:
        """Return the path of the folder of the shards."""

    def command(self) -> str:
        """Return the command line that runs the job with these settings."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the entries of the matrix or the features, by their names."""

    def code(self) -> dict[str, str]:
        """Return digests of the user's own functions and model files that determine the entries, by setting name."""

    def label(self) -> str:
        """Return a short name of the kernel or features that the job computes, for messages."""

    def work(self) -> Work:
        """Return the `Work` that computes the entries for these settings.

        Raises `UserError` if the settings do not fit the dataset.
        """

    def refuse_large(self) -> None:
        """Raise `UserError` if the job needs more memory than this machine has."""

    def amount(self) -> int:
        """Return the amount of work of all shards, in pairs of rows or in rows of features, from the settings alone.

        The result is 0 if the amount also depends on the contents of files.
        """

    def refuse_endless(self, amount: float) -> None:
        """Raise `UserError` if this machine would take more than a month for a job.

        Args:
            amount: Number of pairs, or of rows of features, that the job computes.
        """


class RunnerSettings(JobSettings, Protocol):
    """Protocol of the settings of a command that computes shards.

    Attributes:
        shard: Index, from 0, of the only shard to compute; -1: all that are not finished.
        wait: Seconds to wait for another process that computes a shard.
        threads: Number of tiles computed in parallel; 0: one for each core.
        list: Whether to print the commands of the unfinished shards instead of computing them.
    """

    shard: int
    wait: float
    threads: int
    list: bool
