"""One command as a task of a worker: it runs in a process of its own, writes its log, and gives a small status.

The commands are idempotent: they skip what is done and go on where they were stopped. So a task may run twice, one
after the other: Dask gives a task of a worker that it lost, or retired, to another one at once, and there it waits
until the first run has truly ended.
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
from pathlib import Path

from linearized.base.directories import storage
from linearized.base.errors import TryLater
from linearized.base.platforms import lock_file
from linearized.launch import guard

TAIL = 2000  # bytes of the log that a status carries
PAUSE = 5.0  # seconds before a command that another process is at work on is asked for again
PATIENCE = 60.0  # seconds that a command waits for an earlier run of itself
BUSY = TryLater.code  # exit code of one that waited in vain

_running: dict[str, set[subprocess.Popen]] = {}  # by launch: what this worker runs now
_stopped: set[str] = set()
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Task:
    """A command (a list of words, no shell), the folder it runs in, its log file and what its environment adds."""

    argv: tuple[str, ...]
    folder: str
    log: str
    environment: tuple[tuple[str, str], ...] = ()
    launch: str = ""


@dataclasses.dataclass(frozen=True)
class ProcessOutcome:
    """How a command ended: exit code (128 + signal; None if its worker died too often), seconds, end of its log."""

    code: int | None
    seconds: float
    tail: str


def log_name(argv: tuple[str, ...]) -> str:
    """A file name that shows the end of a command, where commands differ, and is its own."""
    words = re.sub(r"[^\w.=-]+", "_", " ".join(argv)).strip("_-")[-60:].lstrip("_-")
    return f"{words}-{hashlib.blake2b(shlex.join(argv).encode(), digest_size=4).hexdigest()}.log"


def log_path(argv: tuple[str, ...], logs: Path | str = "") -> Path:
    """Return where a command's log lies: in `logs`; if that is empty, in logs of its --folder, else of the storage."""
    folders = [word.removeprefix("--folder=") for word in argv if word.startswith("--folder=")]
    folder = Path(logs) if str(logs) else Path(folders[-1], "logs") if folders else storage() / "logs"
    return folder.resolve() / log_name(argv)


def environment_of(task: Task) -> dict[str, str]:
    """The worker's environment and the task's; `python` is this Python, though its environment be not activated."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **dict(task.environment),
    }


def run_task(task: Task) -> ProcessOutcome:
    """Runs the command on this worker and waits for its end; its output is added to its log."""
    log = Path(task.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as file:
        # The command inherits the open file, and the lock with it: it is held until the last of its processes ends,
        # whatever becomes of this worker.
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
        with _lock:
            if task.launch in _stopped:
                return ProcessOutcome(130, 0.0, "stopped")
            # The command's end hangs on this pipe: see guard.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *task.argv],
                stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, cwd=task.folder, env=environment_of(task),
            )  # fmt: skip
            _running.setdefault(task.launch, set()).add(process)
        try:
            code = process.wait()
            if code == BUSY:
                time.sleep(PAUSE)
        finally:
            with _lock:
                _running[task.launch].discard(process)
                process.stdin.close()
        outcome = ProcessOutcome(code, time.monotonic() - start, _tail(log, begin))
        file.write(f"# exit code {code} after {outcome.seconds:.1f} s\n".encode())
    return outcome


def stop_tasks(launch: str) -> None:
    """Interrupts the commands of one launch that run on this worker, and starts no more of them."""
    with _lock:
        _stopped.add(launch)
        for process in _running.get(launch, ()):
            process.stdin.close()


def dask_teardown(worker: object) -> None:
    """Dask calls this in a worker that closes, at the end of its lifetime for one: its commands end now."""
    end_all_tasks()


def end_all_tasks() -> None:
    """Interrupt every command that runs on this worker, and start no more of their launches."""
    with _lock:
        for launch in _running:
            _stopped.add(launch)
            for process in _running[launch]:
                process.stdin.close()


def _locked(handle: int) -> bool:
    """Locks an open file, waiting for its holder up to `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(BlockingIOError):
            lock_file(handle)
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - TAIL))
        return file.read().decode(errors="replace")
