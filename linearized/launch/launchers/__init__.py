"""A launcher is a module with `client(settings)`, a context manager that gives a `distributed.Client` and ends what
it started, and `default_cores(settings)`, the threads of a command where the user names none.

Schedulers that are started here speak TLS with a certificate that is made for one launch and known to its own workers
alone, so that no stranger on the network can run code in them.
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
    """Set Dask up for our kind of task: long, one a worker, and safe to run again. Before `distributed` is used.

    Raises `UserError` that names the extra if Dask is not installed.
    """
    dask = require("dask", "cluster", f"--launcher={settings.launcher}")
    dask.config.set(
        {
            # Our kernels hold the interpreter for long: silence is no death; a closed connection is.
            "distributed.scheduler.worker-ttl": None,
            # How often a task may take its worker with it before it is given up as failed.
            "distributed.scheduler.allowed-failures": settings.retries,
            # One task at a worker, the others at the scheduler: else a death would count against those in its queue.
            "distributed.scheduler.worker-saturation": 1.0,
            # Commands are processes; what the worker's own process holds is not what they need.
            "distributed.worker.memory.terminate": False,
            "distributed.worker.memory.pause": False,
            "logging.distributed": "critical",
        }
    )
    require("distributed", "cluster", f"--launcher={settings.launcher}")  # reads its settings as it is imported


def new_credentials(settings: WhereSettings) -> "Security":
    """Return TLS credentials of one launch: a key and a certificate that exist in this process alone."""
    require("cryptography", "cluster", f"--launcher={settings.launcher}")
    from distributed.security import Security

    return Security.temporary()


@contextlib.contextmanager
def told(doing: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises in the block into one `UserError`; errors of our own pass.

    Args:
        doing: What failed, such as "The Dask scheduler cannot start".
        remedy: What the user can do.
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
