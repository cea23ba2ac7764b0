"""Run commands on the workers of a Dask client, with retries and a progress line.

Ctrl-C stops the commands; a rerun continues where they stopped. When a worker dies, Dask gives its command to another
worker. A command that fails is submitted again by this module, after the other commands. A failure never stops the
other commands.
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

MISUSED = 2  # exit code of errors that only the user can fix: no retry
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
STOP_SECONDS = 10
REFRESH = 1.0  # seconds between updates of the progress line


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """Outcome of a command after all its tries.

    Attributes:
        argv: Words of the command.
        outcome: Outcome of the last try.
        tries: Number of tries.
        log: Path of the log.
    """

    argv: tuple[str, ...]
    outcome: ProcessOutcome
    tries: int
    log: str

    @property
    def failed(self) -> bool:
        """Whether the command did not end with exit code 0."""
        return self.outcome.code != 0


def run_commands(
    client: "Client",
    commands: Sequence[tuple[str, ...]],
    *,
    logs: Path | str = "",
    retries: int = 3,
    cores: int = 1,
    warm: bool = False,
) -> list[CommandResult]:
    """Run every command on the client's workers and wait for all of them.

    Args:
        client: Dask client, or `PlainClient`, whose workers run the commands.
        commands: Commands as lists of words, all different. They run in the working folder of this process, which
            workers must be able to access.
        logs: Folder of the logs, one file per command; a rerun appends to them. If empty, see `log_path`.
        retries: Number of further tries of a command that fails with an exit code other than 2. Code 75 (another
            process is at work on the command) is retried without limit, until that process has ended.
        cores: Number of threads that a command may use (sets OMP_NUM_THREADS and similar variables).
        warm: Whether commands of this suite run in forks of a process that has imported their modules, which saves the
            imports. Otherwise every command runs in a new process.

    Returns:
        One result per command, in order. On KeyboardInterrupt the running commands are stopped before the exception is
        raised again.
    """
    launch = uuid.uuid4().hex[:8]
    folder = str(Path.cwd())
    threads = tuple((name, str(cores)) for name in THREADS)
    tasks = [Task(tuple(argv), folder, str(log_path(tuple(argv), logs)), threads, launch, warm) for argv in commands]
    # One group of keys: Dask then gives a worker one task at a time instead of distributing all of them at once.
    futures = client.map(run_task, tasks, key=[(f"command-{launch}", i, 1) for i in range(len(tasks))], pure=False)
    try:
        return _collect(client, tasks, futures, retries)
    except KeyboardInterrupt:
        client.cancel(futures, force=True)
        _stop(client, launch)
        raise


def _collect(client: "Client", tasks: list[Task], futures: list["Future"], retries: int) -> list[CommandResult]:
    """Wait for all commands, submit failed commands again, and return the results in the order of `tasks`.

    Args:
        client: Client that runs the commands.
        tasks: The commands.
        futures: Future of each command, updated in place, so that the caller can cancel the rest.
        retries: Number of further tries of a command that fails.
    """
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
                if outcome is None:  # its worker died with the result: Dask reruns it, and it skips what is done
                    future.add_done_callback(ended.put)
                elif outcome.code in (0, MISUSED, None) or (tries > retries and outcome.code != BUSY):
                    results[index] = CommandResult(tasks[index].argv, outcome, tries, tasks[index].log)
                    future.release()
                else:
                    # A command that another launch is running has not failed: it is submitted again until it is done.
                    key = (*future.key[:2], tries + 1)
                    futures[index] = client.submit(run_task, tasks[index], key=key, pure=False)
                    futures[index].add_done_callback(ended.put)
        report(_state(client, results))
    return [results[index] for index in range(len(tasks))]


def _drain(ended: "queue.SimpleQueue[Future]") -> Iterator["Future"]:
    """Yield the futures that have ended since the last call; wait up to `REFRESH` seconds for the first one."""
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
    except OSError as error:  # the log or the folder cannot be used, so no command ran
        return ProcessOutcome(1, 0.0, f"the worker cannot start it: {error}")
    except Exception as error:
        if type(error).__name__ != "KilledWorker":  # a class of Dask, which may not be installed
            raise
        return ProcessOutcome(None, 0.0, f"its worker died more than {retries} times")


def _state(client: "Client", results: dict[int, CommandResult]) -> Report:
    threads = client.nthreads()
    running = sum(min(len(keys), threads.get(worker, 0)) for worker, keys in client.processing().items())
    failed = sum(result.failed for result in results.values())
    return Report(done=len(results) - failed, failed=failed, running=running, workers=len(threads))


def _stop(client: "Client", launch: str) -> None:
    """Call `stop_tasks` on all workers to end the commands of one launch, and wait up to 10 seconds for it.

    Cancelling the futures only discards the results; it does not stop the commands.

    Args:
        client: Client whose workers run the commands.
        launch: Identifier of the launch, as in `Task.launch`.
    """
    asking = threading.Thread(target=client.run, args=(stop_tasks, launch), kwargs={"on_error": "ignore"}, daemon=True)
    asking.start()
    asking.join(STOP_SECONDS)
