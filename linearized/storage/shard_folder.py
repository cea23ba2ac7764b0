"""The folder of a sharded job: what killed processes left in it, and what a refused command would leave."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from linearized.base.errors import TryLater, UserError
from linearized.storage.files import Busy, held, new_folders, reap, remove_empty

_LOCKS = ("shard_*.lock", "gram.lock", "embedding.lock")


def tidy(folder: Path | str) -> None:
    """Remove what killed jobs left and no living one needs: files not yet whole, locks, parts of finished shards.

    Parts of shards that are not finished stay, because the next job goes on with them.
    """
    folder = Path(folder)
    reap(folder, locks=_LOCKS, deep=False)
    for part in folder.glob("shard_*.part"):
        if part.with_suffix(".h5").is_file():
            with contextlib.suppress(Busy, OSError), held(part.with_suffix(".lock")):  # at work, or not to be changed
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def refusals_undone(folder: Path | str, manifest: str) -> Iterator[None]:
    """Remove what the block made in a folder of shards where it raises `UserError` before a shard is there.

    Args:
        manifest: File name of the description, which goes with the folder if nothing else is in it.
    """
    folder = Path(folder)
    created = new_folders(folder)
    try:
        yield
    except TryLater:
        raise
    except UserError:
        tidy(folder)
        lock = folder / f"{Path(manifest).stem}.lock"
        if (folder / manifest).is_file():
            with contextlib.suppress(Busy, OSError), held(lock):  # another job is at work there
                if {path.name for path in folder.iterdir()} == {manifest, lock.name}:
                    (folder / manifest).unlink()
        remove_empty([folder, *created])
        raise
