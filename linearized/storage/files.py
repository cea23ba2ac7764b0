"""A file is whole or absent: write aside, sync, rename. A block that fails leaves nothing behind.

What is being written stands in a folder `.writing-*` beside its place, with a lock that its process holds. The lock
ends with the process, so that the next one to write there removes what a killed process left (see `reap`).
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
    """Asks the disk to hold `path` (a file or a folder) before the rename makes it visible."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_file(path: Path | str, *, sealed: bool = False) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, that file takes the place of `path` at once.

    Args:
        sealed: Append a seal (`linearized.base.seals`) when the block ends.

    Raises what the block raises, such as OSError for a full or read-only disk, after removing what was written.
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
    """Give an HDF5 file in memory, written as `path` with a seal when the block ends well. It must fit in memory twice.

    HDF5 that meets a full disk by itself cannot close its file, and takes the process with it; a plain write raises.
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
    """Give a folder to fill; when the block ends well, it becomes `path`. An existing `path` is kept as it is."""
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
            if not path.is_dir():  # else another process was first: its folder is as whole
                raise


@contextlib.contextmanager
def aside_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in `parent` that this process holds, and remove it with all that is left in it at the end.

    Where the block fails, `parent` and its parents are removed again if they were made here and are empty. An OSError
    names the path that the file would have had in `parent`, or `parent`.
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
            error.filename = str(parent)  # writing to an open file names none
        elif isinstance(error, OSError) and isinstance(error.filename, str):
            kept = [part for part in Path(error.filename).parts if not part.startswith(_ASIDE)]
            error.filename = str(Path(*kept))
        raise


def _made_aside(parent: Path) -> tuple[Path, int]:
    """Return a new folder in `parent` and the open, locked handle of its lock file."""
    parent.mkdir(parents=True, exist_ok=True)
    reap(parent, deep=False)
    while True:
        parent.mkdir(parents=True, exist_ok=True)
        try:
            folder = Path(tempfile.mkdtemp(dir=parent, prefix=_ASIDE))
        except FileNotFoundError:  # another process that failed removed its empty `parent`
            continue
        try:
            with contextlib.suppress(FileNotFoundError):  # a reaper may take a folder before it is locked
                if (handle := _locked(folder / _LOCK)) is not None:
                    return folder, handle
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def reap(folder: Path | str, *, locks: Iterable[str] = (), deep: bool = True) -> list[Path]:
    """Remove what killed processes left in a folder. Returns what was removed.

    Unfinished files and lock files that a living process holds are left alone, and so is everything on a disk that
    refuses to be written.

    Args:
        locks: Patterns of lock files (see `held`) that are removed as well.
        deep: Search the folders below, too.
    """
    folder, removed = Path(folder), []
    search = folder.rglob if deep else folder.glob
    for path in [*search(f"{_ASIDE}*"), *(lock for pattern in locks for lock in search(pattern))]:
        with contextlib.suppress(OSError):  # it is gone, or neither ours nor to be changed
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
    """Another process holds what this one needs."""


@contextlib.contextmanager
def claimed(folder: Path | str) -> Iterator[Path]:
    """Make `folder` and hold it for this process alone; what was made here and is empty at the end is removed.

    The lock ends with the process, however that ends. Raises `Busy` at once if another process holds the folder.
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
    """Raise `Busy` if another process holds `folder` (see `claimed`). Nothing is made or kept."""
    with contextlib.suppress(FileNotFoundError):
        os.close(_claim(Path(folder), make=False))


def _claim(folder: Path, *, make: bool = True) -> int:
    """Return an open, locked handle of the folder that the path names now."""
    while True:
        try:
            if make:
                folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            if make:
                continue  # another process removed its empty folder, or our parents, in between
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
    """Return `folder` and its parents, deepest first, as far as they do not exist yet."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are empty, in their order."""
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty, or gone
            folder.rmdir()


@contextlib.contextmanager
def held(path: Path | str, *, wait: float = 0.0) -> Iterator[Path]:
    """Hold the lock file `path` for this process alone, and remove it at the end.

    The lock ends with the process, however that ends; a lock file left by a killed one holds nobody up. Where the block
    fails, folders that were made for the lock and are empty are removed.

    Args:
        wait: Seconds to wait for another process. Raises `Busy` if that one still holds the file then.
    """
    path = Path(path)
    created = new_folders(path.parent)
    deadline = time.monotonic() + max(wait, 0.2)  # one who only looks holds a lock for a moment
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
    """As `_locked`, after making the folder of the file."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process that failed removed its empty folder
            return _locked(path)


def is_held(path: Path | str) -> bool:
    """Whether a process holds the lock file `path`."""
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
    """Raise `Busy` if files are missing and each of those is being made by another process, which holds its lock.

    The lock of a file has its name with the suffix .lock.
    """
    missing = [path for path in paths if not path.exists()]
    if missing and all(is_held(path.with_suffix(".lock")) for path in missing):
        raise Busy(f"{len(missing)} files are being made by other processes, the first is {missing[0]}. Run again.")


def _locked(path: Path) -> int | None:
    """An open, locked handle of the file that `path` names now, or None where another process holds it."""
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
        os.close(handle)  # its last holder removed the file in between: lock the one that is there now
