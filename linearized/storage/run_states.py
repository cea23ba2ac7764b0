"""Functions that find runs which are running or were stopped, and that remove files which killed runs left behind.

A run of the commands train, krr, finetune or compare has a folder two levels below a folder of results (`nn_dir` or
`rkhs_dir`): experiment/run. The process of a run locks this folder (`linearized.storage.files.claimed`). The functions
of this module do not wait for a locked folder and do not change its files.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from linearized.settings.model_files import MODEL_FILE
from linearized.storage.files import Busy, claimed, is_held, remove_empty
from linearized.storage.results import FINISHED, UNFINISHED

RUNNING, STOPPED, STARTED = "running", "stopped, goes on with the same command", "stopped before anything was kept"


BEGUN = (UNFINISHED, MODEL_FILE, "arrays.h5", "theory.h5")  # entries of a run's folder before it is finished


class RunState(NamedTuple):
    """The state of a run that is not finished.

    Attributes:
        folder: Folder of the run.
        word: State of the run in words, such as "running".
        kept: Number of stored ridges and checkpoints from which the run continues if its command is repeated.
    """

    folder: Path
    word: str
    kept: int

    def __str__(self) -> str:
        kept = f" ({self.kept} ridges and checkpoints are kept)" if self.kept else ""
        return f"{self.folder}: {self.word}{kept}"


def run_folders(directory: Path) -> Iterator[Path]:
    """Yield the folders of runs, two levels below a folder of results (experiment/run), sorted by name."""
    for experiment in _folders(directory):
        yield from _folders(experiment)


def unfinished_runs(directory: Path) -> list[RunState]:
    """Return the runs below a folder of results that are running or were stopped; finished runs are left out.

    In folders that no process has locked, leftovers of killed runs are removed first: partial files, checkpoints of
    finished runs, and empty folders.
    """
    found = []
    for folder in run_folders(directory):
        with contextlib.suppress(OSError):  # it was removed in the meantime, or the disk is read-only
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
    """Remove the unneeded files that a killed run left in its folder, and the folder if it is then empty.

    If the run is finished, its checkpoints are removed too. Raises `Busy` if a process has locked the folder.
    """
    with claimed(folder):  # removes partial files, and at the end the folder if it is empty
        if _has(folder, FINISHED):
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                (folder / UNFINISHED).rmdir()
    if not folder.exists():
        remove_empty([folder.parent])  # the folder of the experiment, if this was its only run


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
