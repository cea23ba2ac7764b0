"""Polynomials, which have a finite Hermite series for any variance, so that the duals are exact.

With He_n(√v z) = Σ_i n! / (i! 2^i (n-2i)!) √v^(n-2i) (v-1)^i He_{n-2i}(z), the coefficients of f(√v z) are
√v^l b_l(v), where b_l is a polynomial in v - 1 (from Hermite coefficients) or in v (from powers), and the dual is
Σ_l k12^l b_l(k11) b_l(k22). This form includes all terms, those of degrees 0 and 1 too, and holds for inputs of any
norm.
"""

import math

import jax.numpy as jnp
import numpy as np

from kernel_gen.activations.base import Activation
from linearized.base.activations import Scalar


class Polynomial(Activation):
    """The polynomial c₀ + c₁ x + ... given by coefficients of powers, or of normalised Hermite polynomials.

    Costs 4 operations per degree and entry.
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
        """Return b_l at these variances for each l."""
        value = jnp.zeros((len(self.table), *variance.shape), variance.dtype)
        for column in self.table.T[::-1]:
            value = value * (variance - self.centre) + column.reshape(-1, *(1,) * variance.ndim).astype(variance.dtype)
        return value

    def pair(self, k12, one, two, terms=0):
        """Return dual and slope by Horner's rule in k12."""
        dual = slope = jnp.zeros_like(k12)
        for b1, b2 in zip(one[::-1], two[::-1], strict=True):
            slope = slope * k12 + dual
            dual = dual * k12 + b1 * b2
        return dual, slope


def polynomial(scalar: Scalar) -> Polynomial:
    """Return the activation c₀ + c₁ x + ... with the coefficients in the arguments."""
    return Polynomial(scalar, scalar.split()[0])


def monomial(scalar: Scalar) -> Polynomial:
    """Return the activation x^degree.

    Its dual is Σ (degree!)² / (l! (2^i i!)²) k12^l (k11 k22)^i over l + 2i = degree.
    """
    return Polynomial(scalar, [0.0] * _degree(scalar) + [1.0])


def hermite(scalar: Scalar) -> Polynomial:
    """Return the activation He_degree / √degree!, whose dual is k12^degree where both variances are 1."""
    return Polynomial(scalar, [0.0] * _degree(scalar) + [1.0], hermite=True)


class UnitHermite(Activation):
    """He_degree / √degree! with the dual k12^degree of unit variances, used for any variances, as published.

    Source: Han, Zandieh, Lee, Novak, Xiao & Karbasi, NeurIPS 2022; neural_tangents.stax.Hermite. On other variances it
    is a kernel, but not that of the function; `hermite` has the exact dual.
    """

    @property
    def degree(self) -> int:
        """The power of k12."""
        return _degree(self.scalar)

    def pair(self, k12, one, two, terms=0):
        """Return k12^degree and its derivative."""
        degree = self.degree
        if degree == 0:
            return jnp.ones_like(k12), jnp.zeros_like(k12)
        return k12**degree, degree * k12 ** (degree - 1)


def _degree(scalar: Scalar) -> int:
    return int(scalar.split()[1].get("degree", 2))
