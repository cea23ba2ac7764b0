"""NTK: the neural tangent kernel (NTK) and Gaussian-process kernel (NNGP) of infinitely wide ReLU networks.

The networks are fully connected. Other activations are in `kernels.dense`. Σ(x, z) is the covariance of the outputs at
initialisation (NNGP) and Θ(x, z) the tangent kernel (NTK), w and b are the standard deviations of weights and biases,
and d is the number of columns of x and z. The layers compute, with x·z in place of x·z/d at scale "input",

    Σ ← w² x·z/d + b²,  Θ ← Σ                                          the first dense layer
    Θ ← w² Θ κ₀(c)/2,   Σ ← w² ‖Σ‖ κ₁(c)/2 + b²,  Θ ← Θ + Σ            each ReLU with the dense layer after it

where ‖Σ‖ = √(Σ(x,x) Σ(z,z)), c = Σ/‖Σ‖, κ₀(c) = 1 - arccos(c)/π and κ₁(c) = (√(1-c²) + c (π - arccos c))/π (Jacot et
al. 2018; the parametrisation is that of neural_tangents.stax). The inner products are computed by BLAS, with 2d
operations per entry. All layers are then computed in one pass over each row of the block, with about 40 operations
(1 ns) per entry and layer.
"""

import functools
from typing import no_type_check

import numpy as np

from kernel_gen.activations import name_of
from kernel_gen.kernel import Kernel
from kernel_gen.kernels import ntk_gradients
from kernel_gen.kernels.differentiable import DifferentiableKernel
from kernel_gen.rows import Rows, inner_products, prepare_rows
from linearized.base.shapes import Float, Float64
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads, when

READS = reads("kind", "num_layers", "dense_layers", "weight_std", "bias_std", "activation", "scale")
GRADIENTS = when(activation="relu")
ROTATION_INVARIANT = ALWAYS
SNAP = 4  # correlations within this many roundings of ±1 are set to ±1, as in `activations.base.correlation`
DEGREES = {"float32": 7, "float64": 18}  # degrees of the polynomials for κ₀ and κ₁, see `relu.polynomials`


