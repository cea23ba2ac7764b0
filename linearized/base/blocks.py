"""Parallel work on blocks of rows, with random numbers drawn in the order of the rows.

NumPy's legacy `RandomState` fills an array row by row from one stream of random numbers, so that blocks drawn in
order are bit-identical to one large draw. Each thread draws a block while it holds a lock, and processes the block
while another thread draws.
"""

import contextlib
import ctypes
import functools
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import PathFinder
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from linearized.base.platforms import usable_cores

PREDICTED = 2**28  # bytes of a block of rows in `in_row_blocks`
_limits: list[int] = []  # limits of the active `at_most` blocks, the innermost last


def cores() -> int:
    """Return the number of cores to use: those that this process may use, limited by the innermost active `at_most`."""
    return min([usable_cores(), *_limits[-1:]])


def blas_threads(count: int | None) -> contextlib.AbstractContextManager:
    """Return a context manager that limits the BLAS of NumPy and SciPy to `count` threads; None changes nothing."""
    return _blas().limit(limits=count)


def blas_libraries() -> list[str]:
    """Describe each loaded BLAS library, because the speed of matrix products depends on it.

    Returns: One text for each library: name, version, processor kernel and number of threads, separated by blanks.
    """
    names = ("internal_api", "version", "architecture", "num_threads")
    return sorted(" ".join(str(library.get(name)) for name in names) for library in _blas().info())


@functools.cache
def _blas() -> ThreadpoolController:
    """Return the controller of the loaded BLAS libraries.

    It is cached because a search takes 3 ms once TensorFlow and JAX are loaded.
    """
    _load_blas_of_scipy()
    return ThreadpoolController().select(user_api="blas")


def _load_blas_of_scipy() -> None:
    """Load SciPy's BLAS library, so that a search for BLAS libraries finds it.

    The library alone is loaded if possible, because importing scipy.linalg takes far longer.
    """
    import scipy  # here, because `--help` does not need it

    spec = PathFinder.find_spec("_fblas", [f"{folder}/linalg" for folder in scipy.__path__])
    try:
        ctypes.CDLL(spec.origin)
    except (AttributeError, OSError):  # a SciPy without this file, or a system that cannot load it in this way
        importlib.import_module("scipy.linalg")


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """Limit `for_each`, `for_each_drawn` and BLAS to `count` cores inside a `with` block, for all threads."""
    _limits.append(count)
    try:
        with blas_threads(count):
            yield
    finally:
        _limits.remove(count)


def row_blocks(rows: int, row_bytes: int, *, block_bytes: int = 2**21) -> list[slice]:
    """Return slices that divide `rows` rows of `row_bytes` bytes each into blocks.

    Each block has as many rows as fit in `block_bytes` bytes, but at least 64. The last block has the remaining rows.
    """
    step = max(64, block_bytes // max(row_bytes, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def in_row_blocks(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, row_bytes: int) -> np.ndarray:
    """Return `function(x)` for rows x, computed for blocks of rows one after the other, such as predictions.

    Args:
        function: Function of rows (b, ...) that returns an array with b rows.
        x: Rows (n, ...), at least one.
        row_bytes: Memory that the function needs for each row, in bytes; a block takes about `PREDICTED` bytes.
    """
    blocks = row_blocks(len(x), row_bytes, block_bytes=PREDICTED)
    return np.concatenate([function(x[rows]) for rows in blocks])


def for_each(items: Sequence[Any], work: Callable[[Any], None]) -> None:
    """Call `work(item)` for each item in threads on all cores, in no fixed order, with one BLAS thread per call."""
    _spread(items, lambda item: (item,), work)


def for_each_drawn(
    random: np.random.RandomState,
    items: Sequence[Any],
    shape: Callable[[Any], tuple[int, ...]],
    work: Callable[[Any, np.ndarray], None],
) -> None:
    """Call `work(item, noise)` for each item in threads on all cores, with independent noise ~ N(0, 1) in float64.

    The noise is drawn in the order of the items, whichever thread draws it, so that the result does not depend on the
    number of threads.

    Args:
        random: Generator of the noise.
        items: Items to process.
        shape: Function that returns the shape of the noise of an item.
        work: Function of an item and its noise.
    """
    # `normal` draws the same bits in 1.15 times the time, because it also scales and shifts them.
    _spread(items, lambda item: (item, random.standard_normal(shape(item))), work)


def _spread(items: Sequence[Any], take: Callable[[Any], tuple], work: Callable[..., None]) -> None:
    turn, left = threading.Lock(), iter(items)

    def worker() -> None:
        while True:
            with turn:
                taken = next((take(item) for item in left), None)
            if taken is None:
                return
            work(*taken)

    threads = min(cores(), len(items))
    with blas_threads(1), ThreadPoolExecutor(max(threads, 1)) as pool:
        for running in [pool.submit(worker) for _ in range(threads)]:
            running.result()
