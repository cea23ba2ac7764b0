"""Functions that depend on the operating system: file locks, number of cores, peak memory.

Modules that some systems lack are imported inside the functions, so that all modules of the suite can be imported on
every system.
"""

import os
import platform
import sys
from pathlib import Path

from linearized.base.errors import UserError
from linearized.base.suite_children import CHILDREN


def lock_file(handle: int, *, shared: bool = False) -> None:
    """Lock an open file or folder for this process, without waiting.

    Args:
        handle: Descriptor of the open file or folder.
        shared: Whether other processes may hold shared locks at the same time.

    Raises BlockingIOError if another process holds the lock, `UserError` on a system without such locks (Windows).
    """
    try:
        import fcntl
    except ModuleNotFoundError as error:
        message = ("This system has no POSIX file locks, which runs and shards need. On Windows, use the Windows "
                   f"Subsystem for Linux (wsl --install). Received: the platform {sys.platform}.")  # fmt: skip
        raise UserError(message) from error
    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def usable_cores() -> int:
    """Return the number of cores that this process may use, or all cores if the system reports no restriction."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_share(workers: int) -> int:
    """Divide the cores of this process evenly among `workers` processes; return the number for each, at least 1."""
    return max(1, usable_cores() // workers)


def processor() -> str:
    """Return the name of the processor's model; on systems that do not report it, its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def peak_bytes() -> int:
    """Return the peak resident memory of this process or of a child that has ended, whichever is larger, in bytes.

    The system reports KiB on Linux and bytes on macOS, which this function takes into account. Without the module
    `resource` (Windows), the current resident memory is returned.
    """
    try:
        import resource
    except ModuleNotFoundError:
        import psutil

        return psutil.Process().memory_info().rss
    unit = 1 if sys.platform == "darwin" else 1024
    measured = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(unit * max(measured), CHILDREN.peak)
