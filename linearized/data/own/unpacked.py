"""Arrays of large gzipped files, stored unpacked below data_dir, because unpacking takes most of the reading time.

They are sealed .npy files in the folder `unpacked`, named by the digest of the original file, so that a changed file is
unpacked again. They may be deleted at any time: a damaged one is replaced, and if none can be written the work
continues without.
"""

from collections.abc import Callable

import numpy as np
from absl import logging

from linearized.base.directories import directory
from linearized.base.reading import Unreadable
from linearized.storage.array_files import read_npy, seal_npy
from linearized.storage.files import whole_file

SMALLEST = 2**22  # bytes above which an array is stored; smaller ones are unpacked in 20 ms


def unpacked(digest: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array of a file, as a memory map if it was unpacked before; else read it, and store it if it is large.

    Args:
        digest: Digest of the file's content.
        read: Reads and checks the array.

    Reading a stored array takes one CRC32 over it.
    """
    path = directory("data_dir") / "unpacked" / f"{digest}.npy"
    if path.is_file():
        try:
            return read_npy(path, mapped=True, sealed=True)
        except Unreadable as error:
            logging.warning("The file is unpacked again: %s", error)
    array = read()
    if array.nbytes >= SMALLEST:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as aside:
                np.save(aside, array, allow_pickle=False)
                seal_npy(aside)
        except OSError as error:
            logging.warning("Cannot keep %s (%s): the file will be unpacked again.", path, error.strerror)
    return array
