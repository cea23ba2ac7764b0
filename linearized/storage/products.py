"""Products of a large stored matrix with few columns, at about the speed at which the matrix can be read.

The matrix is processed in tiles, rectangular parts that are divided among the cores in use. If the result is in
float64, a float32 tile is converted to float64 in the processor's cache, so that products and sums have no float32
rounding errors. At n = 10,000 and 10 columns a product takes 0.08 s on one core. Products in float32 take 0.05 s, but
lose four digits to cancellation, which is too inaccurate for a ridge of 1e-7 of the matrix's norm.

If only the upper triangle of a symmetric matrix is stored, each tile above the diagonal is multiplied twice, as it is
and transposed. This takes as long as the product with a full matrix that has the same number of multiply-adds.
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
    """Yield a function `each(work, parts)` that calls work(part) for every part, in threads on all cores.

    Each call uses one BLAS thread. The threads end with the `with` block.
    """
    with blas_threads(1), ThreadPoolExecutor(cores()) as pool:

        def each(work: Callable[[slice], None], parts: list[slice]) -> None:
            for _ in pool.map(work, parts):
                pass

        yield each


def cut(total: int, most: int, *, least: int = 1) -> list[slice]:
    """Divide range(total) into slices of about equal length, none of them empty.

    Args:
        total: Number of entries.
        most: Largest number of entries of a slice.
        least: Smallest number of slices; if `total` is smaller, there are `total` slices.
    """
    count = min(max(-(-total // most), least), total)
    edges = [total * i // count for i in range(count + 1)] if count else []
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def multiply(matrix: np.ndarray, v: np.ndarray, each: Spread, out: np.ndarray | None = None) -> np.ndarray:
    """Compute matrix @ v for a large matrix (m, n) and few columns v (n, c), on all cores.

    Args:
        matrix: The large matrix, whose ranges of rows are processed in parallel.
        v: The few columns.
        each: Function that `spread` yields, which runs the parts of the work.
        out: Array (m, c) for the result; products are computed in its dtype. None: a new array in the wider of the
            dtypes of `matrix` and `v`.
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
    """Add the contribution of some rows of a symmetric matrix K to `total`, in which the product K @ v is summed.

    The rows are given from the diagonal onwards. Each entry right of the square on the diagonal is used twice: once as
    given, once transposed.

    Args:
        block: Entries K[start : start + m, start:] of m rows; the first m columns are the square on the diagonal.
        start: Index of the first row.
        v: Vectors of shape (n, c).
        total: Sum of shape (n, c), updated in place; products are computed in its dtype.
        each: Function that `spread` yields, which runs the parts of the work.
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
    """Return a tile (a part of a matrix) in the given dtype: the tile itself if it has this dtype, otherwise a copy.

    The copy is in a buffer of the calling thread and is valid until the thread's next call.
    """
    if tile.dtype == dtype:
        return tile
    buffers = _buffers.__dict__
    buffer = buffers.get(dtype.char)
    if buffer is None or buffer.size < tile.size:
        buffer = buffers[dtype.char] = np.empty(tile.size, dtype)
    wide = buffer[: tile.size].reshape(tile.shape)
    wide[...] = tile
    return wide
