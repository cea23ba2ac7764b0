"""Loops over blocks of rows that report progress, write checkpoints, and continue from them after a kill.

Kernel ridge regression on centres uses them to form its normal equations and to compute predictions.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernel_gen.kernel import Kernel
from linearized.base.shapes import Float64
from linearized.data.dataset import fingerprint
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.solvers.linear.driver import UNWATCHED, TimedCheckpoint, Watch

Phase = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Do not report progress: the default of `phase` in `RowPasses`.

    Args:
        what: Title of the progress.
        total: Total number of rows, or of other units of work.

    Yields:
        Function that is called with the number of units done, and does nothing.
    """
    yield lambda done: None


class RowPasses:
    """Loops over blocks of rows that share the checkpoints and the progress display of one run.

    Args:
        watch: Folder, key and interval of the checkpoints. Its function `progress` is not called.
        phase: Function that reports progress: phase(title, total) returns a context manager, whose value is a function
            that is called with the number of rows done.
    """

    def __init__(self, watch: Watch = UNWATCHED, phase: Phase = silent):
        self.watch, self.phase = watch, phase

    def checkpoint(self, **identity: Any) -> TimedCheckpoint:
        """Return the checkpoint in the run's folder for states that were written with the same `identity`.

        Args:
            identity: Values, such as sizes and fingerprints, that must be equal for a stored state to be read.
        """
        return TimedCheckpoint(self.watch.checkpoint, self.watch.interval, key=self.watch.key, **identity)

    def over(
        self, rows: int, step: int, work: Callable[[slice], None], arrays: dict[str, np.ndarray], *, title: str,
        name: str, **identity: Any,
    ) -> None:  # fmt: skip
        """Call `work` for all blocks of rows in order, from the last checkpoint on if there is one.

        Args:
            rows: Number of rows.
            step: Number of rows of a block.
            work: Function of a range of rows, which writes its results into `arrays`.
            arrays: Arrays that `work` changes in place. They are stored in checkpoints, and filled from them.
            title: Title of the progress.
            name: Name of the checkpoint.
            identity: Values that must be equal for a checkpoint to be used.
        """
        saved, done = self.checkpoint(rows=rows, **identity), 0
        if (kept := saved.load(name)) is not None:
            done = int(kept["done"])
            for key, array in arrays.items():
                array[...] = kept[key]
        with self.phase(title, rows) as report:
            report(done)
            for start in range(done, rows, step):
                stop = min(start + step, rows)
                work(slice(start, stop))
                report(stop)
                if saved.due:
                    saved.save(name, {**arrays, "done": np.array(stop)})


class WatchedCrossKernel(CrossKernel):
    """Kernel matrix K (m, n) between new rows and train rows, whose products report progress and write checkpoints.

    Args:
        kernel: Kernel whose parameters are set.
        x: New rows (m, d).
        train: Train rows (or centres), in the form that `kernel.prepare` returns.
        names: Names of the new rows and of the train rows in error messages.
        passes: Progress and checkpoints of the run.
        name: Name of the new rows, for the progress and the names of checkpoints.
        step: Number of new rows of a block.
    """

    def __init__(
        self, kernel: Kernel, x: np.ndarray, train: Any, names: tuple[str, str], *, passes: RowPasses, name: str,
        step: int,
    ):  # fmt: skip
        super().__init__(kernel, x, train, names)
        self._passes, self._name, self._step = passes, name, step

    def __matmul__(self, v: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "m k"]:
        """Return the product K v in float64, in blocks of new rows. Raises `UserError` if an entry is not finite."""
        out = np.zeros((len(self), v.shape[1]))

        def work(rows: slice) -> None:
            out[rows] = self.product(rows, v)

        self._passes.over(
            len(self), self._step, work, {"out": out}, title=f"predictions of {self._name} rows",
            name=f"predictions-{self._name}", of=fingerprint(v),
        )  # fmt: skip
        return out
