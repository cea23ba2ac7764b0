"""A store of the unpacked arrays of large gzipped files, because unpacking takes most of the time of reading.

The arrays are .npy files with a digest in the folder `unpacked` below data_dir. Each is named by the digest of the
original file, so that a changed file is unpacked again. They may be deleted at any time: a damaged one is replaced, and
if none can be written the work continues without.
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
    """Return the array of a gzipped file, from the store of unpacked arrays if it is there.

    Otherwise it is read from the file, and stored if it is large. A stored array is returned as a memory map, after
    comparing its checksum, a CRC32.

    Args:
        digest: Digest of the gzipped file's content.
        read: Function that reads and checks the array in the gzipped file.
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
