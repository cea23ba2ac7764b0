"""Child processes that end together with their parent (the process that started them), however it ends.

On Linux, the operating system sends each child a signal when its parent ends (`prctl`). On other systems, the processes
of a pool check every second whether the parent still exists, and started commands run to completion.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def end_with_parent(number: int = signal.SIGTERM) -> Callable[[], None]:
    """Return a function for `subprocess.Popen(preexec_fn=...)` that makes a child end when this process ends.

    On Linux, the function makes the operating system send the child a signal when this process ends. On other systems
    it does nothing.

    Args:
        number: Number of the signal.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl  # loaded here because a child may not import between fork and exec

    def ask() -> None:
        prctl(_SET_DEATH_SIGNAL, int(number), 0, 0, 0)

    return ask


def spawned_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of spawned processes that are killed when this process has ended.

    The processes import submitted functions from their modules and do not run the user's script again. A script that
    calls `linearized.compare` therefore needs no `if __name__ == "__main__":`, but functions defined in the script
    itself cannot be submitted.

    Args:
        workers: The largest number of processes.
    """
    return ProcessPoolExecutor(workers, mp_context=_Context(), initializer=_follow, initargs=(os.getpid(),))


class _Process(SpawnProcess):
    """A spawned process that does not run the user's script again, because `__main__` is empty while it is started."""

    def start(self) -> None:
        with _starting:
            script = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = script


class _Context(SpawnContext):
    Process = _Process


_starting = threading.Lock()


def _follow(parent: int) -> None:
    """Initialise a process of a pool: arrange that it ends together with the process that made the pool.

    Args:
        parent: Process number of the process that made the pool. If it has already ended, this process ends at once.
    """
    end_with_parent(signal.SIGKILL)()
    if os.getppid() != parent:
        os._exit(1)
    if not sys.platform.startswith("linux"):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process within one second after its parent, the process with the number `parent`, has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
