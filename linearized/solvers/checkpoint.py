"""Checkpoints of long runs, written as atomic files; the state of another run is not read.

Each solver saves and resumes its own state; for SGD, see `resume` and `save` in `linearized.solvers.training.sgd`.
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
    """Named sets of arrays in a folder, each stored with the identity of the run that wrote it.

    Args:
        folder: Folder of the states; None stores nothing.
        identity: JSON-serialisable values that must be equal for a state to be read, such as the caller's key, the
            ridges and sizes.
    """

    def __init__(self, folder: Path | None, **identity: Any):
        self.folder = None if folder is None else Path(folder)
        self.identity = json.dumps(identity, sort_keys=True)

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write `arrays` under `name`, replacing the previous state of that name."""
        if self.folder is None:
            return
        with whole_file(self.folder / f"{name}.npz", sealed=True) as path:
            np.savez(path, identity=np.array(self.identity), **arrays)

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays saved under `name`, or None if there are none.

        A state that is damaged or belongs to another run is logged and counts as absent.
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
        """Delete the states whose names match `pattern`, except those for which `keep` returns True."""
        for path in [] if self.folder is None else self.folder.glob(f"{pattern}.npz"):
            if not keep(path.stem):
                path.unlink(missing_ok=True)
