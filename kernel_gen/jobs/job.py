"""What one Gram matrix needs before its first shard: settings, folder, dataset, kernel and the division of the work."""

import dataclasses
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from kernel_gen import KERNELS
from kernel_gen.jobs.tiles import divide, good_number
from kernel_gen.kernel import Kernel
from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.settings.gram_settings import GramSettings
from linearized.storage.manifest import FILE, Band, Manifest, load_manifest, save_once
from linearized.storage.shard_folder import tidy
from linearized.storage.shards import check_shard, set_aside


@dataclasses.dataclass(frozen=True)
class JobSettings(GramSettings):
    """A kernel on a dataset, with the code behind its name."""

    def build(self, image_shape: tuple[int, int, int] | None) -> Kernel:
        """The kernel that they name. Raises `UserError` where it does not fit the data."""
        return KERNELS.load(self.kernel).build(self, image_shape)


class Columns:
    """Inputs prepared in runs of `tile` rows, each once, by whichever thread needs it first."""

    def __init__(self, kernel: Kernel, x: np.ndarray, tile: int):
        self._kernel, self._tile = kernel, tile
        self._runs = [x[start : start + tile] for start in range(0, len(x), tile)]
        self._prepared: list[Any] = [None] * len(self._runs)
        self._locks = [threading.Lock() for _ in self._runs]

    def part(self, left: int, right: int) -> Any:
        """Rows [left, right), which lie in one run."""
        run, first = divmod(left, self._tile)
        with self._locks[run]:
            if self._prepared[run] is None:
                self._prepared[run] = self._kernel.prepare(self._runs[run])
        return self._prepared[run][first : first + right - left]


@dataclasses.dataclass(frozen=True)
class Job:
    """A Gram matrix being made; `manifest` is that of its folder."""

    folder: Path
    manifest: Manifest
    dataset: Dataset
    kernel: Kernel

    @functools.cached_property
    def columns(self) -> "Columns":
        """The train rows, prepared when they are first asked for: each shard needs most of them."""
        return Columns(self.kernel, self.dataset.train.x, self.manifest.tile)

    def rows(self, band: Band) -> Any:
        """The rows of a band, prepared."""
        return self.kernel.prepare(self.dataset.splits()[band.block].x[band.start : band.stop])

    def path(self, shard: int) -> Path:
        """Of a shard's file."""
        return self.manifest.path(self.folder, shard)

    def lock(self, shard: int) -> Path:
        """Of the file that whoever makes a shard holds."""
        return self.path(shard).with_suffix(".lock")

    def problem(self, shard: int) -> str | None:
        """See `check_shard`."""
        return check_shard(self.path(shard), self.manifest, shard)

    def clear(self, shard: int) -> bool:
        """Sets a bad file aside; whether the shard is finished. To be called by the holder of its lock."""
        problem = self.problem(shard)
        if problem is not None and problem != "missing":
            set_aside(self.path(shard), problem)
        return problem is None


def open_job(settings: JobSettings, *, check: Callable[[Manifest], None] | None = None) -> Job:
    """Build the kernel, load the data, and write `gram.json` or agree with the one that is there.

    Args:
        check: Called with the manifest before anything is written; it may raise `UserError`.

    Raises `UserError` where the folder holds another matrix, or one that is divided otherwise.
    """
    folder = settings.path()
    tidy(folder)
    known = load_manifest(folder) if (folder / FILE).exists() else None
    kernel = settings.build(settings.described().image_shape)  # before the data: it may refuse the settings
    dataset = load_preprocessed(settings, settings.noise_ind)
    rows = {name: len(split) for name, split in dataset.splits().items()}
    itemsize = np.dtype(kernel.dtype).itemsize
    count = settings.num_shards or (len(known.shards) if known else good_number(rows, kernel.tile, itemsize))
    ours = Manifest(
        settings=settings.identity(), fingerprint=dataset.fingerprint,
        dtype=str(np.dtype(kernel.dtype)), scale=kernel.scale, rows=rows, tile=int(kernel.tile),
        shards=divide(rows, count, kernel.tile), command=dataclasses.replace(settings, num_shards=count).command(),
    )  # fmt: skip
    if check is not None:
        check(known or ours)
    manifest = known or save_once(folder, ours)
    other = manifest.differences(ours)
    if len(manifest.shards) != count:
        other.append(f"num_shards is {len(manifest.shards)}, not {count}")
    if other:
        raise UserError(
            f"{folder} holds another Gram matrix: {'; '.join(other)}. Give those settings, or another --folder."
        )
    logging.info(
        "%s (%s) on %s: %d train rows, %d shards in %s",
        settings.kernel, manifest.scale, settings.dataset, manifest.n, count, folder,
    )  # fmt: skip
    return Job(folder, manifest, dataset, kernel)
