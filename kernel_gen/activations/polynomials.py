"""Polynomial activations, whose duals are exact because their Hermite series are finite.

With He_n the probabilists' Hermite polynomials and v the variance of an input √v z, z ~ N(0, 1),

    He_n(√v z) = Σ_i n! / (i! 2^i (n-2i)!) √v^(n-2i) (v-1)^i He_{n-2i}(z)

Therefore the l-th Hermite coefficient of f(√v z) is √v^l b_l(v) with a polynomial b_l. It is computed in powers of v -
1 if f is given by Hermite coefficients, and in powers of v if f is given by powers. The dual is Σ_l k12^l b_l(k11)
b_l(k22), with k12 the covariance and k11 and k22 the variances. The formula holds for inputs of any norm.
"""

import math

import jax.numpy as jnp
import numpy as np

from kernel_gen.activations.base import Activation
from linearized.base.activations import Scalar


class Polynomial(Activation):
    """The activation Σ_k c_k x^k, or Σ_k c_k h_k(x) with the normalised Hermite polynomials h_k = He_k / √k!.

    An entry of the dual costs 4 operations per degree.

    Args:
        scalar: The function, with its name.
        coefficients: The numbers c_0, c_1, ...
        hermite: Whether they are coefficients of h_k instead of powers.
    """

    def __init__(self, scalar: Scalar, coefficients, hermite: bool = False):
        super().__init__(scalar)
        self.centre = 1.0 if hermite else 0.0
        degree = len(coefficients) - 1
        # table[l, i]: factor of √v^l (v - centre)^i in the l-th Hermite coefficient; factorials by their logarithms.
        self.table = np.zeros((degree + 1, degree // 2 + 1))
        for power, coefficient in enumerate(coefficients):
            for i in range(power // 2 + 1):
                left = power - 2 * i
                log = (0.5 if hermite else 1.0) * math.lgamma(power + 1) - math.lgamma(i + 1) - i * math.log(2)
                self.table[left, i] += coefficient * math.exp(log - 0.5 * math.lgamma(left + 1))

    def rows(self, variance, terms):
        """Return the Hermite coefficients b_l of the polynomial at these variances, the factors of k12^l in its dual.

        They have an axis for l before the axes of `variance`; `terms` is not used.
        """
        value = jnp.zeros((len(self.table), *variance.shape), variance.dtype)
        for column in self.table.T[::-1]:
            value = value * (variance - self.centre) + column.reshape(-1, *(1,) * variance.ndim).astype(variance.dtype)
        return value

    def pair(self, k12, one, two, terms=0):
        """Return the dual Σ_l k12^l b_l(k11) b_l(k22) and its derivative with respect to k12, by Horner's rule.

        `k12` are covariances, `one` and `two` the coefficients b_l that `rows` returned for both sides; `terms` is not
        used.
        """
        dual = slope = jnp.zeros_like(k12)
        for b1, b2 in zip(one[::-1], two[::-1], strict=True):
            slope = slope * k12 + dual
            dual = dual * k12 + b1 * b2
        return dual, slope


def polynomial(scalar: Scalar) -> Polynomial:
    """Return the polynomial c₀ + c₁ x + c₂ x² + ... as an activation.

    The coefficients are the positional arguments in `scalar`.
    """
    return Polynomial(scalar, scalar.split()[0])


def monomial(scalar: Scalar) -> Polynomial:
    """Return the monomial x^degree as an activation, with `degree` from `scalar`, by default 2.

    Its dual is Σ (degree!)² / (l! (2^i i!)²) k12^l (k11 k22)^i over l + 2i = degree, with the covariance k12 and the
    variances k11 and k22.
    """
    return Polynomial(scalar, [0.0] * _degree(scalar) + [1.0])


def hermite(scalar: Scalar) -> Polynomial:
    """Return the Hermite polynomial He_degree / √degree! as an activation, with `degree` from `scalar`, by default 2.

    Its dual is k12^degree where both variances are 1, with the covariance k12.
    """
    return Polynomial(scalar, [0.0] * _degree(scalar) + [1.0], hermite=True)


class UnitHermite(Activation):
    """The Hermite polynomial He_degree / √degree! with the dual k12^degree at all variances, for a covariance k12.

    That is the exact dual only at variance 1. At other variances k12^degree is a kernel, but not the dual of the
    function; `hermite` has the exact dual. `degree` is 2 by default. Source: Han, Zandieh, Lee, Novak, Xiao & Karbasi,
    NeurIPS 2022; neural_tangents.stax.Hermite.
    """

    @property
    def degree(self) -> int:
        """The degree of the polynomial, which is the power of k12."""
        return _degree(self.scalar)

    def pair(self, k12, one, two, terms=0):
        """Return k12^degree and its derivative for covariances `k12`; the other arguments are not used."""
        degree = self.degree
        if degree == 0:
            return jnp.ones_like(k12), jnp.zeros_like(k12)
        return k12**degree, degree * k12 ** (degree - 1)


def _degree(scalar: Scalar) -> int:
    return int(scalar.split()[1].get("degree", 2))
