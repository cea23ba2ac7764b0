"""Choice of the number of columns by which block Lanczos multiplies the Gram matrix K at once, to take the least time.

A product of more columns takes little longer than one of few, most of all where K is read from files or computed in
every product; but a wider block has a larger basis to keep orthogonal.
"""

import time

import numpy as np
from absl import logging

from linearized.base.machine_memory import working_bytes
from linearized.solvers.linear.solution import EXPECTED_VECTORS
from linearized.storage.gram import Gram
from linearized.storage.products import add_symmetric, spread

FIXED = 20  # fixed cost of a product, in units of the cost per column (measured: 17 to 22)
GAIN = 0.1  # smallest fraction of the run time that additional random columns in a block must save to be used
WIDEST = 80  # largest number of columns in a block
SAMPLE = 2**27  # bytes that are read to measure the read rate


def reading_columns(gram: Gram, columns: int) -> float:
    """Measure the time to read K once, in units of the time that a product with K takes longer per additional column.

    It is measured on the first 128 MiB of the matrix; for smaller matrices 0 is returned. If all files fit in the
    system's cache, the time of a cached read is used. Otherwise it is the time of the first read minus that of the
    second and that of comparing checksums, which takes as long as the second read, but at least the time of the second
    read.

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
        for rows, block in gram.row_blocks():
            if columns:
                add_symmetric(block, rows.start, v, total, each)
            size += block.nbytes
            if size >= SAMPLE:
                break
    return time.perf_counter() - began


def best_block(columns: int, n: int, reading: float, overlapped: bool) -> int:
    """Return the number of columns of a Lanczos block with which the solution takes the least time.

    All times are in units of a product's time per additional column. A pass over K takes 20 + b for the product of b
    columns and `reading` for the files, at the same time if `overlapped`. The number of passes is proportional to 1/√b,
    and the cost of reorthogonalisation to b, because the basis has EXPECTED_VECTORS · √b vectors. Random columns are
    added to those of the right-hand side if they save at least a tenth of the time.

    Args:
        columns: Number of columns of the right-hand side.
        n: Side of K.
        reading: Time to read K once, as `reading_columns` returns it; 0 for K in memory.
        overlapped: Whether reading and multiplying run at the same time.
    """

    def cost(b: int) -> float:
        passes, vectors = EXPECTED_VECTORS / b**0.5, EXPECTED_VECTORS * b**0.5
        product = max(FIXED + b, reading) if overlapped else FIXED + b + reading
        return passes * product + 2 * vectors**2 / n

    best = min(range(columns, max(columns, min(WIDEST, n)) + 1), key=cost)
    return best if cost(best) <= (1 - GAIN) * cost(columns) else columns
