"""The workers of a Dask scheduler that runs already; they need this suite installed and see the same folders."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from data.errors import UserError
from launch.launchers import configure
from launch.settings import WhereSettings

if TYPE_CHECKING:
    from distributed import Client

TIMEOUT = 20  # seconds


def default_cores(settings: WhereSettings) -> int:
    """One: the workers' machines are not known here."""
    return 1


@contextlib.contextmanager
def client(settings: WhereSettings) -> Iterator["Client"]:
    """Connects; raises `UserError` if nobody answers. Leaves the scheduler and its workers as they are."""
    if not settings.scheduler:
        raise UserError("--launcher=address needs --scheduler=ADDRESS, such as tcp://127.0.0.1:8786.")
    configure(settings)
    from distributed import Client

    try:
        found = Client(settings.scheduler, timeout=TIMEOUT)
    except (OSError, ValueError) as error:  # a time-out is an OSError
        raise UserError(f"No Dask scheduler answers at {settings.scheduler}: {error}.") from error
    with found:
        yield found
