"""A file is whole or absent: write aside, sync, rename. Whatever fails on the way leaves no trace."""

import contextlib
import fcntl
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import TryLater, UserError

if TYPE_CHECKING:
    import h5py


def sync(path: Path) -> None:
    """Asks the disk to hold `path` (a file or a folder) before the rename makes it visible."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Gives a path to write to; when the block ends well, that file takes the place of `path` at once.

    Raises what the block raises (OSError for a full or read-only disk), after removing what was written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())  # mkstemp makes private files; a result is as readable as any other
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_hdf5(path: Path | str) -> Iterator["h5py.File"]:
    """Gives an HDF5 file in memory, written as `path` when the block ends well. For what fits in memory twice.

    HDF5 that meets a full disk by itself cannot close its file, and takes the process with it; a plain write raises.
    """
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        yield file
    with whole_file(path) as aside:
        aside.write_bytes(image.getbuffer())


@contextlib.contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Gives a folder to fill; when the block ends well, it becomes `path`. An existing `path` is kept as it is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield aside
        aside.chmod(0o777 & ~_umask())
        for file in aside.iterdir():
            sync(file)
        try:
            if not path.exists():
                aside.rename(path)
                sync(path.parent)
        except OSError:
            if not path.is_dir():  # else another process was first: its folder is as whole
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def claimed(folder: Path | str) -> Iterator[Path]:
    """Makes `folder` and holds it for this process alone; an empty folder is removed at the end.

    Raises `UserError` if another process holds it. The lock ends with the process, however that ends.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another process is at work in {folder}. Wait for it to end, or stop it.") from error
        yield folder
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):  # not empty: there is something to keep
            folder.rmdir()


class Busy(TryLater):
    """Another process holds what this one needs."""


@contextlib.contextmanager
def held(path: Path | str, *, wait: float = 0.0) -> Iterator[Path]:
    """Holds the lock file `path` for this process alone, and removes it at the end.

    The lock ends with the process, however that ends; a lock file left by a killed one holds nobody up.

    Args:
        wait: Seconds to wait for another process. Raises `Busy` if that one still holds the file then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + max(wait, 0.2)  # one who only looks holds a lock for a moment
    while (handle := _locked(path)) is None:
        if time.monotonic() >= deadline:
            raise Busy(f"Another process is at work: it holds {path}. Wait for it to end, or stop it.")
        time.sleep(0.05)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def is_held(path: Path | str) -> bool:
    """Whether a process holds the lock file `path`."""
    try:
        with Path(path).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _locked(path: Path) -> int | None:
    """An open, locked handle of the file that `path` names now, or None where another process holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                return None
            raise
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # its last holder removed the file in between: lock the one that is there now


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
