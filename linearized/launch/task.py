"""Execution of one command on a worker: in its own process, with its output in a log file.

A task is a command with its folder, log and environment. Commands skip finished work and continue where they were
stopped, so a task may run twice, one run after the other. If Dask loses or retires a worker, it gives the worker's task
to another worker at once, where the task waits up to a minute for the end of the first run.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from linearized.base.directories import WRITTEN, storage
from linearized.base.errors import TryLater
from linearized.base.fork_requests import Unfit
from linearized.base.platforms import lock_file
from linearized.launch import guard
from linearized.launch.suite_commands import suite_command
from linearized.launch.warm_process import WarmProcess, end_servers, possible

TAIL = 2000  # characters of the log that a status includes
READ = 2**17  # bytes at the end of the log in which the folders of results are looked for
PAUSE = 5.0  # seconds before a command that another process is running is submitted again
PATIENCE = 60.0  # seconds that a command waits for an earlier run of the same command
STOPPED = 130  # exit code of a command that Ctrl-C stops
BUSY = TryLater.code  # exit code of a command that another process is still running

_WRITTEN = re.compile(rf"^{WRITTEN}(.+)$", re.MULTILINE)
_running: dict[str, set["Running"]] = {}  # running commands of this worker, by launch
_stopped: set[str] = set()
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Task:
    """A command to run, in the form in which workers receive it.

    Attributes:
        argv: Words of the command, which is run without a shell.
        folder: Working folder.
        log: Path of the log.
        environment: Pairs (name, value) that are added to the worker's environment.
        launch: Identifier of the launch, by which its commands are stopped.
        warm: Whether a command of this suite runs in a fork of a process that has imported its modules. Otherwise it
            runs in a new process, like all other commands.
    """

    argv: tuple[str, ...]
    folder: str
    log: str
    environment: tuple[tuple[str, str], ...] = ()
    launch: str = ""
    warm: bool = False


class Running(Protocol):
    """Interface of a command that is running, as a new process or as a fork."""

    def wait(self) -> int:
        """Wait for the end of the command and return its exit code.

        Raises:
            Unfit: If the command was not started, which happens to forks only.
        """

    def stop(self) -> None:
        """Interrupt the command, and kill it if it does not end by itself."""

    def release(self) -> None:
        """Free the resources of the command's process after its end, such as its pipe."""


class _ColdProcess:
    """A command that runs in a new process, which is ended when this process ends (see `guard`).

    Args:
        task: The command.
        output: Descriptor of its standard output and standard error.
    """

    def __init__(self, task: "Task", output: int):
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, *task.argv],
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=task.folder, env=environment_of(task),
        )  # fmt: skip

    def wait(self) -> int:
        return self._process.wait()

    def stop(self) -> None:
        self._process.stdin.close()

    release = stop


@dataclasses.dataclass(frozen=True)
class ProcessOutcome:
    """Outcome of one try of a command.

    Attributes:
        code: Exit code, 128 + signal for a signal; None if its worker died too often.
        seconds: Duration.
        tail: End of the log.
        written: Folders of results that the command named in its output, on lines that start with `WRITTEN`.
    """

    code: int | None
    seconds: float
    tail: str
    written: tuple[str, ...] = ()


def log_name(argv: tuple[str, ...]) -> str:
    """Return the file name of a command's log: the end of the command line, and a digest of the whole line."""
    words = re.sub(r"[^\w.=-]+", "_", " ".join(argv)).strip("_-")[-60:].lstrip("_-")
    return f"{words}-{hashlib.blake2b(shlex.join(argv).encode(), digest_size=4).hexdigest()}.log"


def log_path(argv: tuple[str, ...], logs: Path | str = "") -> Path:
    """Return the path of a command's log.

    It lies in the folder `logs`. If that is empty, it lies in the folder "logs" inside the folder of the command's flag
    --folder or, without this flag, inside the storage folder of the suite.

    Args:
        argv: Words of the command.
        logs: Folder of the logs, or "".
    """
    folders = [word.removeprefix("--folder=") for word in argv if word.startswith("--folder=")]
    folder = Path(logs) if str(logs) else Path(folders[-1], "logs") if folders else storage() / "logs"
    return folder.resolve() / log_name(argv)


