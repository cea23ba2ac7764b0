"""Cache on disk for the unpacked arrays of large gzipped files, which saves most of the time of reading them.

The arrays are .npy files with a checksum, in the folder `unpacked` below data_dir. The name of each is the digest of
the gzipped file, so that a changed file is unpacked again. The arrays may be deleted at any time. A damaged array
is replaced. If an array cannot be written, a warning is logged, and the file is unpacked every time.
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
    """Return the array of a gzipped file: a memory map if the array is in the cache, otherwise an unpacked array.

    The checksum (CRC32) of a cached array is verified. An unpacked array of at least `SMALLEST` bytes is cached.

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