class FullyConnected(DifferentiableKernel):
    """The NTK or NNGP kernel of an infinitely wide network of `num_layers` dense layers with ReLU between them.

    Errors of entries were measured for up to 20 layers and d = 784. They are stated for each hidden layer, relative to
    the largest entry of the matrix. Where the correlation c of two rows has `|c|` < 0.999, they are up to 6e-7 in
    float32 and 2e-15 in float64. Near c = 1 a rounding error ε of the inner product changes the angle by √(2ε). For
    equal and nearly equal rows the errors of the NTK are therefore up to 3e-4 in float32 and 2e-8 in float64, and those
    of the NNGP up to 1e-5 and 1e-14. The diagonal of blocks of rows with themselves is exact. Without biases, the
    correlation of an input of zeros with every other input is 0.

    Args:
        num_layers: Number of dense layers: the number of hidden layers plus 1, for the readout.
        kind: "ntk" or "nngp".
        weight_std: Standard deviation w of the weights.
        bias_std: Standard deviation b of the biases.
        dtype: Data type of the entries, "float32" or "float64".
        scale: "stax" divides x·z by d, "input" does not.
    """

    tile = 1024
    positive = True

    def __init__(
        self, num_layers: int = 2, kind: str = "ntk", weight_std: float = 1.0, bias_std: float = 0.0,
        dtype: str = "float32", scale: str = "stax",
    ):  # fmt: skip
        self.num_layers, self.kind = num_layers, kind
        self.weight_var, self.bias_var = weight_std**2, bias_std**2
        self.dtype, self.scale = np.dtype(dtype), scale

    def deciding(self, train: np.ndarray) -> np.ndarray:
        """Return no rows, because train rows determine no parameter of this kernel."""
        return train[:0]

    def prepare(self, x: np.ndarray) -> Rows:
        """Return the rows of `x` (n, d) in the kernel's dtype with their squared norms.

        Raises `UserError` for rows that are not finite.
        """
        return prepare_rows(x, self.dtype)

    def block(self, one: Rows, two: Rows, *, same: bool = False) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel (n1, n2) between two sets of inputs, which `prepare` returned.

        Args:
            one: The n1 inputs of the rows.
            two: The n2 inputs of the columns.
            same: Whether `two` contains the inputs of `one`; the diagonal is then exact.

        Raises `UserError` if the two sets differ in their numbers of columns.
        """
        two = one if same else two
        entries = inner_products(one, two)
        dim, number = one.values.shape[1], self.dtype.type
        stds = [np.sqrt(self._variances(rows.squares, dim)) for rows in (one, two)]
        least = float(np.finfo(self.dtype).tiny) ** 0.5  # for smaller ones the product of two inverses overflows
        inverses = [np.divide(1, std, out=np.zeros_like(std), where=std > least) for std in stds]
        vectors = [vector.astype(self.dtype) for vector in (*stds, *inverses)]
        factors = [number(factor) for factor in (self._first_factor(dim), self.weight_var, self.bias_var)]
        _fused(self.dtype.name)(entries, *vectors, *factors, self.kind == "ntk")
        if same:
            np.fill_diagonal(entries, self._diagonal(one.squares, dim))
        return entries

    def gradients(self, points: Rows, rows: Rows, alpha: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "k m d"]:
        """Return the gradients in x of f_c(x) = Σ_i alpha_ic k(x, x_i) at m points, (k, m, d) in float64.

        For aligned rows the derivative of the angle, which is unbounded, is set to 0.

        Args:
            points: The m points, prepared by this kernel.
            rows: The n rows x_i, prepared by this kernel.
            alpha: Coefficients (n, k), one column for each output c.
        """
        return ntk_gradients.gradients(
            points, rows, alpha, hidden=self.num_layers - 1, tangent=self.kind == "ntk",
            first=self._first_factor(points.values.shape[1]), weight_var=self.weight_var, bias_var=self.bias_var,
        )  # fmt: skip

    def _first_factor(self, dim: int) -> float:
        return self.weight_var / (dim if self.scale == "stax" else 1)

    def _variances(self, squares: Float64[np.ndarray, " n"], dim: int) -> Float64[np.ndarray, "hidden n"]:
        """Return the variances Σ(x, x) of n rows x before each ReLU, (hidden layers, n).

        Args:
            squares: Squared norms of the rows, (n,).
            dim: Number of columns of the rows.
        """
        variances = np.empty((self.num_layers - 1, len(squares)))
        variance = self._first_factor(dim) * squares + self.bias_var
        for layer in variances:
            layer[:] = variance
            variance = self.weight_var / 2 * variance + self.bias_var
        return variances

    def _diagonal(self, squares: Float64[np.ndarray, " n"], dim: int) -> Float64[np.ndarray, " n"]:
        """Return k(x, x) of n rows x, (n,).

        Args:
            squares: Squared norms of the rows, (n,).
            dim: Number of columns of the rows.
        """
        tangent = variance = self._first_factor(dim) * squares + self.bias_var
        for _ in range(self.num_layers - 1):
            variance = self.weight_var / 2 * variance + self.bias_var
            tangent = self.weight_var / 2 * tangent + variance
        return tangent if self.kind == "ntk" else variance


@functools.cache
def _fused(dtype: str):
    """Return the compiled program that turns inner products x·z into kernel entries in one pass over a block.

    It is compiled for the data type `dtype`. Each polynomial is evaluated in two loops over its terms. The compiler
    unrolls only loops of up to 15 terms, and it vectorises the pass over the entries only if these loops are unrolled.
    """
    import numba

    from kernel_gen.activations import relu

    number = np.dtype(dtype).type
    halves = [
        tuple(number(value) for value in half)
        for coefficients in relu.polynomials(DEGREES[dtype])
        for half in np.array_split(coefficients, 2)
    ]
    angle_high, angle_low, rest_high, rest_low = halves
    zero, half, one, two = number(0), number(0.5), number(1), number(2)
    snap = number(SNAP * np.finfo(dtype).eps)

    @numba.njit(fastmath=True, nogil=True, error_model="numpy")
    @no_type_check  # Numba compiles the function itself, not a wrapper
    def fused(entries, stds1, stds2, inverses1, inverses2, first, weight_var, bias_var, want_ntk):
        tangents = np.empty_like(entries[0]) if len(entries) else np.empty(0, entries.dtype)
        for row in range(len(entries)):
            sigma = entries[row]
            for j in range(len(sigma)):
                sigma[j] = first * sigma[j] + bias_var
                tangents[j] = sigma[j]
            for layer in range(len(stds1)):
                inverse, std = inverses1[layer, row], half * weight_var * stds1[layer, row]
                inverse2, std2 = inverses2[layer], stds2[layer]
                for j in range(len(sigma)):
                    cos = min(max(sigma[j] * (inverse * inverse2[j]), -one), one)
                    short = one - abs(cos)
                    short = short if short > snap else zero  # equal rows whose inner products differ by rounding
                    variable = one - two * short
                    angle = zero
                    for coefficient in angle_high:
                        angle = angle * variable + coefficient
                    for coefficient in angle_low:
                        angle = angle * variable + coefficient
                    rest = zero
                    for coefficient in rest_high:
                        rest = rest * variable + coefficient
                    for coefficient in rest_low:
                        rest = rest * variable + coefficient
                    root = np.sqrt(short)
                    angle *= root  # arccos|c| / π
                    kappa0 = one - angle if cos > zero else angle
                    kappa1 = max(cos, zero) + root * short * rest
                    sigma[j] = std * std2[j] * kappa1 + bias_var
                    tangents[j] = half * weight_var * kappa0 * tangents[j] + sigma[j]
            if want_ntk:
                for j in range(len(sigma)):
                    sigma[j] = tangents[j]

    return fused


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> Kernel:
    """Return the kernel of the settings: `FullyConnected` for the ReLU, `DenseKernel` for other activations.

    The setting `scale` = "published" stands for "input" for ReLU networks of one hidden layer, and for "stax"
    otherwise. `image_shape` is not used, because images are treated as rows.
    """
    scale, relu_net = settings.scale, name_of(settings.activation) == "relu"
    if scale == "published":
        scale = "input" if settings.num_layers == 1 and relu_net else "stax"
    shared = settings.num_layers + 1, settings.kind, settings.weight_std, settings.bias_std, settings.dtype, scale
    if relu_net:
        return FullyConnected(*shared)
    from kernel_gen.kernels.dense import DenseKernel

    return DenseKernel(settings.activation, *shared)
