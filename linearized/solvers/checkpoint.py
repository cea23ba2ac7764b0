"""Checkpoints of long runs: arrays in files that are written atomically and read only by the same run.

Each solver saves and restores its arrays with the class `Checkpoint`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from linearized.base.reading import Absent, Unreadable
from linearized.storage.array_files import read_npz
from linearized.storage.files import whole_file


class Checkpoint:
    """Named sets of arrays ("states") in a folder, each stored with the identity of the run that wrote it.

    Args:
        folder: Folder of the states; None stores nothing.
        identity: JSON-serialisable values that identify the run, such as the caller's key, the ridges and sizes. A
            state that was stored with other values is not read.
    """

    def __init__(self, folder: Path | None, **identity: Any):
        self.folder = None if folder is None else Path(folder)
        self.identity = json.dumps(identity, sort_keys=True)

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write `arrays` to the file NAME.npz, replacing a previous state of that name."""
        if self.folder is None:
            return
        with whole_file(self.folder / f"{name}.npz", sealed=True) as path:
            np.savez(path, identity=np.array(self.identity), **arrays)

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays saved under `name`, or None if there are none.

        A state that is damaged or belongs to another run counts as absent, and a warning is logged.
        """
        if self.folder is None:
            return None
        path = self.folder / f"{name}.npz"
        try:
            arrays = read_npz(path)
        except Absent:
            return None
        except Unreadable as error:
            logging.warning("checkpoint is not used: %s", error)
            return None
        if str(arrays.pop("identity", "")) != self.identity:
            logging.warning("checkpoint %s belongs to other settings or data and is not used", path)
            return None
        return arrays

    def forget(self, pattern: str, keep: Callable[[str], bool] = lambda name: False) -> None:
        """Delete the states (sets of arrays) in the folder whose names match a pattern.

        Args:
            pattern: Glob pattern of the names of states, such as "cg-*".
            keep: Function that returns whether the state of a given name is kept nevertheless.
        """
        for path in [] if self.folder is None else self.folder.glob(f"{pattern}.npz"):
            if not keep(path.stem):
                path.unlink(missing_ok=True)
