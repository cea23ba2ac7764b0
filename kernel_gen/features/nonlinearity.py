"""The activation σ, its derivative σ' and their Hermite series at any scale s, from which features are computed.

For u ~ N(0, s₁²) and v ~ N(0, s₂²) of correlation c, E[σ(u)σ(v)] = Σ_j a_j(s₁) a_j(s₂) c^j. The coefficients are
a_j(s) = E[σ(s z) h_j(z)] for z ~ N(0, 1) and the normalised Hermite polynomials h_j (see
`kernel_gen.activations.hermite`). An input of any norm thus has a series, with its own scale s. The slope E[σ'(u)σ'(v)]
has such a series too; σ' is the derivative almost everywhere.

A positively homogeneous σ (ReLU, `|x|`, ExpNormalized) has σ(s z) = s σ(z) and a_j(s) = s a_j(1). For any other σ,
coefficients are computed on first use at the scales s = e^{k/50} with whole numbers k, and interpolated between the
four nearest ones. They therefore do not depend on the order of the inputs. The relative error of E σ² is 1e-7 for
functions that grow like x, 1e-6 for x² and 5e-6 for x³. The error of a_j is smaller than this relative error times
√(E σ²). Oscillations reduce the accuracy: the a_j of sin and cos have errors of 1e-6 at s = 4, 6e-5 at s = 8 and 3e-4
at s = 16.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernel_gen.activations import activation, hermite, name_of
from kernel_gen.activations.elementwise import FromNumpy
from linearized.base.activations import parse
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64

STEP = 0.02  # distance in log s between two nodes at which coefficients are computed
LEAST = 1e-9  # the scale s that replaces 0
# Functions that are homogeneous of degree 1; unit_hermite is treated by its own degree
HOMOGENEOUS = ("relu", "leaky_relu", "abs", "exp_normalized")
REACH = 0.75  # share of the largest variance with finite E σ² for which the quadrature of coefficients is accurate
KINKS = {"relu6": (0.0, 6.0), "hard_sigmoid": (-3.0, 3.0), "hard_silu": (-3.0, 3.0), "hard_tanh": (-1.0, 1.0)}


class ScaledSeries(NamedTuple):
    """The Hermite series of z ↦ σ(s z) and z ↦ σ'(s z) at the scale s of each column, for an activation σ.

    Attributes:
        value: Coefficients a_j(s) of σ for j = 0 ... degree, (degree + 1, columns).
        slope: Coefficients of σ' for j = 0 ... degree, (degree + 1, columns).
        square, slope_square: E[σ(s z)²] and E[σ'(s z)²] for z ~ N(0, 1), (columns,), including all terms beyond
            `degree`.
    """

    value: Float64[np.ndarray, "terms columns"]
    slope: Float64[np.ndarray, "terms columns"]
    square: Float64[np.ndarray, " columns"]
    slope_square: Float64[np.ndarray, " columns"]


class Nonlinearity:
    """An activation σ with its derivative and its Hermite series at any scale s of its inputs, for features.

    Args:
        function: σ(x, xp), entry by entry, where xp is the module numpy or jax.numpy.
        homogeneous: Degree q >= 0 of homogeneity. At a scale s, s^q σ(x/s) is then used in place of σ(x). Both are
            equal for functions that are positively homogeneous of degree q, such as ReLU and `|x|` with q = 1. None: σ
            itself is used at every scale.
        kinks: Points where σ or its derivative is not smooth.
        largest_variance: Smallest variance s² at which E[σ(s z)²] is infinite.
    """

    def __init__(
        self, function: Callable[[Any, Any], Any], *, homogeneous: int | None = None,
        kinks: tuple[float, ...] = (0.0,), largest_variance: float = math.inf,
    ):  # fmt: skip
        self._function, self.homogeneous, self.kinks = function, homogeneous, kinks
        self._most = REACH * largest_variance
        self._nodes: dict[tuple[int, int], np.ndarray] = {}

    def __call__(
        self, z: Float[np.ndarray, "units columns"], scales: Float[np.ndarray, " columns"]
    ) -> tuple[Float[np.ndarray, "units columns"], Float[np.ndarray, "units columns"]]:
        """Return σ(s z) and σ'(s z), two arrays (units, columns) in the dtype of z.

        Args:
            z: Standard normal inputs, (units, columns).
            scales: The scale s of each column, (columns,).
        """
        import jax

        scales = scales.astype(z.dtype, copy=False)
        with jax.enable_x64(z.dtype == np.float64):
            power = self.homogeneous
            value, slope = (np.asarray(part) for part in self._compiled(z if power is not None else z * scales))
        if power is None:
            return value, slope
        return value * scales**power, slope * scales ** max(power - 1, 0)

    def series(self, scales: Float[np.ndarray, " columns"], degree: int) -> ScaledSeries:
        """Return the Hermite series of σ(s z) and σ'(s z) at the scale s of each column.

        Args:
            scales: s, (columns,).
            degree: Largest index j of the coefficients.

        Raises `UserError` for scales beyond the range in which the coefficients are accurate.
        """
        scales = scales.astype(np.float64)
        if scales.max(initial=0) ** 2 > self._most:
            raise UserError(
                f"Features of this activation take variances up to {self._most:.4g}. Received: "
                f"{scales.max() ** 2:.4g}. Lower --weight_std, or scale the inputs."
            )
        if self.homogeneous is not None:
            first, second = self.homogeneous, max(self.homogeneous - 1, 0)
            powers = np.repeat([first, second, 2 * first, 2 * second], [degree + 1, degree + 1, 1, 1])
            table = self._at(0, degree)[:, None] * scales ** powers[:, None]
        else:
            table = self._interpolated(np.log(np.maximum(scales, LEAST)) / STEP, degree)
        return ScaledSeries(table[: degree + 1], table[degree + 1 : -2], table[-2], table[-1])

    def _interpolated(
        self, places: Float64[np.ndarray, " columns"], degree: int
    ) -> Float64[np.ndarray, "rows columns"]:
        """Return the Hermite series at the scales s of the columns, by cubic interpolation in log s.

        Args:
            places: log(s)/STEP of each column.
            degree: Largest index of the coefficients.

        Returns: The fields of a `ScaledSeries`, one below the other, in one array (rows, columns).
        """
        left = np.floor(places).astype(int)
        nodes, where = np.unique(left, return_inverse=True)
        x = places - left
        weights = (-x * (x - 1) * (x - 2) / 6, (x + 1) * (x - 1) * (x - 2) / 2, -(x + 1) * x * (x - 2) / 2,
                   (x + 1) * x * (x - 1) / 6)  # fmt: skip
        return sum(
            weight * np.stack([self._at(int(node) + shift, degree) for node in nodes], axis=1)[:, where]
            for shift, weight in zip((-1, 0, 1, 2), weights, strict=True)
        )

    def _at(self, node: int, degree: int) -> Float64[np.ndarray, " rows"]:
        """Return the Hermite series at the scale s = e^{node·STEP}, and cache it.

        Args:
            node: Whole number that determines the scale.
            degree: Largest index of the coefficients.

        Returns: The fields of a `ScaledSeries`, one after the other, in one array (rows,).
        """
        found = self._nodes.get((node, degree))
        if found is None:
            found = self._nodes[node, degree] = self._computed(float(np.exp(node * STEP)), degree)
        return found

    def _computed(self, scale: float, degree: int) -> Float64[np.ndarray, " rows"]:
        import jax

        def slope(t: np.ndarray) -> np.ndarray:
            with jax.enable_x64(True):
                return np.asarray(self._compiled(t)[1])

        def moments(function: Callable, degree: int) -> np.ndarray:
            with jax.enable_x64(True):  # user-defined functions are written in jax.numpy
                return hermite.coefficients(function, degree, scale, self.kinks)

        return np.concatenate([
            moments(lambda t: self._function(t, np), degree), moments(slope, degree),
            moments(lambda t: self._function(t, np) ** 2, 0), moments(lambda t: slope(t) ** 2, 0),
        ])  # fmt: skip

    @functools.cached_property
    def _compiled(self) -> Callable:
        import jax
        import jax.numpy as jnp

        return jax.jit(lambda t: jax.jvp(lambda x: self._function(x, jnp), (t,), (jnp.ones_like(t),)))


@functools.lru_cache(maxsize=256)
def _named(text: str) -> Nonlinearity:
    scalar, made = parse(text), activation(text)
    power = 1 if scalar.name in HOMOGENEOUS else None
    power = made.degree if scalar.name == "unit_hermite" else power
    kinks = KINKS.get(scalar.name, (0.0,))
    return Nonlinearity(scalar, homogeneous=power, kinks=kinks, largest_variance=made.largest_variance)


@functools.lru_cache(maxsize=64)
def _own(made: Any) -> Nonlinearity:
    made.function(np.zeros(1))  # raises for an activation that was made from its dual alone
    if isinstance(made, FromNumpy):
        raise UserError(f"Features need the derivative of {made.text}, which JAX cannot trace. Write it in jax.numpy.")
    return Nonlinearity(made.function, largest_variance=made.largest_variance)


def nonlinearity(given: Any) -> Nonlinearity:
    """Return the `Nonlinearity` of an activation; equal activations share one object.

    Args:
        given: A name such as gelu or exp_normalized(gamma=2), a function, or an `Activation`.

    Raises `UserError` for an activation that is unknown, not elementwise or without a dual, and for one without a
    function that JAX can trace.
    """
    text = name_of(given)
    return _own(activation(given)) if text is None else _named(text)
