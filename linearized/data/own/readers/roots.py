"""Functions that find files of well-known data sets below a folder that a user names, such as torchvision's `root`.

torchvision stores MNIST and its relatives as ROOT/MNIST/raw, and CIFAR as ROOT/cifar-10-batches-py.
"""

import os
from collections.abc import Callable
from pathlib import Path

from linearized.base.errors import UserError
from linearized.data.sources import cifar10, cifar100

RAW = "raw"
NAMED = (RAW, *cifar10.FOLDERS, cifar100.FOLDER)


def place_of(folder: Path, holds: Callable[[Path], bool]) -> Path | None:
    """Return the folder that holds files of a format: `folder` or a usual folder below it; None if there is none.

    Args:
        folder: The folder that the user names.
        holds: Function that returns whether a folder directly holds files of the format.

    Raises `UserError` if there are several folders of well-known data sets below `folder` and one of them holds such
    files.
    """
    if not folder.is_dir():
        return None
    if holds(folder):
        return folder
    below = _below(folder)
    mine = [place for place in below if holds(place)]
    if mine and len(below) > 1:
        listed = ", ".join(str(place.relative_to(folder)) for place in below[:8])
        raise UserError(f"{folder} holds several data sets: {listed}. Give one of them, such as --data={mine[0]}.")
    return mine[0] if mine else None


def _below(folder: Path) -> list[Path]:
    """Return the existing folders, such as MNIST/raw, below a folder where well-known data sets are usually stored."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
    raw = [folder / name / RAW for name in names if (folder / name / RAW).is_dir()]
    return [*(folder / name for name in NAMED if name in names), *raw]
