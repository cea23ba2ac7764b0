"""The fast Walsh-Hadamard transform of columns, in place: multiplication by a matrix of entries ±1.

The transform of a column of length D takes D log₂ D additions, whereas the product with the matrix takes D² operations.
Columns are stored side by side, (D, columns), and `LANES` of them are transformed together. Every addition is then one
vector instruction, and the D x LANES numbers stay in the cache of a core. Two of the log₂ D steps are computed in one
pass over the numbers.
"""

from typing import no_type_check

import numba

LANES = 16  # columns that are transformed together: a cache line in float32


def padded(dim: int) -> int:
    """Return the smallest power of two that is at least `dim`."""
    return 1 << max(dim - 1, 0).bit_length()


@numba.njit(nogil=True, fastmath=True, error_model="numpy")
@no_type_check  # Numba compiles the function itself, not a wrapper
def transform(block):
    """Replace each column x of a block by H x, in place, with the Hadamard matrix H of entries ±1.

    H is not normalised: its square is D times the unit matrix.

    Args:
        block: LANES columns, (D, LANES), with D a power of two.
    """
    size = block.shape[0]
    step = 1
    while 4 * step <= size:
        for start in range(0, size, 4 * step):
            for i in range(start, start + step):
                for lane in range(LANES):
                    a, b = block[i, lane], block[i + step, lane]
                    c, d = block[i + 2 * step, lane], block[i + 3 * step, lane]
                    e, f, g, h = a + b, a - b, c + d, c - d
                    block[i, lane], block[i + step, lane] = e + g, f + h
                    block[i + 2 * step, lane], block[i + 3 * step, lane] = e - g, f - h
        step *= 4
    if step < size:  # an odd number of stages
        for i in range(step):
            for lane in range(LANES):
                a, b = block[i, lane], block[i + step, lane]
                block[i, lane], block[i + step, lane] = a + b, a - b


@numba.njit(nogil=True, fastmath=True, error_model="numpy")
@no_type_check  # Numba compiles the function itself, not a wrapper
def load(x, signs, start, block):
    """Copy columns, multiplied by signs, to a block for `transform`, and pad the block with zeros.

    Args:
        x: Array (d, columns).
        signs: Factor of each row of `x`, (d,).
        start: Index of the first column; up to LANES are copied.
        block: Array (D, LANES) with D >= d, which is overwritten.
    """
    lanes = min(LANES, x.shape[1] - start)
    for i in range(x.shape[0]):
        for lane in range(lanes):
            block[i, lane] = signs[i] * x[i, start + lane]
        for lane in range(lanes, LANES):
            block[i, lane] = 0
    block[x.shape[0] :] = 0
