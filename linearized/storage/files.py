"""Atomic writes and file locks: a file is complete or absent, and a failed `with` block leaves no partial file.

A file is written in a folder `.writing-*` beside its destination, synced and renamed. While the process writes, it
holds a lock in that folder. The lock ends with the process, so the next process that writes there can remove the
leftovers of a killed process (see `reap`).
"""

import contextlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from linearized.base import seals
from linearized.base.errors import TryLater
from linearized.base.platforms import lock_file

if TYPE_CHECKING:
    import h5py

_ASIDE, _LOCK = ".writing-", "lock"


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that the disk does not store a later rename before the content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_file(path: Path | str, *, sealed: bool = False) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path, and rename the file there to `path` when the block succeeds.

    If the block raises, for example OSError for a full or read-only disk, the partial file is removed and the exception
    is re-raised.

    Args:
        path: Destination.
        sealed: Append a digest of the file's bytes when the block ends (see `linearized.base.seals`).
    """
    path = Path(path)
    with aside_folder(path.parent) as folder:
        aside = folder / path.name
        yield aside
        if sealed:
            seals.seal_file(aside)
        sync(aside)
        aside.replace(path)
        sync(path.parent)


@contextlib.contextmanager
def whole_hdf5(path: Path | str) -> Iterator["h5py.File"]:
    """Write an HDF5 file atomically: yield a file in memory, and write it with a digest when the block succeeds.

    The file must fit in memory twice. HDF5 itself does not write the file, because it cannot close a file on a full
    disk and then crashes the process. A plain write raises OSError instead.
    """
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs["format"] = seals.FORMAT
        yield file
    content = image.getbuffer()
    with whole_file(path) as aside, aside.open("wb") as file:
        file.write(content)
        file.write(seals.seal(content))


@contextlib.contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Make a folder atomically: yield a temporary folder to fill, and rename it to `path` when the block succeeds.

    If `path` exists at the end of the block, it is kept unchanged, and the new folder is discarded without an error.
    """
    path = Path(path)
    with aside_folder(path.parent) as folder:
        aside = folder / path.name
        aside.mkdir()
        yield aside
        for file in aside.iterdir():
            sync(file)
        try:
            if not path.exists():
                aside.rename(path)
                sync(path.parent)
        except OSError:
            if not path.is_dir():  # otherwise another process was first, and its folder is complete too
                raise


@contextlib.contextmanager
def aside_folder(parent: Path) -> Iterator[Path]:
    """Yield a new, locked folder `.writing-*` in `parent`, and remove it with its files at the end of the block.

    If the block fails, folders that were made for `parent` are removed if they are empty. If the block
    raises an OSError, its attribute `filename` is changed: the folder `.writing-*` is removed from the path, and a
    missing `filename` becomes `parent`.
    """
    created = new_folders(parent)
    try:
        folder, handle = _made_aside(parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)
    except BaseException as error:
        remove_empty(created)
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            error.filename = str(parent)  # errors of writes to an open file have no filename
        elif isinstance(error, OSError) and isinstance(error.filename, str):
            kept = [part for part in Path(error.filename).parts if not part.startswith(_ASIDE)]
            error.filename = str(Path(*kept))
        raise


def _made_aside(parent: Path) -> tuple[Path, int]:
    """Make a folder `.writing-*` for temporary files in `parent`, and lock a lock file inside the new folder.

    Returns: The folder, and the open handle of its lock file; closing the handle ends the lock.
    """
    parent.mkdir(parents=True, exist_ok=True)
    reap(parent, deep=False)
    while True:
        parent.mkdir(parents=True, exist_ok=True)
        try:
            folder = Path(tempfile.mkdtemp(dir=parent, prefix=_ASIDE))
        except FileNotFoundError:  # another process that failed removed the empty `parent`
            continue
        try:
            with contextlib.suppress(FileNotFoundError):  # `reap` in another process may remove it before it is locked
                if (handle := _locked(folder / _LOCK)) is not None:
                    return folder, handle
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def reap(folder: Path | str, *, locks: Iterable[str] = (), deep: bool = True) -> list[Path]:
    """Remove leftovers of killed processes (folders `.writing-*`) from a folder, and return the removed paths.

    Folders and lock files that a running process has locked are kept. Files that cannot be removed, as on a read-only
    disk, are skipped without an error.

    Args:
        folder: Folder to clean up.
        locks: Patterns of lock files (see `held`) that are removed as well.
        deep: Search subfolders too.
    """
    folder, removed = Path(folder), []
    search = folder.rglob if deep else folder.glob
    for path in [*search(f"{_ASIDE}*"), *(lock for pattern in locks for lock in search(pattern))]:
        with contextlib.suppress(OSError):  # it no longer exists, or it cannot be changed
            aside = path.name.startswith(_ASIDE)
            handle = _locked(path / _LOCK if aside else path)
            if handle is None:
                continue
            try:
                shutil.rmtree(path, ignore_errors=True) if aside else path.unlink(missing_ok=True)
                removed.append(path)
            finally:
                os.close(handle)
    return removed


