"""Workers of this machine: one GPU each where GPUs are named, a share of the cores, and forks or new processes."""

from linearized.base.errors import UserError
from linearized.base.platforms import usable_cores
from linearized.launch.launch_settings import WhereSettings


def devices_of(settings: WhereSettings) -> list[str | None]:
    """Return the GPU of each worker, one per GPU where GPUs are named; None for all visible devices.

    Raises `UserError` for an empty or repeated entry of --gpus.
    """
    if not settings.gpus:
        return [None] * settings.workers
    devices = [device.strip() for device in settings.gpus.split(",")]
    if not all(devices) or len(set(devices)) < len(devices):
        raise UserError(f"--gpus takes different GPUs, such as 0,1. Received: {settings.gpus!r}.")
    return devices


def forks(settings: WhereSettings) -> bool:
    """Return whether the workers run commands of the suite in forks of a process with their imports."""
    return not settings.cold


def share_of_cores(settings: WhereSettings) -> int:
    """Return the number of this machine's cores per worker, at least 1."""
    return max(1, usable_cores() // len(devices_of(settings)))
