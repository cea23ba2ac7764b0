"""Launcher for this machine without Dask: each worker is a thread of this process and runs one command at a time.

`PlainClient` offers the part of a `distributed.Client` that `linearized.launch.commands` uses.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from linearized.launch.launch_settings import WhereSettings
from linearized.launch.launchers.devices import devices_of, share_of_cores
from linearized.launch.task import Task, end_all_tasks
from linearized.settings.reads import reads, when

READS = reads("gpus", "cold") | reads("workers", when=when(gpus=""))

NAME = "worker-{}"


class KeyedFuture(Future):
    """A future that also has the key under which its task was submitted, as Dask's futures have."""

    def __init__(self, key: Hashable):
        super().__init__()
        self.key = key

    def release(self) -> None:
        """Do nothing. Dask's futures free their result here; these have no memory to free."""


class PlainClient:
    """Worker threads of this process with the methods of a Dask client.

    Each thread runs one task at a time, in the order in which tasks were submitted.

    Args:
        devices: GPU of each worker, or None for a worker that uses all of them.
    """

    dashboard_link = "none (Dask brings one)"

    def __init__(self, devices: Sequence[str | None]):
        self._queue: queue.SimpleQueue[tuple[KeyedFuture, Callable, Task] | None] = queue.SimpleQueue()
        self._running: dict[str, list[Hashable]] = {NAME.format(index): [] for index in range(len(devices))}
        self._threads = [
            threading.Thread(target=self._work, args=(NAME.format(index), device), daemon=True)
            for index, device in enumerate(devices)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, name: str, device: str | None) -> None:
        while (item := self._queue.get()) is not None:
            future, function, task = item
            if not future.set_running_or_notify_cancel():
                continue
            self._running[name] = [future.key]
            if device is not None:
                task = replace(task, environment=(*task.environment, ("CUDA_VISIBLE_DEVICES", device)))
            try:
                future.set_result(function(task))
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is read
                future.set_exception(error)
            self._running[name] = []

    def submit(self, function: Callable[[Task], Any], task: Task, *, key: Hashable, pure: bool = False) -> KeyedFuture:
        """Queue one task, and return the future of its result.

        Args:
            function: Function that a worker calls with the task.
            task: The command to run.
            key: Key of the future.
            pure: Ignored; Dask's clients have this argument. No earlier result is ever reused.
        """
        future = KeyedFuture(key)
        self._queue.put((future, function, task))
        return future

    def map(
        self, function: Callable[[Task], Any], tasks: Sequence[Task], *, key: Sequence[Hashable], pure: bool = False
    ) -> list[KeyedFuture]:
        """Queue several tasks in order, and return their futures.

        Args:
            function: Function that a worker calls with each task.
            tasks: The commands to run.
            key: Key of each future.
            pure: Ignored, as in `submit`.
        """
        return [self.submit(function, task, key=name, pure=pure) for task, name in zip(tasks, key, strict=True)]

    def cancel(self, futures: Sequence[Future], *, force: bool = False) -> None:
        """Remove the tasks of these futures from the queue, unless a worker has begun them.

        Args:
            futures: Futures of the tasks.
            force: Ignored; Dask's clients have this argument. Call `run` with `stop_tasks` to end tasks that are
                running.
        """
        for future in futures:
            future.cancel()

    def run(self, function: Callable[..., Any], *arguments: Any, on_error: str = "raise") -> Any:
        """Call a function in the process of the workers, which is this process, and return its result.

        Args:
            function: The function.
            *arguments: Its arguments.
            on_error: Ignored; Dask's clients have this argument.
        """
        return function(*arguments)

    def nthreads(self) -> dict[str, int]:
        """Return the number of threads of each worker, which is 1, by the name of the worker."""
        return dict.fromkeys(self._running, 1)

    def processing(self) -> dict[str, list[Hashable]]:
        """Return the keys of the tasks that each worker is running, by the name of the worker."""
        return {name: list(keys) for name, keys in self._running.items()}

    def close(self) -> None:
        """Stop all workers when the tasks that are already queued have been run."""
        for _ in self._threads:
            self._queue.put(None)


def default_cores(settings: WhereSettings) -> int:
    """Return the default number of threads of a command: an equal share of this machine's cores."""
    return share_of_cores(settings)


@contextlib.contextmanager
def client(settings: WhereSettings) -> Iterator[PlainClient]:
    """Start worker threads and yield their client; end commands that are still running at the end of the `with` block.

    Args:
        settings: Settings gpus and workers.
    """
    found = PlainClient(devices_of(settings))
    try:
        yield found
    finally:
        found.close()
        end_all_tasks()