class Busy(TryLater):
    """An error for a file or folder that another process has locked."""


@contextlib.contextmanager
def claimed(folder: Path | str) -> Iterator[Path]:
    """Make a folder and lock it for this process inside a `with` block.

    Leftovers of killed processes in the folder are removed. At the end of the block, the folder and the parents that
    were made for it are removed if they are empty. The lock ends at the latest with the process, even if it is killed.

    Raises `Busy` at once if another process has locked the folder.
    """
    folder = Path(folder)
    created = new_folders(folder)
    handle = _claim(folder)
    try:
        reap(folder)
        yield folder
    finally:
        remove_empty([folder, *created])
        os.close(handle)


def refuse_claimed(folder: Path | str) -> None:
    """Raise `Busy` if another process has locked `folder`; nothing is made, and no lock is kept."""
    with contextlib.suppress(FileNotFoundError):
        os.close(_claim(Path(folder), make=False))


def _claim(folder: Path, *, make: bool = True) -> int:
    """Lock a folder for this process and return its open handle; closing the handle ends the lock.

    If another process removes or replaces the folder in the meantime, the new folder at the path is locked.

    Args:
        folder: Folder to lock.
        make: Make the folder if it does not exist.

    Raises `Busy` if another process has locked the folder, and FileNotFoundError if the folder does not exist and
    `make` is False.
    """
    while True:
        try:
            if make:
                folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            if make:
                continue  # another process removed the empty folder, or its empty parents, in the meantime
            raise
        try:
            lock_file(handle)
        except BlockingIOError as error:
            os.close(handle)
            raise Busy(f"Another process is at work in {folder}. Wait for it to end, or stop it.") from error
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)
        if not make:
            raise FileNotFoundError(folder)


def new_folders(folder: Path) -> list[Path]:
    """Return those of `folder` and its parents that do not exist yet, deepest first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that are empty, in the given order; skip folders that are missing or not empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not empty or does not exist
            folder.rmdir()


@contextlib.contextmanager
def held(path: Path | str, *, wait: float = 0.0) -> Iterator[Path]:
    """Hold a lock file for this process inside a `with` block, and remove the file at the end.

    The lock ends at the latest with the process, even if it is killed; the remaining lock file then blocks no other
    process. If the block fails, folders that were made for the lock file are removed if they are empty.

    Args:
        path: The lock file.
        wait: Seconds to wait while another process holds the lock; less than 0.2 counts as 0.2.

    Raises `Busy` if another process still holds the lock after that time.
    """
    path = Path(path)
    created = new_folders(path.parent)
    deadline = time.monotonic() + max(wait, 0.2)  # `is_held` in another process takes the lock for a moment
    try:
        while (handle := _locked_made(path)) is None:
            if time.monotonic() >= deadline:
                raise Busy(f"Another process is at work: it holds {path}. Wait for it to end, or stop it.")
            time.sleep(0.05)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)
    except BaseException:
        remove_empty(created)
        raise


def _locked_made(path: Path) -> int | None:
    """Make the folder of a lock file and lock the file; return its open handle, or None if it is locked already."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process that failed removed the empty folder
            return _locked(path)


def is_held(path: Path | str) -> bool:
    """Return whether a process holds the lock on `path`, a lock file or a folder; False if the path does not exist."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe of this name would block
    except FileNotFoundError:
        return False
    try:
        lock_file(handle, shared=True)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def refuse_busy(paths: Iterable[Path]) -> None:
    """Raise `Busy` if some files are missing and other processes are making all missing files.

    A process that makes a file holds the lock on a file of the same name with the suffix .lock.
    """
    missing = [path for path in paths if not path.exists()]
    if missing and all(is_held(path.with_suffix(".lock")) for path in missing):
        raise Busy(f"{len(missing)} files are being made by other processes, the first is {missing[0]}. Run again.")


def _locked(path: Path) -> int | None:
    """Lock a file and return its open handle, or None if another process holds the lock; a missing file is made.

    If the previous holder of the lock removed the file in the meantime, the new file at the path is locked.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock_file(handle)
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                return None
            raise
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # the previous holder removed the file in the meantime: lock the one that exists now
