"""Child processes that end with the process that started them, however that ends.

Linux sends them a signal (`prctl`). Elsewhere processes of a pool look for their parent every second, and commands that
were started go on to their end.
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
    """Return what a child calls before it starts (`preexec_fn`): it is sent the signal when this process is gone."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl  # loaded here: a child may not import between fork and exec

    def ask() -> None:
        prctl(_SET_DEATH_SIGNAL, int(number), 0, 0, 0)

    return ask


def spawned_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of fresh processes, which are killed when this process is gone.

    They import what is submitted from its module, and do not run the user's script again: a script that calls
    `linearized.compare` needs no `if __name__ == "__main__":`. Functions of the script itself cannot be submitted.
    """
    return ProcessPoolExecutor(workers, mp_context=_Context(), initializer=_follow, initargs=(os.getpid(),))


class _Process(SpawnProcess):
    """A process that is started as if the program had no script, which it would run again."""

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
    """Ask for the signal in a process of a pool; one whose parent is gone already ends at once."""
    end_with_parent(signal.SIGKILL)()
    if os.getppid() != parent:
        os._exit(1)
    if not sys.platform.startswith("linux"):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process within a second of its parent's end."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
