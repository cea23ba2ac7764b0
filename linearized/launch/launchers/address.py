"""Launcher that uses the workers of a Dask scheduler that is already running.

The workers need this package and access to the same folders. A scheduler at tls:// is reached with the credentials of
Dask's own configuration (distributed.comm.tls).
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from linearized.base.errors import UserError
from linearized.cluster.clients import connected
from linearized.launch.launch_settings import WhereSettings
from linearized.launch.launchers import configure
from linearized.settings.reads import reads

if TYPE_CHECKING:
    from distributed import Client

READS = reads("scheduler")


def default_cores(settings: WhereSettings) -> int:
    """Return the default number of threads of a command: 1, because the workers' machines are not known here."""
    return 1


@contextlib.contextmanager
def client(settings: WhereSettings) -> Iterator["Client"]:
    """Connect to the scheduler at `settings.scheduler` and yield the client; the scheduler is left running at the end.

    Raises:
        UserError: If no address is given, or no scheduler answers there.
    """
    if not settings.scheduler:
        raise UserError("--launcher=address needs --scheduler=ADDRESS, such as tcp://127.0.0.1:8786.")
    configure(settings)
    with connected(settings.scheduler) as found:
        yield found
