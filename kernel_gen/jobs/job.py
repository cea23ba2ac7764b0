"""The class `Job`: a folder of shards, which are files with parts of a matrix, and the computation of their entries."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import logging

from kernel_gen.jobs.tiles import Tile
from kernel_gen.jobs.work import JobSettings, Work
from linearized.base.errors import UserError
from linearized.data.loading import load_preprocessed
from linearized.settings.config import CODE
from linearized.storage.manifest import Manifest, kind_of, load_manifest, save_once
from linearized.storage.shard_folder import tidy
from linearized.storage.shards import check_shard, set_aside


@dataclasses.dataclass(frozen=True)
class Job:
    """A folder of shards and the computation of their entries; shards are files with parts of a matrix.

    The matrix is a Gram matrix, or contains the features of the rows of a dataset.

    Attributes:
        folder: The folder.
        manifest: Description of the folder's shards.
        work: The computation of their entries.
        title: Name of the job in progress lines.
    """

    folder: Path
    manifest: Manifest
    work: Work
    title: str

    def tiles(self, shard: int) -> list[Tile]:
        """Return the tiles of the shard with the index `shard` (from 0), in the order of computation."""
        return self.work.tiles(self.manifest, shard)

    def amount(self, shards: Iterable[int]) -> int:
        """Return the amount of work of the shards with these indices, in pairs of rows or, for features, in rows."""
        return sum(tile.amount(self.manifest) for shard in shards for tile in self.tiles(shard))

    def path(self, shard: int) -> Path:
        """Return the path of the file of the shard with the index `shard` (from 0)."""
        return self.manifest.path(self.folder, shard)

    def lock(self, shard: int) -> Path:
        """Return the path of the file that a process locks while it computes the shard with the index `shard`."""
        return self.path(shard).with_suffix(".lock")

    def problem(self, shard: int) -> str | None:
        """Return what is wrong with a shard's file, such as "missing" or "damaged: ...", or None if it is finished."""
        return check_shard(self.path(shard), self.manifest, shard)

    def clear(self, shard: int) -> bool:
        """Rename a shard's file if it is damaged or made with other settings, and return whether the shard is finished.

        A renamed file is never read. Only the process that holds the shard's lock may call this.
        """
        problem = self.problem(shard)
        if problem is not None and problem != "missing":
            set_aside(self.path(shard), problem)
        return problem is None


def open_job(settings: JobSettings, *, shard: int = -1) -> Job:
    """Load the data of a job, write the description of its folder or check the existing one, and return the job.

    The description (manifest) is written if there is none. A user's own data are loaded before a framework such as JAX
    is imported, so that errors in the data are raised early.

    Args:
        settings: Settings of the job.
        shard: Index, from 0, of the only requested shard; -1: all shards.

    Raises `UserError` if the folder contains another matrix or other features, or is divided into other shards, and for
    a shard out of range. Nothing is written in that case.
    """
    folder = settings.path()
    tidy(folder)
    dataset = load_preprocessed(settings, settings.noise_ind) if settings.data else None
    work = settings.work()  # before published data, which load slowly, because it may refuse the settings
    there = kind_of(folder)
    if there not in (None, work.kind):
        raise UserError(f"{folder} holds {there.phrase}, not {work.kind.phrase}. Give another --folder.")
    known = load_manifest(folder, there) if there else None
    if dataset is None:
        dataset = load_preprocessed(settings, settings.noise_ind)
    work.prepare(dataset)
    count = settings.num_shards or (len(known.shards) if known else work.good_number(work.rows))
    code = {CODE: found} if (found := settings.code()) else {}
    ours = Manifest(
        settings=settings.identity() | code, fingerprint=dataset.fingerprint,
        dtype=str(np.dtype(work.dtype)), scale=work.scale, rows=work.rows, tile=int(work.tile),
        shards=work.divide(work.rows, count), command=dataclasses.replace(settings, num_shards=count).command(),
        dim=work.dim,
    )  # fmt: skip
    most = len((known or ours).shards)
    if shard >= most:
        raise UserError(f"--shard={shard} is out of range: the shards of {folder} are 0 to {most - 1}.")
    manifest = known or save_once(folder, ours)
    fields = (field.name for field in dataclasses.fields(settings))
    unread = [settings.STORED.get(name, name) for name in fields if not settings.reads(name)]
    other = manifest.differences(ours, unread)
    if len(manifest.shards) != count:
        other.append(f"num_shards is {len(manifest.shards)}, not {count}")
    if other:
        moved = manifest.fingerprint != ours.fingerprint
        removal = " Remove the folder if the data, or their order, have changed." if moved else ""
        raise UserError(f"{folder} holds another {work.kind.noun}: {'; '.join(other)}. Give those settings, or another "
                        f"--folder.{removal}")  # fmt: skip
    logging.info(
        "%s (%s) on %s: %s rows, %d shards in %s",
        settings.label(), manifest.scale, settings.data_name(), manifest.rows, count, folder,
    )  # fmt: skip
    return Job(folder, manifest, work, f"{settings.label()} on {settings.data_name()}")
