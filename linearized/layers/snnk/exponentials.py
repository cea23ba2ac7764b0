"""Universal random features of activations that are sums of exponentials (Choromanski et al., ICLR 2024).

The source is the section on universal random features of "Scalable Neural Network Kernels". For inputs x and weights w
of length d, a random projection g ~ N(0, I) and all complex a and b,

    E exp(a g·x - a²‖x‖²/2) exp(b g·w - b²‖w‖²/2) = exp(a b w·x).

An activation f(z) = (1/K) Re Σ_j A_j B_j exp(a_j b_j z) with K terms can therefore be estimated. The features of x have
the amplitudes A_j and the exponents a_j, and the features of w have the amplitudes B_j and the exponents b_j. In the
paper, these numbers are the values of functions A, B, a and b at points ξ_j that are drawn from a measure; the adapters
of the paper use A = B and a = b.

A shift M >= 0 replaces a g·x by √(1+4M) a g·x - M‖g‖² and b g·w by √(1+4M) b g·w - M‖g‖², and multiplies both features
by (1+4M)^(d/4). The mean is unchanged, and the features of large projections are bounded.
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
    """Activation that is a sum of K exponentials, f(z) = (1/K) Re Σ_j A_j B_j exp(a_j b_j z).

    SNNK layers estimate it by random features of the inputs with the numbers A_j and a_j, and random features of the
    weights with the numbers B_j and b_j.

    Args:
        amplitudes: `A_j`, the amplitudes of the features of inputs: K numbers, real or complex. A list of pairs (real,
            imaginary part) is accepted.
        exponents: `a_j`, the exponents of the features of inputs. If these and the amplitudes are real, each term needs
            one real feature, otherwise two.
        weight_amplitudes: `B_j`, the amplitudes of the features of weights; None: equal to `amplitudes`.
        weight_exponents: `b_j`, the exponents of the features of weights; None: equal to `exponents`.

    Raises:
        ValueError: For lists of different lengths, numbers that are not finite, and a constant f.
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
        """Return the sum of exponentials with amplitudes and exponents that are values of functions at given points.

        Args:
            xi: Points ξ_j, one for each of the K terms. In the paper they are drawn from a measure.
            amplitude: A, a function on arrays.
            exponent: a, a function on arrays.
            weight_amplitude: B; None: A.
            weight_exponent: b; None: a.
        """
        xi = np.asarray(xi)
        values = (None if f is None else np.broadcast_to(np.asarray(f(xi)), xi.shape)
                  for f in (amplitude, exponent, weight_amplitude, weight_exponent))  # fmt: skip
        return cls(*values)

    @property
    def real(self) -> bool:
        """Whether the features of inputs are real, because their amplitudes and exponents are real numbers."""
        return not (self.amplitudes.imag.any() or self.exponents.imag.any())

    def sizes(self) -> np.ndarray:
        """Return the products `A_j B_j` of the amplitudes of inputs and of weights, K complex numbers."""
        return self.amplitudes * self.weight_amplitudes

    def rates(self) -> np.ndarray:
        """Return the products `a_j b_j` of the exponents of inputs and of weights, K complex numbers."""
        return self.exponents * self.weight_exponents

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Return f(z) = (1/K) Re Σ_j A_j B_j exp(a_j b_j z) elementwise for an array z."""
        return (np.exp(np.asarray(z)[..., None] * self.rates()) @ self.sizes()).real / len(self.amplitudes)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
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
    """Random features Φ(x) of inputs and Ψ(w, b) of weights, whose products estimate f(w·x + b).

    The activation f is an `Exponentials`, a sum of K exponentials. Projection j belongs to the term j mod K of the sum,
    so that all K terms have the same number of projections.

    Args:
        num_features: Largest number of real features; at least K for real features of inputs, and 2 K for complex ones.
        expansion: Sum f of exponentials.
        shift: M >= 0, which bounds the features of large projections g: the exponent κ a g·x - M‖g‖² with
            κ = √(1 + 4M) replaces a g·x, where a is the exponent of a term.

    Raises:
        ValueError: If `num_features` is too small.
    """

    folds = False  # Φ depends on the norm of x too
    spread = 1.0  # norm to which a fit scales inputs

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
        """Return absolute value and angle of the features A · exp(κ a g·v - a²‖v‖²/2 - M‖g‖²) of inputs or weights v.

        Both have the shape (..., projections). M is the shift and κ = √(1+4M). The absolute value also includes the
        factors κ^(d/2) and 1/√(number of projections).

        Args:
            rows: Inputs or weights v, (..., d).
            projection: Projections g, (d, projections).
            amplitudes: Complex amplitude A of each projection.
            exponents: Complex exponent a of each projection.
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
        """Return the features Φ(x), (..., m), of inputs x (..., d), for random projections (d, projections)."""
        size, angle = self._parts(x, projection, self.amplitudes, self.exponents)
        parts = [size * ops.cos(angle)] if self.real else [size * ops.cos(angle), -size * ops.sin(angle)]
        return ops.cast(ops.concatenate(parts, axis=-1), x.dtype)

    def weights(self, kernel, bias, projection, offset):
        """Return the features Ψ(W, b), (m, u), of the weights and biases of u units.

        Args:
            kernel: Weights W, (d, u).
            bias: Biases b, (u,).
            projection: Random projections, (d, projections).
            offset: Not used; other features have random offsets.
        """
        size, angle = self._parts(ops.transpose(kernel), projection, self.weight_amplitudes, self.weight_exponents)
        rates = self.exponents * self.weight_exponents
        size = size * ops.exp(ops.outer(bias, _float(rates.real)))
        angle = angle + ops.outer(bias, _float(rates.imag))
        parts = [size * ops.cos(angle)] if self.real else [size * ops.cos(angle), size * ops.sin(angle)]
        return ops.transpose(ops.concatenate(parts, axis=-1))


def _float(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)
