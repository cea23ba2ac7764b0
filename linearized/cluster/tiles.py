"""Tiles: function calls that are computed one after the other in this process, or by the workers of a Dask scheduler.

The function of a tile is defined in a module, and its arguments can be pickled. Results are returned in the order of
the tiles, so that sums over the same tiles do not depend on the number of workers. Each result is sent to this process
as soon as it is finished. If a worker dies, another worker repeats only the tile that was being computed and the tile
whose result was still being sent. At most 2 tiles per worker thread (`WINDOW`) are being computed or wait for an
earlier one.

Values that many tiles read are sent to every worker once (`share`). They are part of Dask's graph, so that they
survive the death of all workers.
"""

import contextlib
import functools
import itertools
import pickle
import queue
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from absl import logging

from linearized.base.blocks import at_most
from linearized.base.errors import UserError
from linearized.base.platforms import core_share
from linearized.cluster.clients import configure, connected, failures, new_credentials, processes, threads

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 300  # seconds without a result after which there must be a worker
RETRIES = 3  # workers that may die while they compute the same tile
PARTS = 16  # tiles per worker thread of work that can be divided into any number of tiles
WINDOW = 2  # tiles per worker thread that are at work or wait for an earlier one


class _TileError(Exception):
    """Wrapper of an exception that the function of a tile raised on a worker; the exception is its only argument."""


@contextlib.contextmanager
def raised_alone() -> Iterator[None]:
    """Replace a `_TileError` that is raised in the `with` block by the exception that it contains.

    Without the wrapper, `failures` would report an `OSError` of a tile as a failure of the connection.
    """
    try:
        yield
    except _TileError as error:
        raise error.args[0] from None


class Here:
    """Tiles that are computed one after the other in this process, each on all cores.

    Attributes:
        parts: Smallest number of tiles into which a caller divides its work, if it can choose the size of the tiles.
    """

    parts = 1

    def share(self, value: Any) -> Any:
        """Return `value`, which tiles in this process can use as an argument directly."""
        return value

    def ordered(self, function: Callable, tiles: Iterable[tuple], *, room: float = float("inf")) -> Iterator[Any]:
        """Yield the result of each tile, computed by `function(*tile)`, in the order of the tiles.

        The arguments are those of `OnWorkers.ordered`. `room` is ignored, because no result waits.
        """
        return itertools.starmap(function, tiles)


class OnWorkers:
    """Tiles that are computed by the workers of a Dask scheduler.

    The attribute `parts` is the smallest number of tiles into which a caller divides its work, if it can choose the
    size of the tiles.

    Args:
        client: A `distributed.Client`, which the caller closes.
        cores: Number of cores that a tile uses.

    Raises `UserError` if there is no worker.
    """

    def __init__(self, client: "Client", cores: int = 1):
        self.client, self._cores, self.parts = client, cores, PARTS * threads(client)

    def share(self, value: Any) -> Any:
        """Return a placeholder for `value` among the arguments of tiles; each worker receives the value once.

        Raises `UserError` if it cannot be pickled.
        """
        import cloudpickle

        try:
            pickled = cloudpickle.dumps(value)
        except (TypeError, AttributeError, ValueError, pickle.PicklingError) as error:
            raise UserError(
                f"The kernel cannot be sent to workers ({' '.join(str(error).split())[:200]}). Leave out --workers "
                "and --scheduler."
            ) from error
        return self._submit(_unpickled, pickled)

    def ordered(self, function: Callable, tiles: Iterable[tuple], *, room: float = float("inf")) -> Iterator[Any]:
        """Yield the result of each tile, in the order of the tiles.

        Args:
            function: Function of a module.
            tiles: Tuple of the arguments of the function for each tile. An argument may be a value that `share`
                returned.
            room: Number of results that fit in the memory of this process; fewer than 1 count as 1.

        Raises `UserError` if workers die repeatedly or the connection to the scheduler is lost. Exceptions of the
        function are raised unchanged.
        """
        from distributed import KilledWorker

        slots = threads(self.client)
        if room < slots:
            logging.warning("memory holds the results of %d tiles, fewer than the workers' %d threads: some of them "
                            "wait. Raise --memory.", room, slots)  # fmt: skip
        numbered, running, ready, following = enumerate(tiles), {}, {}, 0
        ended: queue.SimpleQueue[tuple[int, Any, Exception | None]] = queue.SimpleQueue()

        def arrived(number: int, future: "Future") -> None:
            """Fetch a result in a thread of Dask and release it, so that the death of its worker has no effect."""
            try:
                ended.put((number, future.result(), None))
            except Exception as error:  # noqa: BLE001 - it is raised where results are read
                of_tile = future.status == "error" and not isinstance(error, KilledWorker)
                ended.put((number, None, _TileError(error) if of_tile else error))
            future.release()

        def submit(count: int) -> None:
            for number, tile in itertools.islice(numbered, count):
                running[number] = self._submit(_computed, self._cores, function, *tile)
                running[number].add_done_callback(functools.partial(arrived, number))

        with raised_alone(), failures("computing the same tile"):
            try:
                submit(int(max(1, min(WINDOW * slots, room))))
                while running:
                    number, result, error = self._next(ended)
                    del running[number]
                    if error is not None:
                        raise error
                    ready[number] = result
                    while following in ready:
                        yield ready.pop(following)
                        following += 1
                        submit(1)
            finally:
                if running and self.client.status == "running":
                    self.client.cancel(list(running.values()))

    def _next(self, ended: queue.SimpleQueue) -> Any:
        """Wait for the next item of a queue of finished tiles, and return it.

        Raises `UserError` if no item has arrived for 5 minutes (`PATIENCE`) and there is no worker either."""
        while True:
            try:
                return ended.get(timeout=PATIENCE)
            except queue.Empty:
                if not self.client.nthreads():
                    raise UserError(
                        f"All workers of the Dask scheduler have been gone for {PATIENCE} s. Start some, and run "
                        "again: a saved run continues from its checkpoint."
                    ) from None

    def _submit(self, function: Callable, *arguments: Any) -> Any:
        with warnings.catch_warnings():
            # Arguments are part of the graph, so that they survive the death of a worker.
            warnings.filterwarnings("ignore", message="(?s).*large graph")
            return self.client.submit(function, *arguments, pure=False)


@contextlib.contextmanager
def places(workers: int = 0, scheduler: str = "") -> Iterator[Here | OnWorkers]:
    """Yield an object that computes tiles: in this process, in new worker processes, or on the workers of a scheduler.

    New worker processes end with the `with` block.

    Args:
        workers: Number of worker processes to start, each with an equal share of this machine's cores; 0: none.
        scheduler: Address of a running scheduler, on whose workers a tile uses one core; "": none.

    Raises `UserError` if Dask is missing, workers cannot start, or the scheduler does not answer or has no workers.
    """
    if scheduler:
        with connected(scheduler) as client:
            yield OnWorkers(client)
    elif workers:
        needed_by = f"--workers={workers}"
        configure(needed_by, RETRIES)
        with processes([{}] * workers, new_credentials(needed_by)) as client:
            logging.info("%d workers, dashboard: %s", workers, client.dashboard_link)
            yield OnWorkers(client, core_share(workers))
    else:
        yield Here()


# Functions that run on the workers.


def _unpickled(pickled: bytes) -> Any:
    return pickle.loads(pickled)  # noqa: S301 - this process wrote it


def _computed(cores: int, function: Callable, *tile: Any) -> Any:
    with at_most(cores):
        return function(*tile)
