"""Products of a large stored matrix with few columns, at about the speed at which it can be read.

Tiles of the matrix are widened to float64 as they pass through the cache, so that a float32 matrix is multiplied as if
it were stored in float64: at n = 10,000 and 10 columns in 0.08 s on one core, where float32 products take 0.05 s and
lose four digits to cancellation, which a ridge of 1e-7 of the norm does not leave. Two products, where the triangle
serves twice, are as quick as one of the same number of multiply-adds. Tiles go to all cores that are to be used.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from linearized.base.blocks import blas_threads, cores

ROWS, COLUMNS = 96, 16384  # of a tile: at n = 10,000 the best of 16 to 192 rows, and of 500 to 10,000 columns

Spread = Callable[[Callable[[slice], None], list[slice]], None]
_buffers = threading.local()


@contextlib.contextmanager
def spread() -> Iterator[Spread]:
    """Inside, `each(work, parts)` calls work(part) for every part, on all cores, with one thread of BLAS in each."""
    with blas_threads(1), ThreadPoolExecutor(cores()) as pool:

        def each(work: Callable[[slice], None], parts: list[slice]) -> None:
            for _ in pool.map(work, parts):
                pass

        yield each


def cut(total: int, most: int, *, least: int = 1) -> list[slice]:
    """Even slices of range(total), of at most `most` each, and at least `least` of them where there are so many."""
    count = min(max(-(-total // most), least), total)
    edges = [total * i // count for i in range(count + 1)] if count else []
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def multiply(matrix: np.ndarray, v: np.ndarray, each: Spread, out: np.ndarray | None = None) -> np.ndarray:
    """matrix @ v for (m, n) and (n, c), in the wider of the two dtypes; every part of rows by itself."""
    out = np.empty((len(matrix), v.shape[1]), np.result_type(matrix, v)) if out is None else out

    def work(rows: slice) -> None:
        for columns in cut(matrix.shape[1], COLUMNS):
            tile = _widened(matrix[rows, columns], out.dtype)
            if columns.start == 0:
                np.matmul(tile, v[columns], out=out[rows])
            else:
                out[rows] += tile @ v[columns]

    each(work, cut(len(matrix), ROWS))
    return out


def add_symmetric(block: np.ndarray, start: int, v: np.ndarray, total: np.ndarray, each: Spread) -> None:
    """Adds to `total` what rows of the upper triangle give to K @ v: each entry off their diagonal square serves twice.

    Args:
        block: K[start : start + m, start:], with its square on the diagonal whole.
        v, total: (n, c); the dtype of `total` is that of the products.
    """
    rows, lock = len(block), threading.Lock()

    def work(columns: slice) -> None:
        """Both products of a range of columns: its rows of `total` are its own, those of the block are shared."""
        ahead = np.zeros((rows, v.shape[1]), total.dtype)
        here = slice(start + columns.start, start + columns.stop)
        for part in cut(rows, ROWS):
            tile = _widened(block[part, columns], total.dtype)
            ahead[part] += tile @ v[here]
            if columns.start >= rows:
                total[here] += tile.T @ v[start + part.start : start + part.stop]
        with lock:
            total[start : start + rows] += ahead

    right = cut(block.shape[1] - rows, COLUMNS, least=cores())
    each(work, cut(rows, COLUMNS))
    each(work, [slice(rows + part.start, rows + part.stop) for part in right])


def _widened(tile: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`tile` in `dtype`: itself, or a copy in this thread's buffer, valid until the next one."""
    if tile.dtype == dtype:
        return tile
    buffers = _buffers.__dict__
    buffer = buffers.get(dtype.char)
    if buffer is None or buffer.size < tile.size:
        buffer = buffers[dtype.char] = np.empty(tile.size, dtype)
    wide = buffer[: tile.size].reshape(tile.shape)
    wide[...] = tile
    return wide
