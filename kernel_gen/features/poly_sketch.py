"""Sketches of all tensor powers of a vector x up to a degree, each in m numbers, for kernels that are power series.

The sketch T_j of the power j has E[T_j(x)·T_j(z)] = (x·z)^j. The sketches are computed by

    T_0 = 1,   T_1 = x or its SRHT,   T_j = S_j(T_{j-1} ⊗ x),   S_j independent TensorSRHTs

SRHT and TensorSRHT are the sketches of a vector and of a tensor product ⊗ in `tensor_srht`. Each power is computed from
the previous one by one TensorSRHT. The relative variance of T_j(x)·T_j(z) is about j/m; with a product of j independent
projections it would be 3^j/m. The features of the kernel (x·z)^p are T_p. Those of a power series Σ_j a_j² (x·z)^j are
all a_j T_j, one below the other.
"""

from collections.abc import Iterator

import numpy as np

from kernel_gen.features.tensor_srht import FIELDS, Srht, TensorSrht, checked_sizes
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Shaped


class PolySketch:
    """Random sketches T_0, ..., T_degree of the tensor powers of a vector x, with E[T_j(x)·T_j(z)] = (x·z)^j.

    Features of polynomial kernels, and of kernels that are power series in x·z, consist of these sketches.

    Args:
        dim: Dimension d of the inputs x.
        degree: The highest power, 0 or more.
        width: Number m of entries of a sketch, except that T_0 is 1, and T_1 is x itself if d <= m.
        random: Generator of this sketch's random numbers.
        field: "real", or "complex" for complex sketches, whose kernel is Re T(x)·conj T(z).
        dtype: Data type of the features; the corresponding complex type for complex sketches.

    Raises `UserError` for a negative degree, an unknown field, and a dimension or width below 1.
    """

    def __init__(
        self, dim: int, degree: int, width: int, random: np.random.RandomState, *, field: str = "real",
        dtype: np.dtype | str = "float32",
    ):  # fmt: skip
        checked_sizes(width, dim)
        if degree < 0 or field not in FIELDS:
            raise UserError(
                f"A PolySketch has a degree >= 0 and a field, real or complex. Received: {degree}, {field}."
            )
        self.dim, self.degree, self.width = dim, degree, width
        self._dtype = np.result_type(dtype, np.complex64) if field == "complex" else np.dtype(dtype)
        self._first = Srht(dim, width, random, self._dtype) if dim > width else None
        first = min(dim, width)
        self._steps = [
            TensorSrht((first if j == 2 else width, dim), width, random, self._dtype) for j in range(2, degree + 1)
        ]

    def powers(self, x: Float[np.ndarray, "d columns"]) -> Iterator[Shaped[np.ndarray, "m columns"]]:
        """Yield the sketches T_0, ..., T_degree of the tensor powers of each column of `x`, (d, columns).

        They are arrays (m, columns), except for T_0, which has one row, and T_1, which has d rows if these are fewer
        than m.
        """
        yield np.ones((1, x.shape[1]), self._dtype)
        if not self.degree:
            return
        x = np.ascontiguousarray(x, self._dtype)
        power = x if self._first is None else self._first(x)
        yield power
        for step in self._steps:
            power = step(power, x)
            yield power

    def __call__(
        self, x: Float[np.ndarray, "d columns"], *, real_output: bool = True
    ) -> Shaped[np.ndarray, "m columns"]:
        """Return the sketch of the highest tensor power, T_degree, of each column of `x`, (m, columns).

        Args:
            x: Inputs, one per column, (d, columns).
            real_output: Whether the real and imaginary parts of a complex sketch are returned as 2m rows; otherwise m
                complex rows are returned.
        """
        *_, last = self.powers(x)
        return as_real(last) if real_output else last


def as_real(sketch: Shaped[np.ndarray, "m columns"]) -> Float[np.ndarray, "rows columns"]:
    """Return a sketch (m, columns) as a real array: the real parts of complex rows, then their imaginary parts.

    Inner products of columns of the result (2m, columns) are Re φ(x)·conj φ(z) for columns φ of the sketch. A real
    sketch is returned unchanged.
    """
    return np.concatenate([sketch.real, sketch.imag]) if sketch.dtype.kind == "c" else sketch
