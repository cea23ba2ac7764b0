"""Functions that open a folder of shards (HDF5 files), and that remove files which are no longer needed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from linearized.base.errors import TryLater, UserError
from linearized.storage.files import Busy, held, new_folders, reap, remove_empty
from linearized.storage.manifest import KINDS, Kind, Manifest, load_manifest
from linearized.storage.shards import BadShard, Stored, read_header

_LOCKS = ("shard_*.lock", *(str(Path(kind.file).with_suffix(".lock")) for kind in KINDS))


class Opened(NamedTuple):
    """An opened folder with a finished Gram matrix or finished features in shards (HDF5 files).

    Attributes:
        manifest: Description of the folder.
        stored: Location on disk of every band, a range of rows that is stored together.
    """

    manifest: Manifest
    stored: list[Stored]

    def refuse(self, stored: Stored, problem: str) -> NoReturn:
        """Raise `UserError` for stored rows that cannot be used; its message states the command to make the file again.

        Args:
            stored: Location of the rows.
            problem: Problem that the message states, such as "damaged: the file ends early".
        """
        shard = next(number for number, bands in enumerate(self.manifest.shards) if stored.band in bands)
        raise UserError(f"{stored.path} is {problem}. Make it anew with: {self.manifest.remake(shard)}")


def open_shards(folder: Path | str, kind: Kind, fingerprint: str | None = None) -> Opened:
    """Read the description of a folder of shards and the header of every shard, without reading any entries.

    Args:
        folder: Folder of the shards.
        kind: Expected content of the folder, `GRAM` or `FEATURES`.
        fingerprint: Fingerprint of the dataset that the shards must belong to; None skips this check.

    Raises `UserError`, which names the file and the command that makes it, if a file is missing or damaged, or if its
    settings or data differ from those in the description.
    """
    manifest = load_manifest(folder, kind)
    if fingerprint is not None and fingerprint != manifest.fingerprint:
        raise UserError(
            f"{folder} is of another dataset, or of another order of its rows, as other versions may take them "
            f"(fingerprint {manifest.fingerprint}, not {fingerprint}). Remove that folder, or give another --folder, "
            f"and make it with: {manifest.command}"
        )
    stored, bad = [], {}
    for shard in range(len(manifest.shards)):
        try:
            stored += read_header(manifest.path(folder, shard), manifest, shard)
        except BadShard as error:
            bad[shard] = str(error)
    if bad:
        shard, problem = next(iter(bad.items()))
        many = f"{len(bad)} of {len(manifest.shards)} shards are not ready; the first: " if len(bad) > 1 else ""
        raise UserError(
            f"{many}{manifest.path(folder, shard)} is {problem}. Make it with: {manifest.remake(shard)} "
            f"(without --shard: all that are not ready)"
        )
    return Opened(manifest, stored)


def tidy(folder: Path | str) -> None:
    """Remove files of killed jobs that no running job needs: partial files, lock files, checkpoints of finished shards.

    Files `shard_*.part` of unfinished shards are kept, because the next job continues with them.
    """
    folder = Path(folder)
    reap(folder, locks=_LOCKS, deep=False)
    for part in folder.glob("shard_*.part"):
        if part.with_suffix(".h5").is_file():
            with contextlib.suppress(Busy, OSError), held(part.with_suffix(".lock")):  # in use, or on a read-only disk
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def refusals_undone(folder: Path | str) -> Iterator[None]:
    """Remove the description that a `with` block wrote to a folder of shards if the block raises `UserError`.

    The description is removed only if the folder has no other content; the empty folder is then removed too. Leftovers
    of killed jobs in the folder are always removed. Nothing is removed if the error is a `TryLater`, which means that
    another process is working in the folder.
    """
    folder = Path(folder)
    created = new_folders(folder)
    try:
        yield
    except TryLater:
        raise
    except UserError:
        tidy(folder)
        for path in (folder / kind.file for kind in KINDS):
            lock = path.with_suffix(".lock")
            if path.is_file():
                with contextlib.suppress(Busy, OSError), held(lock):  # Busy: another job works in the folder
                    if {found.name for found in folder.iterdir()} == {path.name, lock.name}:
                        path.unlink()
        remove_empty([folder, *created])
        raise
