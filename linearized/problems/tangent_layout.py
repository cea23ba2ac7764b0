"""The trained parameters of the neural-tangent model, and how columns of the least-squares problem contain them."""

import math
from typing import NamedTuple

import numpy as np

from linearized.base.shapes import Float, Float64
from linearized.problems.array_module import blocks


class Parameters(NamedTuple):
    """The trained parameters of the neural-tangent model, for each of c solutions.

    Attributes:
        a: Readouts (c, N, k) of N hidden units for k classes.
        bias: Biases (c, k).
        g: Directions of the first layer (c, N, d), or (c, k, N, d) if each class has its own directions.
    """

    a: np.ndarray
    bias: np.ndarray
    g: np.ndarray

    def cut(self, units: slice) -> "Parameters":
        """Return the parameters of some hidden units, and all biases."""
        return Parameters(self.a[:, units], self.bias, self.g[..., units, :])


class TangentLayout(NamedTuple):
    """The shapes of the neural-tangent model: which entries of a column are readout, bias and directions.

    A column v with p entries contains the readout a (N, k), the bias (k) and the directions, in this order. A column u
    with n k entries contains outputs for n data points and k classes, ordered by data point, then by class.

    Attributes:
        units: N, the number of hidden units.
        outputs: k, the number of classes.
        dim: d, the length of an input.
        per_class: Whether every class has directions of its own.
    """

    units: int
    outputs: int
    dim: int
    per_class: bool

    @property
    def directions(self) -> tuple[int, int, int]:
        """Shape of the directions, (k, N, d) if each class has its own and (1, N, d) otherwise."""
        return (self.outputs if self.per_class else 1, self.units, self.dim)

    @property
    def params(self) -> int:
        """The number p of parameters."""
        return self.units * self.outputs + self.outputs + math.prod(self.directions)

    @property
    def groups(self) -> list[slice]:
        """Slices that divide the classes into groups, where the classes of a group share the first-layer directions.

        By default there is one slice with all classes. With `per_class` there is one slice for each class.
        """
        return blocks(self.outputs, 1 if self.per_class else self.outputs)

    def grouped(self, g: np.ndarray) -> np.ndarray:
        """Return the first-layer directions of B units as (c, groups, B, d), one entry for each slice in `groups`.

        Args:
            g: Directions (c, B, d), or (c, k, B, d) if each class has its own.
        """
        return g if self.per_class else g[:, None]

    def unpack(self, v: Float[np.ndarray, "p c"]) -> Parameters:
        """Return the readout, bias and directions that the columns of v (p, c) contain.

        The arrays are views of v if the transpose of v is contiguous.
        """
        flat, cut = v.T, self.units * self.outputs
        columns, shape = v.shape[1], self.directions if self.per_class else self.directions[1:]
        return Parameters(
            flat[:, :cut].reshape(columns, self.units, self.outputs),
            flat[:, cut : cut + self.outputs],
            flat[:, cut + self.outputs :].reshape(columns, *shape),
        )

    def unpack_single(self, v: Float[np.ndarray, "p c"]) -> Parameters:
        """Return the readout, bias and directions in v (p, c) as copies in float32."""
        return self.unpack(np.ascontiguousarray(v.T, np.float32).T)

    def pack(self, parameters: Parameters) -> Float64[np.ndarray, "p c"]:
        """Return v (p, c) from the readout, bias and directions of its columns; this is the inverse of `unpack`."""
        flat = [np.asarray(part, np.float64).reshape(len(part), -1) for part in parameters]
        return np.concatenate(flat, axis=1).T

    def zeros(self, columns: int) -> Parameters:
        """Return `Parameters` of zeros in float64 for c = `columns` solutions."""
        return self.unpack(np.zeros((columns, self.params)).T)

    def stack(self, f: np.ndarray) -> np.ndarray:
        """Reshape outputs (c, n, k) to columns (n k, c)."""
        return f.reshape(len(f), -1).T

    def unstack(self, u: np.ndarray) -> np.ndarray:
        """Reshape columns (n k, c) to (c, n, k)."""
        return np.ascontiguousarray(u.T).reshape(u.shape[1], -1, self.outputs)
