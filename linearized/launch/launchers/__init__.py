"""Launchers, the modules that start workers for commands, and the configuration of Dask that they share.

A launcher is a module with two functions. `client(settings)` is a context manager that starts the workers, yields a
`distributed.Client` and at the end stops what it started. `default_cores(settings)` returns the number of threads of a
command if the user gives none.

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
    """Configure Dask for long tasks that are safe to run again, one per worker.

    Call this before importing `distributed`, which reads its settings when it is imported.

    Args:
        settings: Settings retries (how many workers may die while they run a task) and launcher.

    Raises:
        UserError: If Dask is not installed; it names the extra to install.
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
    """Return TLS credentials for one launch: a key and a certificate that exist only in the memory of this process.

    Args:
        settings: Setting launcher, used in the error message.

    Raises:
        UserError: If the package cryptography is not installed.
    """
    require("cryptography", "cluster", f"--launcher={settings.launcher}")
    from distributed.security import Security

    return Security.temporary()


@contextlib.contextmanager
def told(doing: str, remedy: str) -> Iterator[None]:
    """Convert any exception that a library raises in the `with` block into one `UserError` of a single line.

    A `UserError` is passed on unchanged.

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
