"""Choice of the block size of block Lanczos: the number of columns that are multiplied by the Gram matrix K at once.

With wider blocks fewer products are needed, and each takes little more time, in particular if K is read from files or
computed in every product. But a wider block makes the basis of block Lanczos larger, so that keeping it orthogonal
takes more time. The block size with the least estimated total time is used.
"""

import time

import numpy as np
from absl import logging

from linearized.base.machine_memory import working_bytes
from linearized.solvers.linear.solution import EXPECTED_VECTORS
from linearized.storage.gram import MEMORY, Gram
from linearized.storage.products import add_symmetric, spread

FIXED = 20  # fixed cost of a product, in units of the cost per column (measured: 17 to 22)
GAIN = 0.1  # smallest fraction of the run time that additional random columns in a block must save to be used
WIDEST = 80  # largest number of columns in a block
SAMPLE = 2**27  # bytes that are read to measure the read rate


def reading_columns(gram: Gram, columns: int) -> float:
    """Return the measured time to read K once; its unit is the time that one more column adds to a product with K.

    The result is 0 for matrices of up to 128 MiB. Of larger ones the first 128 MiB are read twice, the second time from
    the system's cache. Let t₁ and t₂ be the times of the two reads. If all files fit in the cache, the time to read K
    is computed from t₂, otherwise from the larger of t₂ and t₁ - 2 t₂. 2 t₂ is subtracted for two parts of the
    first read: comparing checksums, which takes about t₂, and copying from the cache.

    Args:
        gram: K in shards.
        columns: Number of columns of the right-hand side.
    """
    size = len(gram) ** 2 // 2 * gram.dtype.itemsize
    if size <= SAMPLE:
        return 0.0  # a small matrix, in the system's cache after the first pass
    first, again, multiplied = _sample(gram, 0), _sample(gram, 0), _sample(gram, columns)
    cached = size <= working_bytes()
    seconds = again if cached else max(first - 2 * again, again)
    reading = (FIXED + columns) * seconds / max(multiplied - again, 1e-9)
    logging.info("reading the shards takes as long as multiplying %.0f columns more", reading)
    return reading


def _sample(gram: Gram, columns: int) -> float:
    """Return the seconds to read the first SAMPLE bytes of K and, unless `columns` is 0, to multiply them by vectors.

    Args:
        gram: K in shards.
        columns: Number of vectors by which the entries are multiplied.
    """
    v, size, began = np.ones((len(gram), columns)), 0, time.perf_counter()
    total = np.zeros_like(v)
    with spread() as each:
        for rows, block in gram.row_blocks(MEMORY):
            if columns:
                add_symmetric(block, rows.start, v, total, each)
            size += block.nbytes
            if size >= SAMPLE:
                break
    return time.perf_counter() - began


def best_block(columns: int, n: int, reading: float, overlapped: bool) -> int:
    """Return the number of columns b of a block with which block Lanczos is expected to take the least time.

    The unit of time is the time that one more column adds to a product with K. A product with b columns then takes
    20 + b, and reading the files takes `reading`. A pass over K takes the larger of both times if `overlapped`,
    otherwise their sum. The number of passes is proportional to 1/√b. The basis has EXPECTED_VECTORS · √b vectors, so
    the time of reorthogonalisation is proportional to b. If b is larger than the number of columns of the right-hand
    side, random columns are added. This is done only if it saves at least a tenth of the time.

    Args:
        columns: Number of columns of the right-hand side.
        n: Number of rows and of columns of K.
        reading: Time to read K once, as `reading_columns` returns it; 0 for K in memory.
        overlapped: Whether reading and multiplying run at the same time.
    """

    def cost(b: int) -> float:
        passes, vectors = EXPECTED_VECTORS / b**0.5, EXPECTED_VECTORS * b**0.5
        product = max(FIXED + b, reading) if overlapped else FIXED + b + reading
        return passes * product + 2 * vectors**2 / n

    best = min(range(columns, max(columns, min(WIDEST, n)) + 1), key=cost)
    return best if cost(best) <= (1 - GAIN) * cost(columns) else columns
