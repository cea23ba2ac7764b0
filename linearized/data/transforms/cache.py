"""A disk cache of noisy images: .npy files with digests and `meta.json`, in a folder that is complete or absent.

A cache may be deleted at any time. A damaged cache is replaced. If a cache cannot be written, a warning is logged, and
the work continues without it.
"""

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from isal.isal_zlib import crc32

from linearized.base.reading import Unreadable, parsing, read_json
from linearized.base.seals import FORMAT, write_json
from linearized.storage.array_files import read_npy, seal_npy
from linearized.storage.files import reap, whole_folder

NAMES = ("x_train", "y_train", "x_test", "y_test")


def write(folder: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Store the arrays of a data set in a folder; log a warning if writing fails.

    Args:
        folder: Folder of the cache, which is replaced if it exists.
        arrays: Arrays by name: x_train, y_train, x_test and y_test.
        about: Description of the arrays, stored in `meta.json`, which `read` returns.
    """
    try:
        if folder.is_dir():
            shutil.rmtree(folder)  # damaged, as `read` found
        with whole_folder(folder) as aside:
            for name in NAMES:
                np.save(aside / f"{name}.npy", np.ascontiguousarray(arrays[name]), allow_pickle=False)
                seal_npy(aside / f"{name}.npy")
            write_json(aside / "meta.json", {"about": dict(about)})
    except OSError as error:
        logging.warning("Cannot keep the noisy arrays in %s (%s): they will be made again.", folder, error.strerror)


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return the arrays that `write` stored in a folder, and their description.

    Takes the time of `np.load` and of one CRC32 over the bytes. A cache of version 0.1 has no checksum of its
    `meta.json`, which is then not verified.

    Returns: The arrays by name (x_train, y_train, x_test, y_test) and the description. None if there is no cache, or if
        it is damaged; damage is logged.
    """
    reap(folder.parent, deep=False)
    if not folder.is_dir():
        return None
    try:
        with parsing(folder, "a cache"):
            meta = read_json(folder / "meta.json")
            # Headers are read one by one, because NumPy parses them by `ast`, which some Pythons (3.11.7) refuse in
            # threads.
            sealed = meta.get("format") == FORMAT
            stored = [read_npy(folder / f"{name}.npy", mapped=True, sealed=sealed) for name in NAMES]
            with ThreadPoolExecutor(len(NAMES)) as pool:
                arrays = dict(zip(NAMES, pool.map(np.array, stored), strict=True))
            if not sealed and meta["crc32"] != {name: _checksum(arrays[name]) for name in NAMES}:
                raise ValueError("a checksum differs")
            return arrays, meta["about"]
    except Unreadable as error:
        logging.warning("The noisy arrays are made again: %s", error)
        return None


def _checksum(array: np.ndarray) -> int:
    """Return the checksum of an array as version 0.1 computed it.

    It is a CRC32 of the array's shape, its type and a list of CRC32s, one for each piece of 16 MiB.
    """
    data = memoryview(np.ascontiguousarray(array)).cast("B")
    pieces = [data[start : start + 2**24] for start in range(0, len(data), 2**24)]
    with ThreadPoolExecutor() as pool:
        sums = list(pool.map(crc32, pieces))
    return crc32(repr((array.shape, str(array.dtype), sums)).encode())
