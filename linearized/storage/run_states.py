"""The state of run folders (train, krr, finetune, compare) that are not finished, and what killed runs left in them.

A run lies two folders below `nn_dir` or `rkhs_dir`: experiment/run. The process at work holds its folder (`claimed`),
so that nothing here waits for it or touches what it writes.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from linearized.storage.files import Busy, claimed, is_held, remove_empty
from linearized.storage.results import FINISHED, UNFINISHED

RUNNING, STOPPED, STARTED = "running", "stopped, goes on with the same command", "stopped before anything was kept"


BEGUN = (UNFINISHED, "model.keras", "arrays.h5", "theory.h5")  # what the folder of a run has before it is finished


class RunState(NamedTuple):
    """A run that is not finished.

    Attributes:
        word: What it is doing.
        kept: Ridges that were finished and checkpoints that were written, which the same command goes on with.
    """

    folder: Path
    word: str
    kept: int

    def __str__(self) -> str:
        kept = f" ({self.kept} ridges and checkpoints are kept)" if self.kept else ""
        return f"{self.folder}: {self.word}{kept}"


def run_folders(directory: Path) -> Iterator[Path]:
    """Yield the folders of runs below a folder of results, in order of their names."""
    for experiment in _folders(directory):
        yield from _folders(experiment)


def unfinished_runs(directory: Path) -> list[RunState]:
    """Return the runs below a folder of results that are at work or were stopped; finished ones are left out.

    What killed runs left and no living process holds is removed first: files not yet whole, checkpoints beside a
    finished result, and folders that hold nothing.
    """
    found = []
    for folder in run_folders(directory):
        with contextlib.suppress(OSError):  # it was removed meanwhile, or is on a disk that cannot be written
            if is_held(folder):
                found.append(RunState(folder, RUNNING, _kept(folder)))
                continue
            with contextlib.suppress(Busy):
                tidy_run(folder)
            if not _has(folder, FINISHED) and _has(folder, BEGUN):
                kept = _kept(folder)
                found.append(RunState(folder, STOPPED if kept else STARTED, kept))
    return found


def tidy_run(folder: Path) -> None:
    """Remove what a killed run left in its folder and does not need, and the folder if it holds nothing then.

    Raises `Busy` if a process holds the folder.
    """
    with claimed(folder):  # which removes files not yet whole, and the folder if it is empty at the end
        if _has(folder, FINISHED):
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                (folder / UNFINISHED).rmdir()
    if not folder.exists():
        remove_empty([folder.parent])  # the experiment, of which it was the only run


def _has(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).exists() for name in names)


def _kept(folder: Path) -> int:
    work = folder / UNFINISHED
    return sum(not path.name.startswith(".") for path in work.iterdir()) if work.is_dir() else 0


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
