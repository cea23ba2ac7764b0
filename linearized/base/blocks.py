"""Work on blocks of rows on all cores, with random numbers drawn in the order of the rows.

NumPy's legacy `RandomState.normal` fills an array row after row from one stream, so that blocks drawn in order hold the
bits of one big draw. A thread draws its block while it has the turn, and works on it while another draws.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from linearized.base.platforms import usable_cores

_limits: list[int] = []  # of `at_most`, the innermost last


def cores() -> int:
    """How many cores this process may use, and wants to."""
    return min([usable_cores(), *_limits[-1:]])


def blas_threads(count: int | None) -> contextlib.AbstractContextManager:
    """Inside, the BLAS of NumPy and SciPy takes `count` threads at most; None: as many as before."""
    return _blas().limit(limits=count)


@functools.cache
def _blas() -> ThreadpoolController:
    """Sought once: with TensorFlow and JAX loaded a search takes 3 ms."""
    import scipy.linalg  # noqa: F401 - so that its BLAS is there to be found

    return ThreadpoolController().select(user_api="blas")


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """Inside, all threads of this process take `count` cores each at most, in `for_each` and in BLAS."""
    _limits.append(count)
    try:
        with blas_threads(count):
            yield
    finally:
        _limits.remove(count)


def row_blocks(rows: int, row_bytes: int, *, block_bytes: int = 2**21) -> list[slice]:
    """Slices that cut `rows` rows of `row_bytes` bytes into blocks of about `block_bytes`, but of at least 64 rows."""
    step = max(64, block_bytes // max(row_bytes, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def for_each(items: Sequence[Any], work: Callable[[Any], None]) -> None:
    """Calls `work(item)` for each item, on all cores; BLAS keeps to the calling thread. The order is not fixed."""
    _spread(items, lambda item: (item,), work)


def for_each_drawn(
    random: np.random.RandomState,
    items: Sequence[Any],
    shape: Callable[[Any], tuple[int, ...]],
    work: Callable[[Any, np.ndarray], None],
) -> None:
    """Calls `work(item, noise)` for each item, on all cores, with noise ~ N(0, 1) of `shape(item)` in float64.

    The noise is drawn in the order of the items, whichever thread draws it.
    """
    _spread(items, lambda item: (item, random.normal(size=shape(item))), work)


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
