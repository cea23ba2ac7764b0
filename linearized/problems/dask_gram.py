"""Kernel ridge regression on several machines: the workers of a Dask scheduler multiply by the Gram matrix K.

Every worker reads the shards (files) of K from a shared folder. Only one triangle of K is stored, in bands, which are
ranges of rows. The bands are divided into parts, a few for each thread of the workers. To compute K v for some columns
v, workers multiply the entries of each part, and their mirror images, by v, and the results are summed as a
`dask.array`. Solvers use this problem like any other one. If a worker dies, another worker reads its parts again.
Requires the extra `[cluster]`. Set `distributed.scheduler.worker-ttl: null` on the scheduler, because a worker does not
always respond during a multiplication.
"""

import functools
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.blocks import at_most
from linearized.base.errors import UserError
from linearized.base.shapes import Float
from linearized.cluster.clients import connected, failures, threads
from linearized.problems.block_width import reading_columns
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import MEMORY
from linearized.storage.gram import Gram, open_gram

PARTS = 2  # parts of K per worker thread, which keeps the wait for the last part short


class DaskGramProblem(GramProblem):
    """Kernel ridge regression (K + ρI)α = Y in which the workers of a Dask scheduler multiply by K.

    Args:
        gram: Shards as returned by `linearized.open_gram`, in a folder that has the same path on all workers.
        targets: Y (n, k).
        scheduler: Address such as tcp://127.0.0.1:8786, or a `distributed.Client`, which the caller closes.
        memory: Memory in bytes for the solver's arrays in this process. K is never stored in this process.

    Raises:
        UserError: If Dask is missing, no scheduler responds, or it has no worker. Products raise it if workers die
            repeatedly, the scheduler is lost, or a worker rejects a shard.
    """

    def __init__(
        self, gram: np.ndarray | Gram, targets: Float[np.ndarray, "n k"], *, scheduler: Any, memory: int = MEMORY
    ):
        if not isinstance(gram, Gram):
            raise UserError(
                f"A scheduler's workers read K from shards. Received: an array of {gram.shape}. Take no scheduler, "
                "or make shards with python -m kernel_gen."
            )
        super().__init__(gram, targets, memory=memory)
        self._hold = False
        self._own = isinstance(scheduler, str)
        self.client = connected(scheduler) if self._own else scheduler
        self._key = (str(gram.folder.resolve()), gram.manifest.fingerprint, uuid.uuid4().hex)
        self._parts = [(part.start, part.stop) for part in gram.parts(max(8, PARTS * threads(self.client)))]
        self._read = 0.0

    @property
    def seconds_reading(self) -> float:
        """Seconds that all workers together have spent reading shards."""
        return self._read

    @property
    def seconds_waiting(self) -> float:
        """Seconds that products spent waiting for shards; NaN, because workers do not measure them."""
        return float("nan")

    def close(self) -> None:
        """Disconnect from a scheduler that was given by its address; the scheduler and its workers continue to run."""
        if self._own:
            self.client.close()

    def _reading(self) -> float:
        return self._result(self.client.submit(_sampled, self._key, self.columns, pure=False))

    def _product(self, v: np.ndarray) -> np.ndarray:
        import dask
        import dask.array

        shared = dask.delayed(v, name=f"v-{uuid.uuid4().hex}", traverse=False)
        share = dask.delayed(_share, pure=False, nout=2)
        shares = [share(self._key, part, shared) for part in self._parts]
        summands = [dask.array.from_delayed(product, v.shape, np.float64) for product, _ in shares]
        product = dask.array.stack(summands).sum(axis=0)
        seconds = dask.delayed(sum)([seconds for _, seconds in shares])
        with warnings.catch_warnings():
            # v is part of the graph, so that it survives the death of a worker.
            warnings.filterwarnings("ignore", message="(?s).*large graph")
            future = self.client.compute(dask.delayed(tuple)([dask.delayed(product), seconds]))
        product, seconds = self._result(future)
        self._read += seconds
        return product

    def _result(self, future: Any) -> Any:
        """Return the result of a Dask computation, given by its `future`, once it is available.

        Raises `UserError` if workers died repeatedly or the connection to the scheduler is lost.
        """
        with failures("multiplying the same part of K"):
            return future.result()


# Functions that run on the workers. `key` is the folder, the dataset's fingerprint and a name of the run.


@functools.lru_cache(maxsize=64)
def _opened(key: tuple[str, str, str], part: tuple[int, int] | None) -> Gram:
    """Open the shards on a worker and return them.

    The result is cached for each run and part, so that checksums are compared only once.

    Args:
        key: Folder of the shards, fingerprint of the dataset, and an identifier of the run.
        part: Indices of the first band that the caller reads and of the band after the last one.

    Raises `UserError` if the worker does not have the folder.
    """
    folder, fingerprint, _ = key
    if not Path(folder).is_dir():
        raise UserError(f"A worker sees no folder {folder}. Give it a disk that all workers share.")
    return open_gram(folder, fingerprint=fingerprint)


def _share(key: tuple[str, str, str], part: tuple[int, int], v: np.ndarray) -> tuple[np.ndarray, float]:
    """Compute the contribution of some bands (ranges of rows) of K to the product K v, on a worker.

    The computation uses one core, because Dask assigns tasks to the other cores.

    Args:
        key: Folder of the shards, fingerprint of the dataset, and an identifier of the run.
        part: Indices of the first band and of the band after the last one.
        v: Columns to multiply, (n, c).

    Returns:
        The summand (n, c) of K v, and the seconds spent reading shards.
    """
    gram = _opened(key, part)
    before = gram.seconds_reading
    with at_most(1):
        product = gram.multiply(v, bands=slice(*part))
    return product, gram.seconds_reading - before


def _sampled(key: tuple[str, str, str], columns: int) -> float:
    with at_most(1):
        return reading_columns(_opened(key, None), columns)
