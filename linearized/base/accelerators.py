"""Whether this machine has a GPU or another accelerator, by its device files: no framework is imported for it."""

import sys
from collections.abc import Iterable
from pathlib import Path

NVIDIA = ("nvidia[0-9]*", "dxg")  # names below /dev; dxg is a GPU in the Windows Subsystem for Linux
OTHERS = ("kfd", "accel[0-9]*", "accel/accel[0-9]*")  # of AMD, of Google
DEVICES = Path("/dev")


def devices_of(names: Iterable[str]) -> list[Path]:
    """Return the device files whose names match one of some patterns."""
    return [path for name in names for path in DEVICES.glob(name)]


def may_have_accelerator() -> bool:
    """Return whether there is an accelerator; always True on a system whose devices are not known here."""
    return sys.platform != "linux" or bool(devices_of((*NVIDIA, *OTHERS)))
