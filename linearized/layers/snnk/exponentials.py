"""Universal random features in their general form: any pair of functions A, a and any measure, given by its points ξ.

Choromanski et al., "Scalable Neural Network Kernels", ICLR 2024, section on universal random features. For g ~ N(0, I)

    E exp(a g·x - a²‖x‖²/2) exp(b g·w - b²‖w‖²/2) = exp(a b w·x)

for all complex a and b, so features of points ξ_1, ..., ξ_K estimate f(z) = 1/K Re Σ A(ξ)B(ξ) exp(a(ξ)b(ξ) z). The
published adapters use the same pair for inputs and weights, A = B and a = b. A shift M >= 0 replaces a g·x by √(1+4M)
a g·x - M‖g‖² and multiplies by (1+4M)^(d/4): the mean is unchanged, and the features of large projections are bounded.
"""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from linearized.layers.snnk.expansions import Expansion

Function = Callable[[np.ndarray], np.ndarray]


@keras.saving.register_keras_serializable("linearized")
class Exponentials(Expansion):
    """Sum of exponentials f(z) = 1/K Re Σ A_j B_j exp(a_j b_j z), over a sample of K points with equal weights.

    Args:
        amplitudes: `A_j` of the inputs, K numbers, real or complex. A list of pairs (real, imaginary part) is accepted.
        exponents: `a_j` of the inputs. If these and the amplitudes are real, each point needs one real feature, else
            two.
        weight_amplitudes: `B_j` of the weights; None: those of the inputs.
        weight_exponents: `b_j` of the weights; None: those of the inputs.
    """

    def __init__(self, amplitudes, exponents, weight_amplitudes=None, weight_exponents=None):
        self.amplitudes, self.exponents = _numbers("amplitudes", amplitudes), _numbers("exponents", exponents)
        given = (weight_amplitudes, weight_exponents)
        self.shared = [values is None for values in given]
        self.weight_amplitudes, self.weight_exponents = (
            own if values is None else _numbers(name, values)
            for name, values, own in zip(("weight_amplitudes", "weight_exponents"), given,
                                         (self.amplitudes, self.exponents), strict=True)
        )  # fmt: skip
        lengths = {len(v) for v in (self.amplitudes, self.exponents, self.weight_amplitudes, self.weight_exponents)}
        if len(lengths) != 1 or not min(lengths):
            raise ValueError(f"Amplitudes and exponents must have one length, at least 1. Received: {sorted(lengths)}.")
        if not np.any(self.sizes() * self.rates()):
            raise ValueError(f"A constant needs no features. Received: exponents={self.exponents.tolist()}.")

    @classmethod
    def of(cls, xi: Sequence[float], amplitude: Function, exponent: Function, weight_amplitude: Function | None = None,
           weight_exponent: Function | None = None) -> "Exponentials":  # fmt: skip
        """Return the expansion of the functions A, a (and B, b) at the points `xi`, a sample of the measure."""
        xi = np.asarray(xi)
        values = (None if f is None else np.broadcast_to(np.asarray(f(xi)), xi.shape)
                  for f in (amplitude, exponent, weight_amplitude, weight_exponent))  # fmt: skip
        return cls(*values)

    @property
    def real(self) -> bool:
        """Whether the features of inputs are real."""
        return not (self.amplitudes.imag.any() or self.exponents.imag.any())

    def sizes(self) -> np.ndarray:
        """Return A_j B_j."""
        return self.amplitudes * self.weight_amplitudes

    def rates(self) -> np.ndarray:
        """Return a_j b_j."""
        return self.exponents * self.weight_exponents

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Return f(z)."""
        return (np.exp(np.asarray(z)[..., None] * self.rates()) @ self.sizes()).real / len(self.amplitudes)

    def get_config(self):
        """Return the configuration that `from_config` takes."""
        names = ("amplitudes", "exponents", "weight_amplitudes", "weight_exponents")
        kept = [False, False, *self.shared]
        return {
            name: None if shared else np.stack([(v := getattr(self, name)).real, v.imag], axis=1).tolist()
            for name, shared in zip(names, kept, strict=True)
        }


def _numbers(what: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 2:
        values = values[:, 0] + 1j * values[:, 1]
    if values.ndim != 1 or not np.isfinite(values := values.astype(np.complex128)).all():
        raise ValueError(f"`{what}` must be a list of finite numbers. Received: {values.tolist()}.")
    return values


class ExponentialTowers:
    """Towers of `Exponentials`: projection j belongs to point j mod K, so that all points have equally many."""

    folds = False  # Φ depends on the norm of x too
    spread = 1.0

    def __init__(self, num_features: int, expansion: Exponentials, shift: float):
        points = len(expansion.amplitudes)
        needed = points if expansion.real else 2 * points
        if num_features < needed:
            raise ValueError(f"`num_features` is too small: {points} points need {needed} features. "
                             f"Received: {num_features}.")  # fmt: skip
        repeats = num_features // needed
        self.shift, self.real = shift, expansion.real
        self.projections = points * repeats
        self.count = self.projections if self.real else 2 * self.projections
        self.groups, self.draws_offset = [self.projections], False
        self.amplitudes, self.exponents, self.weight_amplitudes, self.weight_exponents = (
            np.tile(values, repeats)
            for values in (expansion.amplitudes, expansion.exponents, expansion.weight_amplitudes,
                           expansion.weight_exponents)
        )  # fmt: skip

    def _parts(self, rows, projection, amplitudes, exponents):
        """Return size and angle of amplitude · exp(κ a g·v - a²‖v‖²/2 - M‖g‖²) of rows v.

        The size includes the factors κ^(d/2) and 1/√(number of projections).
        """
        rows, projection = ops.cast(rows, "float32"), ops.cast(projection, "float32")
        product, norms = ops.matmul(rows, projection), ops.sum(ops.square(rows), axis=-1, keepdims=True)
        kappa, squares = math.sqrt(1 + 4 * self.shift), np.square(exponents)
        size = kappa * _float(exponents.real) * product - _float(squares.real / 2) * norms
        size = size - self.shift * ops.sum(ops.square(projection), axis=0)
        angle = kappa * _float(exponents.imag) * product - _float(squares.imag / 2) * norms
        factor = kappa ** (projection.shape[0] / 2) / math.sqrt(self.projections)
        return _float(factor * np.abs(amplitudes)) * ops.exp(size), angle + _float(np.angle(amplitudes))

    def of_inputs(self, x, projection):
        """Return Φ(x), (..., m), of x (..., d)."""
        size, angle = self._parts(x, projection, self.amplitudes, self.exponents)
        parts = [size * ops.cos(angle)] if self.real else [size * ops.cos(angle), -size * ops.sin(angle)]
        return ops.cast(ops.concatenate(parts, axis=-1), x.dtype)

    def weights(self, kernel, bias, projection, offset):
        """Return Ψ(W, b), (m, u), of W (d, u) and b (u,)."""
        size, angle = self._parts(ops.transpose(kernel), projection, self.weight_amplitudes, self.weight_exponents)
        rates = self.exponents * self.weight_exponents
        size = size * ops.exp(ops.outer(bias, _float(rates.real)))
        angle = angle + ops.outer(bias, _float(rates.imag))
        parts = [size * ops.cos(angle)] if self.real else [size * ops.cos(angle), size * ops.sin(angle)]
        return ops.transpose(ops.concatenate(parts, axis=-1))


def _float(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)
