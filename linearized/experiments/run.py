"""The steps of a run, which are the same for every command that writes a folder of results.

1. If the run is finished, its result is loaded.
2. The folder is claimed for this process. If another process has claimed it, `Busy` (exit code 75) is raised at once,
   before data and frameworks are loaded.
3. The work is done. It stores checkpoints in a folder for unfinished work; if this process is killed, the next one
   continues from them.
4. The result is saved completely, with its origin: command line, version, commit, machine, package versions, seeds.
5. The checkpoints are removed. If the disk is full while the result is saved, the partial result is removed instead and
   the checkpoints stay, so that the same command can save it again.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from linearized.experiments.fit_results import Result
from linearized.experiments.provenance import made_by
from linearized.settings.config import Settings
from linearized.storage import results
from linearized.storage.files import whole_file


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of the computation of a run, which is then saved as its result.

    Attributes:
        record: Entries of the result's record, without those that `run` adds (origin and seconds).
        arrays: Arrays of the result by name, which are stored in arrays.h5.
        files: Further files of the result: file name -> function that writes the file to a path.
    """

    record: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Callable[[Path], Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Store:
    """Functions that save and load the result of a run; the default is `result.json` with `arrays.h5`.

    Attributes:
        read_back: Function from the folder to the record of a finished run; None if the run is not finished.
        save: Function that writes the record and the arrays into the folder; the file that marks the run as finished is
            written last.
        load: Function from the folder to the record that `save` wrote.
        names: Names of the files that are removed again if `save` fails, because the file that marks the run as
            finished is missing.
    """

    read_back: Callable[[Path], dict[str, Any] | None] = results.read_back
    save: Callable[[Path, Mapping[str, Any], Mapping[str, np.ndarray]], Any] = results.save
    load: Callable[[Path], dict[str, Any]] = results.load
    names: tuple[str, ...] = ("arrays.h5",)


def run(
    folder: Path, settings: Settings, program: str, work: Callable[[Path], Outcome], *, store: Store | None = None
) -> Result:
    """Return the result of a run, which is computed and saved if its folder does not contain it yet.

    Args:
        folder: Folder of the result.
        settings: Settings of this one run.
        program: The words of the command line before the flags, such as "linearized train".
        work: Function that computes the result. Its argument is the folder of unfinished work, which may not exist yet;
            it returns the outcome to save.
        store: Storage of the result; None: `result.json` and `arrays.h5`.

    Raises:
        UserError: For errors that a user can correct. If the folder of the result did not exist before, its unfinished
            work is then removed, unless it contains ridges that were fitted completely.
        Busy: If another process holds the folder.
        OSError: If the disk is full or read-only.
    """
    start, store = time.monotonic(), store or Store()
    if (record := store.read_back(folder)) is not None:
        return Result(folder, record, fresh=False)
    with results.making(folder) as unfinished:
        outcome = work(unfinished)
        record = {**outcome.record, **made_by(settings, program), "seconds": round(time.monotonic() - start, 3)}
        try:
            for name, write in outcome.files.items():
                with whole_file(folder / name, sealed=True) as path:
                    write(path)
            store.save(folder, record, outcome.arrays)
        except OSError:
            for name in (*outcome.files, *store.names):
                (folder / name).unlink(missing_ok=True)
            raise
        shutil.rmtree(unfinished, ignore_errors=True)
    return Result(folder, store.load(folder), fresh=True)
