"""Loops over blocks of rows that report progress, write checkpoints, and continue from them after a kill.

Kernel ridge regression on centres uses such loops to form its normal equations and to compute predictions.

Blocks are computed in this process or on workers, and their results are always added in the order of the rows. A
checkpoint therefore contains the sums over the first rows, and a killed pass can continue with any number of workers.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from linearized.cluster.tiles import Here, OnWorkers
from linearized.solvers.linear.driver import UNWATCHED, TimedCheckpoint, Watch

Phase = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that reports no progress; the default of `phase` in `RowPasses`.

    Args:
        what: Title of the progress.
        total: Total number of rows, or of other units of work.
    """
    yield lambda done: None


class RowPasses:
    """Loops over blocks of rows that share the checkpoints and the progress display of one run.

    Args:
        watch: Folder, key and interval of the checkpoints. Its function `progress` is not called.
        phase: Function that reports progress: phase(title, total) returns a context manager, whose value is a function
            that is called with the number of rows done.
        place: Object that computes blocks, from `linearized.cluster.tiles.places`; None: this process.
    """

    def __init__(self, watch: Watch = UNWATCHED, phase: Phase = silent, place: Here | OnWorkers | None = None):
        self.watch, self.phase, self.place = watch, phase, place or Here()

    def checkpoint(self, **identity: Any) -> TimedCheckpoint:
        """Return a checkpoint in the run's folder that reads only states that were written with the same `identity`.

        Args:
            identity: Values, such as sizes and fingerprints, that must be equal for a stored state to be read.
        """
        return TimedCheckpoint(self.watch.checkpoint, self.watch.interval, key=self.watch.key, **identity)

    def over(
        self, rows: int, step: int, function: Callable, tile: Callable[[slice], tuple],
        add: Callable[[slice, Any], None], arrays: dict[str, np.ndarray], *, title: str, name: str,
        room: float = float("inf"), **identity: Any,
    ) -> None:  # fmt: skip
        """Compute all blocks of rows after the last checkpoint, and add the results in the order of the rows.

        Args:
            rows: Number of rows.
            step: Number of rows of a block.
            function: Function of a module that computes a block.
            tile: Function of a range of rows that returns the arguments of `function`.
            add: Function of a range of rows and the result of `function`, which writes into `arrays`.
            arrays: Arrays that `add` changes in place. Checkpoints store them; if there is a checkpoint, they are
                filled from it first.
            title: Title of the progress.
            name: Name of the checkpoint.
            room: Number of results that fit in memory while they wait for an earlier one.
            identity: Values that must be equal for a checkpoint to be used.
        """
        saved, done = self.checkpoint(rows=rows, **identity), 0
        if (kept := saved.load(name)) is not None:
            done = int(kept["done"])
            for key, array in arrays.items():
                array[...] = kept[key]
        blocks = [slice(start, min(start + step, rows)) for start in range(done, rows, step)]
        results = self.place.ordered(function, map(tile, blocks), room=room)
        with self.phase(title, rows) as report:
            report(done)
            for block in blocks:
                add(block, next(results))  # no name keeps a result while the next is computed
                report(block.stop)
                if saved.due:
                    saved.save(name, {**arrays, "done": np.array(block.stop)})
