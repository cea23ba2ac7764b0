"""Clients of Dask schedulers: of a scheduler that is started here with its workers, or of one that already runs.

A scheduler that is started here uses TLS. Its certificate is created at the start, and only its workers have it.
Therefore no other host on the network, and no other user of this machine, can run code in the workers.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from linearized.base.errors import UserError
from linearized.base.extras import TIMEOUT, refuse_unreachable, require
from linearized.base.machine_memory import total_bytes

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

HOST = "127.0.0.1"
WORKER_BYTES = 2**27  # smallest memory of a worker and its nanny


def configure(needed_by: str, retries: int) -> None:
    """Configure Dask for long tasks that are safe to run again, one per worker.

    Call this before importing `distributed`, which reads its settings when it is imported.

    Args:
        needed_by: Flag that needs Dask, for the error message.
        retries: Number of workers that may die while they run a task before the task counts as failed.

    Raises:
        UserError: If Dask is not installed; the message names the extra to install.
    """
    dask = require("dask", "cluster", needed_by)
    dask.config.set(
        {
            # Kernel computations can block the interpreter for long, so only a closed connection means a dead worker.
            "distributed.scheduler.worker-ttl": None,
            "distributed.scheduler.allowed-failures": retries,
            # One task per worker, the others stay at the scheduler: a death would count against queued tasks too.
            "distributed.scheduler.worker-saturation": 1.0,
            # Tasks bound their memory themselves, or are separate processes.
            "distributed.worker.memory.terminate": False,
            "distributed.worker.memory.pause": False,
            "logging.distributed": "critical",
        }
    )
    require("distributed", "cluster", needed_by)  # reads its settings when it is imported


def new_credentials(needed_by: str) -> "Security":
    """Return TLS credentials for one scheduler: a key and a certificate that exist only in the memory of this process.

    Args:
        needed_by: Flag that needs the credentials, for the error message.

    Raises:
        UserError: If the package cryptography is not installed.
    """
    require("cryptography", "cluster", needed_by)
    from distributed.security import Security

    return Security.temporary()


@contextlib.contextmanager
def told(doing: str, remedy: str) -> Iterator[None]:
    """Convert any exception that a library raises in the `with` block into one `UserError` of a single line.

    A `UserError` is raised again unchanged.

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


@contextlib.contextmanager
def processes(
    environments: Sequence[Mapping[str, str]], security: "Security", *, dashboard: int = 0,
    preload: Sequence[str] = (), remedy: str = "Lower --workers.",
) -> Iterator["Client"]:  # fmt: skip
    """Start a scheduler and single-threaded worker processes on the loopback address, and yield a client of them.

    All are stopped at the end of the `with` block. Workers that die are started again. Call `configure` before.

    Args:
        environments: Environment variables of each worker, in addition to the variables of this process.
        security: Credentials as `new_credentials` returns them.
        dashboard: Port of the live dashboard; 0: any free one.
        preload: Modules that workers import when they start.
        remedy: What the user can do if the workers cannot start, for the error message.
    """
    if (needed := len(environments) * WORKER_BYTES) > (have := total_bytes()):
        raise UserError(
            f"{len(environments)} workers take {needed / 2**30:,.0f} GiB of memory before they run anything, and "
            f"this machine has {have / 2**30:,.0f}. Lower --workers."
        )
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": HOST, "port": 0, "protocol": "tls://", "security": security, "dashboard": True,
            "dashboard_address": f"{HOST}:{dashboard}",
        },
    }  # fmt: skip
    workers = {
        index: {
            "cls": Nanny,
            "options": {
                "host": HOST, "protocol": "tls://", "security": security, "nthreads": 1, "memory_limit": 0,
                "dashboard_address": f"{HOST}:0", "silence_logs": logging.CRITICAL, "preload": [__name__, *preload],
                "env": dict(environment),
            },
        }
        for index, environment in enumerate(environments)
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        # 15 s after a death the cluster would close the nanny if no worker is connected. The nanny starts a new one,
        # and if that died, too, it is just being replaced.
        stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "365 days"}))
        with told("The workers cannot start", remedy):
            cluster = SpecCluster(
                workers=workers, scheduler=scheduler, security=security, silence_logs=logging.CRITICAL
            )
            stack.enter_context(cluster)
            found = stack.enter_context(Client(cluster, set_as_default=False))
        yield found


def connected(address: str) -> "Client":
    """Return a client of the Dask scheduler at an address such as tcp://127.0.0.1:8786.

    The caller closes the client; the scheduler continues to run.

    Raises `UserError` if Dask is missing or the scheduler does not answer within 20 seconds (`TIMEOUT`).
    """
    refuse_unreachable(address)
    from distributed import Client

    with told(f"No Dask scheduler answers at {address}", "Start one, or take none."):
        return Client(address, timeout=TIMEOUT, set_as_default=False)


def threads(client: "Client") -> int:
    """Return the total number of threads of the workers of a Dask `client`.

    Raises `UserError` if no worker appears within 20 seconds (`TIMEOUT`).
    """
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
    except TimeoutError as error:
        raise UserError(f"The Dask scheduler {client.scheduler.address} has no workers. Start some.") from error
    return sum(client.nthreads().values())


@contextlib.contextmanager
def failures(doing: str) -> Iterator[None]:
    """Convert failures of workers and of the connection within a `with` block into `UserError`.

    Args:
        doing: What the workers do, such as "multiplying the same part of K".
    """
    from distributed import KilledWorker
    from distributed.client import ClosedClientError

    try:
        yield
    except KilledWorker as error:
        raise UserError(
            f"Workers died repeatedly while {doing} ({error}). Give the workers more memory, and run again: a saved "
            "run continues from its checkpoint."
        ) from error
    except (CancelledError, ClosedClientError, OSError) as error:
        raise UserError(
            f"The connection to the Dask scheduler is lost ({error}). Start it, and run again: a saved run "
            "continues from its checkpoint."
        ) from error


def dask_setup(worker: object) -> None:
    """Put a worker process in its own process group, so that Ctrl-C on the terminal does not reach the worker.

    The command that started the worker receives Ctrl-C, and ends the worker. Dask calls this function in each worker
    when the worker starts.
    """
    os.setpgrp()
