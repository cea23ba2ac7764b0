"""Products of a large stored matrix with few columns, at about the speed at which the matrix can be read.

Tiles of the matrix are converted to float64 in the cache, so that a float32 matrix is multiplied as if it were stored
in float64: at n = 10,000 and 10 columns in 0.08 s on one core. Float32 products take 0.05 s and lose four digits to
cancellation, which is too inaccurate for a ridge of 1e-7 of the norm. The two products with each tile of a triangle
take as long as one product of the same number of multiply-adds. The tiles are divided among the cores in use.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from linearized.base.blocks import blas_threads, cores

ROWS, COLUMNS = 96, 16384  # tile size: at n = 10,000 the fastest of 16 to 192 rows, and of 500 to 10,000 columns

Spread = Callable[[Callable[[slice], None], list[slice]], None]
_buffers = threading.local()


@contextlib.contextmanager
def spread() -> Iterator[Spread]:
    """Yield `each(work, parts)`, which calls work(part) for every part on all cores, with one BLAS thread per call."""
    with blas_threads(1), ThreadPoolExecutor(cores()) as pool:

        def each(work: Callable[[slice], None], parts: list[slice]) -> None:
            for _ in pool.map(work, parts):
                pass

        yield each


def cut(total: int, most: int, *, least: int = 1) -> list[slice]:
    """Divide range(total) into even slices of at most `most` entries; at least `least` slices if `total` allows."""
    count = min(max(-(-total // most), least), total)
    edges = [total * i // count for i in range(count + 1)] if count else []
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def multiply(matrix: np.ndarray, v: np.ndarray, each: Spread, out: np.ndarray | None = None) -> np.ndarray:
    """Compute matrix @ v for shapes (m, n) and (n, c), by default in the wider of the two dtypes.

    Args:
        matrix: The large matrix, processed in parallel by ranges of rows.
        v: The few columns.
        each: Function that `spread` yields.
        out: Array (m, c) for the result, whose dtype is that of the products; None allocates it.
    """
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
    """Add to `total` the contribution of some rows of the upper triangle, and of their transpose, to K @ v.

    Each entry right of the square on the diagonal is used twice.

    Args:
        block: K[start : start + m, start:], with the full square on the diagonal.
        start: Index of the first row.
        v: Vectors of shape (n, c).
        total: Sum of shape (n, c), updated in place; its dtype is that of the products.
        each: Function that `spread` yields.
    """
    rows, lock = len(block), threading.Lock()

    def work(columns: slice) -> None:
        """Add both products of a range of columns; only the block's rows of `total` are shared and need the lock."""
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
    """Return `tile` in `dtype`: itself, or a copy in this thread's buffer that is valid until the next call."""
    if tile.dtype == dtype:
        return tile
    buffers = _buffers.__dict__
    buffer = buffers.get(dtype.char)
    if buffer is None or buffer.size < tile.size:
        buffer = buffers[dtype.char] = np.empty(tile.size, dtype)
    wide = buffer[: tile.size].reshape(tile.shape)
    wide[...] = tile
    return wide
