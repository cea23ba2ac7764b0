"""Child processes that end with the process that started them, however that ends (Linux' parent-death signal)."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def end_with_parent(number: int = signal.SIGTERM) -> Callable[[], None]:
    """Return what a child calls before it starts (`preexec_fn`): it is sent the signal when this process is gone."""
    prctl = ctypes.CDLL(None).prctl  # loaded here: a child may not import between fork and exec

    def ask() -> None:
        prctl(_SET_DEATH_SIGNAL, int(number), 0, 0, 0)

    return ask


def spawned_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of fresh processes, which are killed when this process is gone."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_follow, initargs=(os.getpid(),))


def _follow(parent: int) -> None:
    """Ask for the signal in a process of a pool; one whose parent is gone already ends at once."""
    end_with_parent(signal.SIGKILL)()
    if os.getppid() != parent:
        os._exit(1)
