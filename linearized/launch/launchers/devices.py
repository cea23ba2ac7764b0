"""Functions that divide this machine among workers: their GPUs, their share of the cores, and how they run commands."""

from linearized.base.errors import UserError
from linearized.base.platforms import core_share
from linearized.launch.launch_settings import WhereSettings


def devices_of(settings: WhereSettings) -> list[str | None]:
    """Return one entry per worker: the GPU of the worker, or None for a worker that uses all visible GPUs.

    There is one worker for each GPU in `--gpus`. Without this flag there are `--workers` workers, each with None.

    Args:
        settings: Settings gpus and workers.

    Raises:
        UserError: For an empty or repeated entry of --gpus.
    """
    if not settings.gpus:
        return [None] * settings.workers
    devices = [device.strip() for device in settings.gpus.split(",")]
    if not all(devices) or len(set(devices)) < len(devices):
        raise UserError(f"--gpus takes different GPUs, such as 0,1. Received: {settings.gpus!r}.")
    return devices


def forks(settings: WhereSettings) -> bool:
    """Return whether commands of this suite run in forks of a process that has imported their modules.

    With --cold, every command runs in a new process instead.
    """
    return not settings.cold


def share_of_cores(settings: WhereSettings) -> int:
    """Return the number of this machine's cores per worker, at least 1."""
    return core_share(len(devices_of(settings)))
