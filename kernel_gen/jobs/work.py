"""What a sharded job computes, behind one protocol: entries of a Gram matrix, features, or entries read from files.

`runner` knows how a job is divided into shards, resumed and shown; a `Work` knows what the numbers are. The settings of
a command give its `Work` and name its folder.
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
    """Numbers of a dataset that are computed tile by tile.

    Attributes:
        kind: What the folder holds.
        dtype: Of the entries.
        scale: In which the inputs are: "input" or "stax".
        tile: See `Manifest`.
        dim: See `Manifest`.
        own_threads: Whether a tile takes all cores by itself; otherwise tiles are computed side by side.
        rows: Rows of each block of the dataset, once `prepare` was called.
    """

    kind: Kind
    dtype: np.dtype
    scale: str
    tile: int
    dim: int = 0
    own_threads: bool = False
    rows: dict[str, int]

    def prepare(self, dataset: Dataset) -> None:
        """Take the rows of a dataset, before anything is written. Raises `UserError` if they do not fit."""
        self.rows = {name: len(split) for name, split in dataset.splits().items()}

    @abc.abstractmethod
    def good_number(self, rows: Mapping[str, int]) -> int:
        """Return the number of shards where none is asked for."""

    @abc.abstractmethod
    def divide(self, rows: Mapping[str, int], num_shards: int) -> tuple[tuple[Band, ...], ...]:
        """Return the bands of each shard. Raises `UserError` for a number that cannot be."""

    @abc.abstractmethod
    def tiles(self, manifest: Manifest, shard: int) -> list[Tile]:
        """Return the tiles of a shard in the order of computing; they cover each entry of each band once."""

    @abc.abstractmethod
    def task(self, manifest: Manifest, tile: Tile) -> Callable[[], np.ndarray]:
        """Return a function that computes the entries of a tile.

        One thread calls this method, in the order of tiles; threads of a pool call the functions.
        """


class JobSettings(Protocol):
    """Settings of a command whose job writes shards."""

    dataset: str
    data: str
    noise_ind: int
    num_shards: int

    def path(self) -> Path:
        """Return the folder of the shards."""

    def command(self) -> str:
        """Return the command line of these settings."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the entries."""

    def code(self) -> dict[str, str]:
        """Return digests of the functions of the user's own that decide the entries, by setting."""

    def label(self) -> str:
        """Return what is computed, in a word."""

    def work(self) -> Work:
        """Return what they compute. Raises `UserError` where the settings do not fit the dataset."""

    def refuse_large(self) -> None:
        """Raise `UserError` if what the work needs does not fit in the memory of this machine."""

    def amount(self) -> int:
        """Return the work of all shards, in pairs or rows, as far as settings say it; 0 where only files can."""

    def refuse_endless(self, amount: float) -> None:
        """Raise `UserError` if this machine cannot do so many pairs or rows in a month."""


class RunnerSettings(JobSettings, Protocol):
    """Settings of a command that makes shards, see `linearized.settings.run_settings.ShardSettings`."""

    shard: int
    wait: float
    threads: int
    list: bool