def environment_of(task: Task) -> dict[str, str]:
    """Return the environment of a command: the variables of the worker, and those that the task adds.

    On its $PATH, `python` is this interpreter, even if its virtual environment is not activated.
    """
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **dict(task.environment),
    }


def run_task(task: Task) -> ProcessOutcome:
    """Run a command on this worker, append its output to its log, and return how it ended.

    Args:
        task: The command, its folder and its log.

    Returns:
        Exit code, duration, end of the log and folders of results. The exit code is 75 if an earlier run of the same
        command has the log open after a minute of waiting, and 130 if the launch was stopped before the command began.

    Raises:
        OSError: If the log cannot be written, such as on a full disk.
    """
    log = Path(task.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as file:
        # The command inherits the open file with its lock, which is held until the last of its processes ends, even
        # if this worker dies.
        if not _locked(file.fileno()):
            return ProcessOutcome(BUSY, time.monotonic() - start, "an earlier run of this command is still at work")
        try:
            file.write(f"# {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(task.argv)}\n".encode())
            file.flush()
        except OSError:  # such as a full disk
            if not log.stat().st_size:
                log.unlink()
            raise
        begin = file.tell()
        if (code := _run(task, file.fileno())) is None:
            return ProcessOutcome(STOPPED, 0.0, "stopped")
        if code == BUSY:
            time.sleep(PAUSE)
        text = _end(log, begin)
        written = tuple(str(Path(task.folder, name)) for name in _WRITTEN.findall(text))
        outcome = ProcessOutcome(code, time.monotonic() - start, text[-TAIL:], written)
        file.write(f"# exit code {code} after {outcome.seconds:.1f} s\n".encode())
    return outcome


def _run(task: Task, output: int) -> int | None:
    """Run a command and return its exit code; None if its launch was stopped before it began.

    Args:
        task: The command.
        output: Descriptor of its standard output and standard error.
    """
    if task.warm and possible():
        environment = environment_of(task)
        own = suite_command(task.argv, task.folder, environment["PATH"])
        if own is not None:
            with contextlib.suppress(Unfit):
                return _ended(task, lambda: WarmProcess(own, task.folder, environment, output))
    return _ended(task, lambda: _ColdProcess(task, output))


def _ended(task: Task, start: Callable[[], Running]) -> int | None:
    with _lock:
        if task.launch in _stopped:
            return None
        process = start()
        _running.setdefault(task.launch, set()).add(process)
    try:
        return process.wait()
    finally:
        with _lock:
            _running[task.launch].discard(process)
        process.release()


def stop_tasks(launch: str) -> None:
    """Interrupt the commands of one launch that run on this worker, and start no more of them.

    Args:
        launch: Identifier of the launch, as in `Task.launch`.
    """
    with _lock:
        _stopped.add(launch)
        for process in _running.get(launch, ()):
            process.stop()


def dask_teardown(worker: object) -> None:
    """End the commands of this worker. Dask calls this when a worker closes, such as at the end of its lifetime."""
    end_all_tasks()


def end_all_tasks() -> None:
    """Interrupt every command on this worker, start no more commands of their launches, and end idle fork servers."""
    with _lock:
        for launch in _running:
            _stopped.add(launch)
            for process in _running[launch]:
                process.stop()
    end_servers()


def _locked(handle: int) -> bool:
    """Lock an open file, wait up to a minute (`PATIENCE`) for another holder, and return whether the lock succeeded.

    Args:
        handle: Descriptor of the file.
    """
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(BlockingIOError):
            lock_file(handle)
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def _end(log: Path, begin: int) -> str:
    """Return the text that a command has written to its log, or only its last 128 KiB.

    Args:
        log: Path of the log.
        begin: Position in the log, in bytes, at which the output of the command begins.
    """
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - READ))
        return file.read().decode(errors="replace")
