"""The NTK and NNGP kernels of fully connected networks of infinite width with any activation.

For ReLU, `kernel_gen.kernels.ntk` is faster.

Σ(x, z) is the covariance of the outputs at initialisation (the NNGP kernel), Θ(x, z) the neural tangent kernel (NTK), w
and b are the standard deviations of weights and biases, and d is the number of columns of x and z. The layers compute

    Σ ← w² x·z/d + b²,  Θ ← Σ                                          the first dense layer
    Θ ← w² Θ slope(Σ),  Σ ← w² dual(Σ) + b²,  Θ ← Θ + Σ                each activation with the dense layer after it

with the dual and slope of the activation (see `kernel_gen.activations.base`). The inner products are computed by BLAS
and the rest by one compiled JAX function per layer. The cost per entry and layer is 10 to 50 ns for a dual in closed
form, 4 operations per term for a Hermite series, and microseconds for quadrature.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from kernel_gen.activations import activation
from kernel_gen.activations.base import CHUNK
from kernel_gen.kernel import Kernel
from kernel_gen.rows import Rows, prepare_rows, same_width
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64


@dataclasses.dataclass(frozen=True)
class Layers:
    """Prepared rows of a `DenseKernel`, with the quantities that each activation needs of them.

    Attributes:
        rows: The rows with their squared norms.
        sides: One entry for each activation, as `Activation.rows` returns it: arrays whose last axis is that of the
            rows.
        terms: One number for each activation, the length of its series or the index of its quadrature rule
            (`Activation.terms`).
        diagonal: k(x, x) of each row, (n,), in float64.
    """

    rows: Rows
    sides: tuple[Any, ...]
    terms: tuple[int, ...]
    diagonal: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "Layers":
        sides = jax.tree.map(lambda array: array[..., part], self.sides)
        return Layers(self.rows[part], sides, self.terms, self.diagonal[part])


class DenseKernel(Kernel):
    """The kernel of a fully connected network of infinite width with an activation between its dense layers.

    The diagonal of blocks of rows with themselves is computed in float64. In float64 a prepared row takes 8 bytes for
    each activation. If the dual of the activation is a Hermite series, each of its terms takes another 16 bytes. In
    float32 both are half.

    Args:
        given: The activation: a name, a function or an `Activation`.
        num_layers: Number of dense layers: the number of hidden layers plus 1, for the readout.
        kind: "ntk" or "nngp".
        weight_std: Standard deviation w of the weights.
        bias_std: Standard deviation b of the biases.
        dtype: Data type of the entries, "float32" or "float64".
        scale: "stax" divides x·z by d, "input" does not.
    """

    tile = 512
    positive = True

    def __init__(
        self, given: Any, num_layers: int = 2, kind: str = "ntk", weight_std: float = 1.0,
        bias_std: float = 0.0, dtype: str = "float32", scale: str = "stax",
    ):  # fmt: skip
        self.activation = activation(given)
        self.num_layers, self.kind = num_layers, kind
        self.weight_var, self.bias_var = weight_std**2, bias_std**2
        self.dtype, self.scale = np.dtype(dtype), scale

    def prepare(self, x: np.ndarray) -> Layers:
        """Return the rows of `x` (n, d) with the quantities that each activation needs, for `block`.

        Raises `UserError` for rows that are not finite, and if the variance of a row is beyond the range of the
        activation.
        """
        rows = prepare_rows(x, self.dtype)
        variance = self._first_factor(rows.values.shape[1]) * rows.squares + self.bias_var
        tangent, sides, terms = variance, [], []
        for _ in range(self.num_layers - 1):
            terms.append(self.activation.terms(float(variance.max(initial=0)), self.dtype.name))
            sides.append(self._side(variance, terms[-1]))
            dual, slope = self.activation.diagonal(variance)
            self._check(dual, slope, variance)
            variance = self.weight_var * dual + self.bias_var
            tangent = self.weight_var * slope * tangent + variance
        return Layers(rows, tuple(sides), tuple(terms), tangent if self.kind == "ntk" else variance)

    def block(self, one: Layers, two: Layers, *, same: bool = False) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel (n1, n2) between two sets of inputs, which `prepare` returned.

        Args:
            one: The n1 inputs of the rows.
            two: The n2 inputs of the columns.
            same: Whether `two` contains the inputs of `one`; the diagonal is then computed in float64.

        Raises `UserError` if the two sets differ in their numbers of columns.
        """
        two = one if same else two
        same_width(one.rows.values, two.rows.values)
        products = one.rows.values @ two.rows.values.T
        if not products.size:
            return products
        terms = tuple(max(pair) for pair in zip(one.terms, two.terms, strict=True))
        number = self.dtype.type
        with jax.enable_x64(self.dtype == np.float64):
            sigma = tangent = products * number(self._first_factor(one.rows.values.shape[1])) + number(self.bias_var)
            for left, right, count in zip(one.sides, two.sides, terms, strict=True):
                left = jax.tree.map(lambda array: array[..., :, None], left)
                right = jax.tree.map(lambda array: array[..., None, :], right)
                step = self.activation.layer(count)
                sigma, tangent = step(sigma, tangent, left, right, number(self.weight_var), number(self.bias_var))
            entries = np.array(tangent if self.kind == "ntk" else sigma)
        if same:
            np.fill_diagonal(entries, one.diagonal)
        return entries

    def _first_factor(self, dim: int) -> float:
        return self.weight_var / (dim if self.scale == "stax" else 1)

    def _side(self, variance: Float64[np.ndarray, " n"], terms: int) -> Any:
        """Return the quantities that the activation needs of inputs with these variances, in the kernel's dtype.

        `Activation.rows` computes them in float64, for one chunk of inputs at a time.

        Args:
            variance: Variances of the inputs of one layer, (n,).
            terms: Length of the activation's series, or index of its quadrature rule.
        """
        program = self.activation.side(terms)
        with jax.enable_x64(True):
            parts = [
                jax.tree.map(lambda array: np.asarray(array, self.dtype), program(variance[i : i + CHUNK]))
                for i in range(0, max(len(variance), 1), CHUNK)
            ]
        return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=-1), *parts)

    def _check(self, dual: np.ndarray, slope: np.ndarray, variance: np.ndarray) -> None:
        limit = np.finfo(self.dtype).max / 4
        bad = ~((np.abs(dual) < limit) & (np.abs(slope) < limit))
        if bad.any():
            raise UserError(
                f"The dual of {self.activation.text} overflows {self.dtype} at a variance of {variance[bad][0]:.3g}, "
                f"first in row {int(np.argmax(bad))}. Lower --weight_std, take --scale=stax, or scale the inputs."
            )
