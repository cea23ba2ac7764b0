"""Launcher for worker processes on this machine, which listen on the loopback address only."""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from linearized.cluster.clients import new_credentials, processes
from linearized.launch.launch_settings import WhereSettings
from linearized.launch.launchers import configure, plain
from linearized.launch.launchers.devices import devices_of, share_of_cores
from linearized.settings.reads import reads

if TYPE_CHECKING:
    from distributed import Client

READS = plain.READS | reads("dashboard")


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
    configure(settings)
    with processes(
        [{} if device is None else {"CUDA_VISIBLE_DEVICES": device} for device in devices],
        new_credentials(f"--launcher={settings.launcher}"), dashboard=settings.dashboard,
        preload=["linearized.launch.task"], remedy="Try another --dashboard port and fewer --workers.",
    ) as found:  # fmt: skip
        yield found
