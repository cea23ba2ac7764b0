"""Modules that run commands, and the Dask configuration that they share.

A launcher is a module with `client(settings)`, a context manager that yields a `distributed.Client` and stops what it
started, and `default_cores(settings)`, the number of threads of a command where the user gives none.

Schedulers that are started here use TLS with a certificate that is created for one launch and that only its workers
hold, so that no other host on the network can run code in them.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from linearized.base.errors import UserError
from linearized.base.extras import require
from linearized.launch.launch_settings import WhereSettings

if TYPE_CHECKING:
    from distributed import Security


def configure(settings: WhereSettings) -> None:
    """Configure Dask for long tasks, one per worker, that are safe to run again; call before `distributed` is used.

    Raises `UserError` that names the extra if Dask is not installed.
    """
    dask = require("dask", "cluster", f"--launcher={settings.launcher}")
    dask.config.set(
        {
            # Kernel computations can block the interpreter for long, so only a closed connection means a dead worker.
            "distributed.scheduler.worker-ttl": None,
            # Number of workers that may die while they run a task before the task counts as failed.
            "distributed.scheduler.allowed-failures": settings.retries,
            # One task per worker, the others stay at the scheduler: a death would count against queued tasks too.
            "distributed.scheduler.worker-saturation": 1.0,
            # Commands are separate processes, so the memory of the worker's own process is irrelevant.
            "distributed.worker.memory.terminate": False,
            "distributed.worker.memory.pause": False,
            "logging.distributed": "critical",
        }
    )
    require("distributed", "cluster", f"--launcher={settings.launcher}")  # reads its settings when it is imported


def new_credentials(settings: WhereSettings) -> "Security":
    """Return TLS credentials of one launch: a key and a certificate that exist only in this process."""
    require("cryptography", "cluster", f"--launcher={settings.launcher}")
    from distributed.security import Security

    return Security.temporary()


@contextlib.contextmanager
def told(doing: str, remedy: str) -> Iterator[None]:
    """Convert any exception that a library raises in the block into one `UserError`; pass on our own errors.

    Args:
        doing: What failed, such as "The Dask scheduler cannot start".
        remedy: What the user can do about it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        raise UserError(f"{doing}: {' '.join(str(root).split())[:300] or type(root).__name__}. {remedy}") from error
