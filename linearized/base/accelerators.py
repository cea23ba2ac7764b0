"""Detection of GPUs and other accelerators by their device files, without importing a framework."""

import sys
from collections.abc import Iterable
from pathlib import Path

NVIDIA = ("nvidia[0-9]*", "dxg")  # patterns of names in /dev; dxg is a GPU in the Windows Subsystem for Linux
OTHERS = ("kfd", "accel[0-9]*", "accel/accel[0-9]*")  # kfd is AMD's, the others are Google's
DEVICES = Path("/dev")


def devices_of(names: Iterable[str]) -> list[Path]:
    """Return the paths of the device files in /dev whose names match one of the glob patterns `names`."""
    return [path for name in names for path in DEVICES.glob(name)]


def may_have_accelerator() -> bool:
    """Return whether this machine has an accelerator; always True on systems other than Linux."""
    return sys.platform != "linux" or bool(devices_of((*NVIDIA, *OTHERS)))
