"""What one Gram matrix needs before its first shard: settings, folder, dataset, kernel and the division of the work."""

import dataclasses
import functools
import shlex
import threading
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from data import DATASETS, load
from data.config import setting
from data.dataset import Dataset
from data.directories import directory
from data.errors import UserError
from data.manifest import FILE, Band, Manifest, load_manifest, save_once
from data.shards import check_shard, set_aside
from kernel_gen import KERNELS
from kernel_gen.kernel import Kernel
from kernel_gen.settings import KernelSettings
from kernel_gen.tiles import divide, good_number

_KEYS = {"CNTK": "cntk_dir", "RF": "rf_dir"}
_SYNTH = ("synth_dim", "synth_eta", "synth_n")


@dataclasses.dataclass(frozen=True)
class JobSettings(KernelSettings):
    """A kernel on a dataset."""

    dataset: str = setting("DIGITS", "the data (python -m data tells which are here)", choices=DATASETS)
    noise_ind: int = setting(0, "noise level, from 0 (python -m data lists what the levels are)", minimum=0)
    num_train: int = setting(0, "train rows, 0: all", minimum=0)
    num_test: int = setting(0, "test rows, 0: all", minimum=0)
    validation: float = setting(0.0, "train rows held out: a fraction below 1, else a count", minimum=0.0)
    subset: str = setting("first", "which rows --num_train and --num_test take", choices=("first", "random"))
    seed: int = setting(0, "of the random subset", minimum=0)
    synth_dim: int = setting(1024, "SYNTH: dimension d", minimum=1)
    synth_eta: float = setting(0.4, "SYNTH: d^eta relevant coordinates", minimum=0.0, maximum=1.0)
    synth_n: int = setting(2**20, "SYNTH: rows of the whole train set", minimum=1)
    num_shards: int = setting(0, "files the work is divided into, 0: a good number", minimum=0, identity=False)
    folder: str = setting("", "of the shards; empty: named under the kernel's line of directories.txt", identity=False)

    def path(self) -> Path:
        """The folder of the shards."""
        if self.folder:
            return Path(self.folder)
        sizes = {"NTK": self.num_layers, "CNTK": self.depth, "POLYNOMIAL": self.degree}
        size = f"N{self.num_units}" if self.kernel == "RF" and self.num_units else sizes.get(self.kernel, "")
        kind = "" if self.kernel in ("RF", "POLYNOMIAL") else f"_{self.kind}"
        name = f"{self.dataset}_noise{self.noise_ind}_{self.kernel}{size}{kind}_{self.key()}"
        return directory(_KEYS.get(self.kernel, "ntk_dir")) / name

    def command(self, module: str = "kernel_gen") -> str:
        """A command line of these settings, without those at their defaults."""
        words = [
            f"--{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(JobSettings)
            if field.name == "kernel" or field.name == "dataset" or getattr(self, field.name) != field.default
        ]
        return shlex.join(["python", "-m", module, *words])

    def data(self) -> Dataset:
        """The dataset that they name. Raises `UserError` as `data.load` does."""
        own = {name: getattr(self, name) for name in _SYNTH} if self.dataset == "SYNTH" else {}
        shared = {name: getattr(self, name) for name in ("num_train", "num_test", "validation", "subset", "seed")}
        return load(self.dataset, self.noise_ind, **shared, **own)

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


def open_job(settings: JobSettings) -> Job:
    """Loads the data, builds the kernel, and writes `gram.json` or agrees with the one that is there.

    Raises `UserError` where the folder holds another matrix, or one that is divided otherwise.
    """
    folder = settings.path()
    known = load_manifest(folder) if (folder / FILE).exists() else None
    dataset = settings.data()
    kernel = settings.build(dataset.image_shape)
    rows = {name: len(split) for name, split in dataset.splits().items()}
    itemsize = np.dtype(kernel.dtype).itemsize
    count = settings.num_shards or (len(known.shards) if known else good_number(rows, kernel.tile, itemsize))
    ours = Manifest(
        settings=settings.identity(), fingerprint=dataset.fingerprint,
        dtype=str(np.dtype(kernel.dtype)), scale=kernel.scale, rows=rows, tile=int(kernel.tile),
        shards=divide(rows, count, kernel.tile), command=dataclasses.replace(settings, num_shards=count).command(),
    )  # fmt: skip
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
