"""Launcher for worker processes on this machine, which listen on the loopback address only."""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from linearized.base.errors import UserError
from linearized.base.machine_memory import total_bytes
from linearized.launch.launch_settings import WhereSettings
from linearized.launch.launchers import configure, new_credentials, plain, told
from linearized.launch.launchers.devices import devices_of, share_of_cores
from linearized.settings.reads import reads

if TYPE_CHECKING:
    from distributed import Client

READS = plain.READS | reads("dashboard")

HOST = "127.0.0.1"
WORKER_BYTES = 2**27  # smallest memory of a worker and its nanny


def default_cores(settings: WhereSettings) -> int:
    """Return the default number of threads of a command: an equal share of this machine's cores."""
    return share_of_cores(settings)


@contextlib.contextmanager
def client(settings: WhereSettings) -> Iterator["Client | plain.PlainClient"]:
    """Start a Dask scheduler and worker processes on this machine, yield the client, and stop all of them at the end.

    Each worker runs one command at a time; workers that die are started again. Without Dask the workers are threads of
    this process, and there is no dashboard.

    Args:
        settings: Settings workers, gpus, dashboard and retries.

    Raises:
        UserError: If the workers need more memory than this machine has, or cannot start.
    """
    devices = devices_of(settings)
    if importlib.util.find_spec("distributed") is None:
        from linearized.base.terminal import say  # imports rich, which plans and --help do not need

        say("Dask is not installed: there is no dashboard. The extra [cluster] brings it.")
        with plain.client(settings) as found:
            yield found
        return
    _refuse_beyond_memory(len(devices))
    configure(settings)
    security = new_credentials(settings)
    from distributed import Client, Nanny, Scheduler, SpecCluster

    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": HOST,
            "port": 0,
            "protocol": "tls://",
            "security": security,
            "dashboard": True,
            "dashboard_address": f"{HOST}:{settings.dashboard}",
        },
    }
    workers = {
        index: {
            "cls": Nanny,
            "options": {
                "host": HOST, "protocol": "tls://", "security": security, "nthreads": 1, "memory_limit": 0,
                "dashboard_address": f"{HOST}:0",
                "silence_logs": logging.CRITICAL, "preload": [__name__, "linearized.launch.task"],
                "env": {} if device is None else {"CUDA_VISIBLE_DEVICES": device},
            },
        }
        for index, device in enumerate(devices)
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        with told("The workers cannot start", "Try another --dashboard port and fewer --workers."):
            cluster = SpecCluster(
                workers=workers, scheduler=scheduler, security=security, silence_logs=logging.CRITICAL
            )
            stack.enter_context(cluster)
            found = stack.enter_context(Client(cluster))
        yield found


def _refuse_beyond_memory(workers: int) -> None:
    """Raise `UserError` for more worker processes than fit in this machine's memory."""
    have = total_bytes()
    if workers * WORKER_BYTES > have:
        raise UserError(
            f"{workers} workers take {workers * WORKER_BYTES / 2**30:,.0f} GiB of memory before they run anything, and "
            f"this machine has {have / 2**30:,.0f}. Lower --workers."
        )


def dask_setup(worker: object) -> None:
    """Put a worker in its own process group, so that Ctrl-C on the terminal reaches only the launching process.

    Dask calls this in each worker when it starts.
    """
    os.setpgrp()
