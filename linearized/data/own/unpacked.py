"""Arrays of large gzipped files, kept unpacked below data_dir: unpacking takes most of the time of reading them.

They lie in the folder `unpacked` as sealed .npy files under the digest of the file that they were read from, so that a
changed file is unpacked again. They may be lost at any time: a damaged one is made anew, and where none can be written
the work goes on without.
"""

from collections.abc import Callable

import numpy as np
from absl import logging

from linearized.base.directories import directory
from linearized.base.reading import Unreadable
from linearized.storage.array_files import read_npy, seal_npy
from linearized.storage.files import whole_file

SMALLEST = 2**22  # bytes of an array that is kept; less is unpacked in 20 ms


def unpacked(digest: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array of a file, as a memory map where it was unpacked before; else read it and keep it if large.

    Args:
        digest: Of the file's content.
        read: Reads and checks the array.

    Reading back takes one CRC32 over the array.
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
