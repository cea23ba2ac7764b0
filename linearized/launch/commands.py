"""Maps commands over a Dask client: retries, progress, a table at the end; Ctrl-C stops them, a rerun goes on.

A worker that dies gives its command to another one (Dask does that); a command that fails is tried again from here,
after the others. Nothing that fails stops the rest.
"""

import dataclasses
import queue
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linearized.launch.sweep_progress import Report, progress_line
from linearized.launch.task import BUSY, ProcessOutcome, Task, log_path, run_task, stop_tasks

if TYPE_CHECKING:
    from distributed import Client, Future

MISUSED = 2  # the exit code of what only the user can mend: not tried again
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
STOP_SECONDS = 10
REFRESH = 1.0  # seconds between looks at what runs


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """The last outcome of a command, after `tries` tries."""

    argv: tuple[str, ...]
    outcome: ProcessOutcome
    tries: int
    log: str

    @property
    def failed(self) -> bool:
        return self.outcome.code != 0


def run_commands(
    client: "Client", commands: Sequence[tuple[str, ...]], *, logs: Path | str = "", retries: int = 3, cores: int = 1
) -> list[CommandResult]:
    """Runs every command on the client's workers and waits for all of them.

    Args:
        commands: Lists of words, each different; they run in this process's working folder, which workers must see.
        logs: Folder of the logs, one a command; a rerun adds to them. Empty: see `log_path`.
        retries: More tries of a command that failed with another code than 2 (or 75: those are asked for again until
            another process that is at work on them has ended).
        cores: Threads that a command may use (OMP_NUM_THREADS and its like).

    Returns: A result a command, in order. KeyboardInterrupt stops the running commands first, then passes on.
    """
    launch = uuid.uuid4().hex[:8]
    folder = str(Path.cwd())
    threads = tuple((name, str(cores)) for name in THREADS)
    tasks = [Task(tuple(argv), folder, str(log_path(tuple(argv), logs)), threads, launch) for argv in commands]
    # One group of keys: Dask then hands a worker one task at a time instead of dealing all of them out at once.
    futures = client.map(run_task, tasks, key=[(f"command-{launch}", i, 1) for i in range(len(tasks))], pure=False)
    try:
        return _collect(client, tasks, futures, retries)
    except KeyboardInterrupt:
        client.cancel(futures, force=True)
        _stop(client, launch)
        raise


def _collect(client: "Client", tasks: list[Task], futures: list["Future"], retries: int) -> list[CommandResult]:
    """Results as they come; `futures` is kept up to date, so that a caller can cancel what is left."""
    results: dict[int, CommandResult] = {}
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    with progress_line(len(tasks)) as report:
        while len(results) < len(tasks):
            report(_state(client, results))
            for future in _drain(ended):
                _, index, tries = future.key
                outcome = _outcome(future, retries)
                if outcome is None:  # its worker died with the answer: Dask runs it again, and it skips itself
                    future.add_done_callback(ended.put)
                elif outcome.code in (0, MISUSED, None) or (tries > retries and outcome.code != BUSY):
                    results[index] = CommandResult(tasks[index].argv, outcome, tries, tasks[index].log)
                    future.release()
                else:
                    # What another launch is at work on is not a failure: it is asked for again until it is done.
                    key = (*future.key[:2], tries + 1)
                    futures[index] = client.submit(run_task, tasks[index], key=key, pure=False)
                    futures[index].add_done_callback(ended.put)
        report(_state(client, results))
    return [results[index] for index in range(len(tasks))]


def _drain(ended: "queue.SimpleQueue[Future]") -> Iterator["Future"]:
    """What has ended since the last look; waits for the first a moment."""
    try:
        yield ended.get(timeout=REFRESH)
        while True:
            yield ended.get_nowait()
    except queue.Empty:
        return


def _outcome(future: "Future", retries: int) -> ProcessOutcome | None:
    try:
        return future.result(timeout=60)
    except TimeoutError:
        return None
    except OSError as error:  # the log or the folder: no command ran
        return ProcessOutcome(1, 0.0, f"the worker cannot start it: {error}")
    except Exception as error:
        if type(error).__name__ != "KilledWorker":  # Dask's, which need not be installed
            raise
        return ProcessOutcome(None, 0.0, f"its worker died more than {retries} times")


def _state(client: "Client", results: dict[int, CommandResult]) -> Report:
    threads = client.nthreads()
    running = sum(min(len(keys), threads.get(worker, 0)) for worker, keys in client.processing().items())
    failed = sum(result.failed for result in results.values())
    return Report(done=len(results) - failed, failed=failed, running=running, workers=len(threads))


def _stop(client: "Client", launch: str) -> None:
    """Cancelling takes a running task's answer from us, not its command from the worker: end that here."""
    asking = threading.Thread(target=client.run, args=(stop_tasks, launch), kwargs={"on_error": "ignore"}, daemon=True)
    asking.start()
    asking.join(STOP_SECONDS)
