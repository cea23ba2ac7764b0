"""Passes over rows in blocks that report progress, store their state and continue after a kill."""

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
    """Yield a function of the work done that reports nothing.

    Args:
        what: What is counted.
        total: All of the work.
    """
    yield lambda done: None


class RowPasses:
    """Passes over rows that belong to one run.

    Args:
        watch: Checkpoints of the run; its progress is not called.
        phase: Context manager of (title, total) that yields a function of the number of rows done.
    """

    def __init__(self, watch: Watch = UNWATCHED, phase: Phase = silent):
        self.watch, self.phase = watch, phase

    def checkpoint(self, **identity: Any) -> TimedCheckpoint:
        """Return the checkpoint of the run's states that belong to `identity`."""
        return TimedCheckpoint(self.watch.checkpoint, self.watch.interval, key=self.watch.key, **identity)

    def over(
        self, rows: int, step: int, work: Callable[[slice], None], arrays: dict[str, np.ndarray], *, title: str,
        name: str, **identity: Any,
    ) -> None:  # fmt: skip
        """Call `work` for all blocks of rows in order.

        Args:
            rows: Number of rows.
            step: Number of rows of a block.
            work: Function of a range of rows.
            arrays: What `work` changes, in place; the state that is stored.
            title: Title of the progress.
            name: Name of the state.
            identity: Values that must be equal for a state to be used.
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
    """The kernel between new rows and train rows, whose products are passes over the new rows.

    Args:
        kernel: See `CrossKernel`, also for `x`, `train` and `names`.
        passes: The run.
        name: Name of the new rows, for progress and states.
        step: Number of rows of a block.
    """

    def __init__(
        self, kernel: Kernel, x: np.ndarray, train: Any, names: tuple[str, str], *, passes: RowPasses, name: str,
        step: int,
    ):  # fmt: skip
        super().__init__(kernel, x, train, names)
        self._passes, self._name, self._step = passes, name, step

    def __matmul__(self, v: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "m k"]:
        """Compute the product with v; see `CrossKernel.product`."""
        out = np.zeros((len(self), v.shape[1]))

        def work(rows: slice) -> None:
            out[rows] = self.product(rows, v)

        self._passes.over(
            len(self), self._step, work, {"out": out}, title=f"predictions of {self._name} rows",
            name=f"predictions-{self._name}", of=fingerprint(v),
        )  # fmt: skip
        return out
