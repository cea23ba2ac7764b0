"""Random sketches of vectors and of tensor products x ⊗ y: SRHT and TensorSRHT.

TensorSRHT consists of random signs, Hadamard transforms, and products of sampled pairs of entries:

    S(x ⊗ y)_k = m^(-1/2) (H D₁ x)[p_k] (H D₂ y)[r_k],   k = 1 ... m

H is the Hadamard matrix of entries ±1 (see `hadamard`), D₁ and D₂ are diagonal matrices of random signs, and the
indices p_k and r_k are drawn uniformly. E[S(x ⊗ y) · S(x' ⊗ y')] = (x·x')(y·y') over signs and samples, with a variance
of order 1/m. For x and y of length d the transforms cost d log d operations, whereas x ⊗ y itself has d² entries.
Sources are Ahle et al., Oblivious Sketching of High-Degree Polynomial Kernels, SODA 2020, and for SRHT Ailon & Chazelle
2006. With signs in {1, i, -1, -i} the sketch φ is complex, the kernel is Re φ(x)·conj φ(z), and products of several
sketches have a smaller variance (Wacker, Kanagawa & Filippone, 2022).

Inputs are columns: x is (d, columns).
"""

from typing import no_type_check

import numba
import numpy as np

from kernel_gen.features.hadamard import LANES, load, padded, transform
from linearized.base.errors import UserError
from linearized.base.shapes import Shaped

FIELDS = ("real", "complex")


def random_signs(random: np.random.RandomState, dim: int, dtype: np.dtype) -> np.ndarray:
    """Draw `dim` signs ±1, or powers of i for a complex dtype, as an array (dim,) of this dtype.

    Args:
        random: Generator of the signs.
        dim: Number of signs.
        dtype: Data type of the signs.
    """
    if dtype.kind == "c":
        return np.array([1, 1j, -1, -1j], dtype)[random.randint(0, 4, dim)]
    return (2 * random.randint(0, 2, dim) - 1).astype(dtype)


class Srht:
    """The subsampled randomized Hadamard transform (SRHT) of vectors of length d to m numbers.

    It flips signs of x, pads x with zeros to a power of two D, applies the Hadamard transform normalised by D^(-1/2),
    and multiplies m of the entries by √(D/m). No entry is sampled again before all D entries have been sampled. If m is
    a multiple of D, inner products are therefore preserved exactly.

    Args:
        dim: Dimension d of the inputs.
        width: Number m of entries.
        random: Generator of this sketch's random numbers.
        dtype: Data type of the sketch; complex for signs that are powers of i.

    Raises `UserError` for a dimension or width below 1.
    """

    def __init__(self, dim: int, width: int, random: np.random.RandomState, dtype: np.dtype | str = "float32"):
        checked_sizes(width, dim)
        dtype, size = np.dtype(dtype), padded(dim)
        self.dim, self.width = dim, width
        self._signs = random_signs(random, dim, dtype)
        self._picks = np.concatenate([random.permutation(size) for _ in range(-(-width // size))])[:width]
        self._scale = dtype.type(1 / np.sqrt(width))
        self._size = size

    def __call__(self, x: Shaped[np.ndarray, "d columns"]) -> Shaped[np.ndarray, "m columns"]:
        """Return the sketches (m, columns) of the columns of `x`, (d, columns)."""
        x = np.ascontiguousarray(x, self._signs.dtype)
        out = np.empty((self.width, x.shape[1]), x.dtype)
        _one(x, self._signs, self._picks, self._scale, np.empty((self._size, LANES), x.dtype), out)
        return out


class TensorSrht:
    """A random sketch S(x ⊗ y) of tensor products, m numbers with E[S(x ⊗ y) · S(x' ⊗ y')] = (x·x')(y·y').

    Args:
        dims: Dimensions of x and of y.
        width: Number m of entries.
        random: Generator of this sketch's random numbers.
        dtype: Data type of the sketch; complex for signs that are powers of i.

    Raises `UserError` for a dimension or width below 1.
    """

    def __init__(
        self, dims: tuple[int, int], width: int, random: np.random.RandomState, dtype: np.dtype | str = "float32"
    ):
        checked_sizes(width, *dims)
        dtype = np.dtype(dtype)
        self.dims, self.width = dims, width
        self._signs = [random_signs(random, dim, dtype) for dim in dims]
        self._picks = [random.randint(0, padded(dim), width) for dim in dims]
        self._scale = dtype.type(1 / np.sqrt(width))

    def __call__(
        self, x: Shaped[np.ndarray, "d1 columns"], y: Shaped[np.ndarray, "d2 columns"]
    ) -> Shaped[np.ndarray, "m columns"]:
        """Return the sketch S(x ⊗ y), (m, columns), for each column of `x`, (d1, columns), and of `y`, (d2, columns).

        Raises `ValueError` for shapes that differ from `dims`, and for different numbers of columns.
        """
        dtype = self._signs[0].dtype
        x, y = np.ascontiguousarray(x, dtype), np.ascontiguousarray(y, dtype)
        if (len(x), len(y)) != tuple(self.dims) or x.shape[1] != y.shape[1]:
            raise ValueError(f"This sketch takes {self.dims} rows, and equal columns. Received: {x.shape}, {y.shape}.")
        out = np.empty((self.width, x.shape[1]), dtype)
        blocks = [np.empty((padded(dim), LANES), dtype) for dim in self.dims]
        _pair(x, y, *self._signs, *self._picks, self._scale, *blocks, out)
        return out


def checked_sizes(width: int, *dims: int) -> None:
    """Raise `UserError` for a sketch without entries, or of inputs without entries.

    Args:
        width: Number of entries of the sketch.
        dims: Dimensions of its inputs.
    """
    if width < 1 or min(dims) < 1:
        raise UserError(f"A sketch needs at least 1 entry and inputs of dimension 1. Received: {width}, {dims}.")


@numba.njit(nogil=True, fastmath=True, error_model="numpy")
@no_type_check  # Numba compiles the function itself, not a wrapper
def _one(x, signs, picks, scale, block, out):
    for start in range(0, x.shape[1], LANES):
        load(x, signs, start, block)
        transform(block)
        lanes = min(LANES, x.shape[1] - start)
        for k in range(len(picks)):
            for lane in range(lanes):
                out[k, start + lane] = scale * block[picks[k], lane]


@numba.njit(nogil=True, fastmath=True, error_model="numpy")
@no_type_check  # Numba compiles the function itself, not a wrapper
def _pair(x, y, signs1, signs2, picks1, picks2, scale, block1, block2, out):
    for start in range(0, x.shape[1], LANES):
        load(x, signs1, start, block1)
        transform(block1)
        load(y, signs2, start, block2)
        transform(block2)
        lanes = min(LANES, x.shape[1] - start)
        for k in range(len(picks1)):
            p, r = picks1[k], picks2[k]
            for lane in range(lanes):
                out[k, start + lane] = scale * block1[p, lane] * block2[r, lane]
