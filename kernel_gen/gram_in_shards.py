"""Write the Gram matrix of a `Kernel` object to files (shards), for recursive feature machines.

`python -m kernel_gen` writes the matrices of kernels that settings alone determine. The kernel of a recursive feature
machine also depends on the labels, and changes in each iteration. The caller removes the folder of its matrix after the
iteration. `kernel_gen.jobs` computes and checks the files, as for other matrices.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from kernel_gen.jobs.gram_job import GramWork
from kernel_gen.jobs.job import Job
from kernel_gen.jobs.runner import make
from kernel_gen.kernel import Kernel
from linearized.base.errors import Interrupted, UserError
from linearized.data.dataset import Dataset
from linearized.storage.gram import Gram
from linearized.storage.manifest import GRAM, Manifest, kind_of, load_manifest, save_once
from linearized.storage.shard_folder import open_shards
from linearized.storage.shards import Stored


def gram_in_shards(
    folder: Path, kernel: Kernel, dataset: Dataset, *, identity: Mapping[str, Any], title: str, command: str
) -> Gram:
    """Write the upper triangle of the kernel matrix of the train rows to a folder of shards (files), and open it.

    Tiles that an earlier process finished are kept. A tile is a rectangular part of the matrix. For n rows the files
    have n²/2 entries. It needs memory for the prepared rows and for two tiles per core.

    Args:
        folder: Folder of the shards. Shards of another identity or division are removed.
        kernel: Kernel whose parameters are set.
        dataset: Dataset whose train rows are used.
        identity: JSON-serialisable values that determine the entries together with the rows.
        title: Name of the matrix in progress lines.
        command: Command that continues the run, for error messages.

    Raises `Interrupted` if the disk is full (finished tiles are kept), `UserError` for entries that are not finite.
    """
    work = GramWork(kernel, settled=True)
    work.prepare(dataset)
    rows = {"train": len(dataset.train)}
    shards = work.divide(rows, work.good_number(rows))
    ours = Manifest(
        settings=dict(identity), fingerprint=dataset.fingerprint, dtype=str(work.dtype), scale=work.scale, rows=rows,
        tile=int(work.tile), shards=shards, command=command,
    )  # fmt: skip
    if not _holds(folder, ours):
        shutil.rmtree(folder, ignore_errors=True)
    make(Job(folder, save_once(folder, ours), work, title), range(len(shards)))
    opened = open_shards(folder, GRAM)

    def refuse(stored: Stored, problem: str) -> NoReturn:
        raise Interrupted(f"{stored.path} is {problem}. It is made again by the same command: {command}")

    return Gram(opened.manifest, opened.stored, refuse)


def _holds(folder: Path, manifest: Manifest) -> bool:
    """Return whether the description (manifest) of a folder equals `manifest`; the command in it may differ.

    The result is False if the folder's description is missing or damaged.
    """
    if kind_of(folder) is None:
        return False
    try:
        found = load_manifest(folder)
    except UserError:
        return False
    return found == dataclasses.replace(manifest, command=found.command)
