"""States of a long run as files that are whole or absent; what does not belong to this run is not read.

Each solver saves and resumes its own state: SGD's is `resume` and `save` in `linearized.solvers.training.sgd`.
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
    """Named sets of arrays in a folder, each with the identity of the run that wrote it.

    Args:
        folder: Where they lie; None keeps nothing.
        identity: What must be the same for a state to be read, as JSON can say it: the caller's key, ridges, sizes.
    """

    def __init__(self, folder: Path | None, **identity: Any):
        self.folder = None if folder is None else Path(folder)
        self.identity = json.dumps(identity, sort_keys=True)

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes `arrays` in place of what `name` held."""
        if self.folder is None:
            return
        with whole_file(self.folder / f"{name}.npz", sealed=True) as path:
            np.savez(path, identity=np.array(self.identity), **arrays)

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """What was saved, or None if that is absent, damaged or of another run (the last two are logged)."""
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
        """Removes the states whose names match `pattern`, but those that `keep` says to keep."""
        for path in [] if self.folder is None else self.folder.glob(f"{pattern}.npz"):
            if not keep(path.stem):
                path.unlink(missing_ok=True)
