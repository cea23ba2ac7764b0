"""Smooth activations whose duals are elementary functions of the covariance, for any variances.

sin, cos, rbf (Rahimi & Recht, 2007), exp, gaussian and gabor are Gaussian integrals of exponentials; erf is Williams
(1997); gelu is Tsuchida, Pearce et al. (2021, arXiv 2002.08517), here from Stein's lemma; exp_normalized is Shankar et
al. (2020). All slopes are finite at correlation 1.
"""

import math

import jax
import jax.numpy as jnp

from kernel_gen.activations.base import Activation, correlation


class Sin(Activation):
    """a sin(b x + c): a²/2 [exp(-b²(k11 + k22 - 2 k12)/2) - cos(2c) exp(-b²(k11 + k22 + 2 k12)/2)]."""

    shift = 0.0  # added to c

    def pair(self, k12, one, two, terms=0):
        a, b, c = (self.scalar.split()[1].get(name, value) for name, value in (("a", 1.0), ("b", 1.0), ("c", 0.0)))
        return _trigonometric(k12, one, two, a, b, c + self.shift)


class Cos(Sin):
    """a cos(b x + c), the sine a quarter turn on."""

    shift = math.pi / 2


class Rbf(Activation):
    """√2 sin(√(2γ) x + π/4): exp(-γ(k11 + k22 - 2 k12)), the squared exponential kernel."""

    def pair(self, k12, one, two, terms=0):
        gamma = self.scalar.split()[1].get("gamma", 1.0)
        dual = jnp.exp(-gamma * (one + two - 2 * k12))
        return dual, 2 * gamma * dual


def _trigonometric(k12, k11, k22, a, b, c):
    """Half the difference of the two exponentials as a sinh, so that small variances lose nothing."""
    mean, cross = b**2 * (k11 + k22) / 2, b**2 * jnp.abs(k12)
    near, far = jnp.exp(cross - mean), jnp.exp(-cross - mean)
    plus = jnp.where(k12 < 0, near, far)  # exp(-b²(k11 + k22 + 2 k12)/2)
    odd = -near * jnp.expm1(-2 * cross) / 2 * jnp.sign(k12)
    dual = a**2 * (odd + math.sin(c) ** 2 * plus)
    slope = (a * b) ** 2 * ((near + far) / 2 - math.sin(c) ** 2 * plus)
    return dual, slope


class Erf(Activation):
    """a erf(b x) + c: (2a²/π) arcsin(2b²k12 / √((1 + 2b²k11)(1 + 2b²k22))) + c²."""

    def pair(self, k12, one, two, terms=0):
        a, b, c = (self.scalar.split()[1].get(name, value) for name, value in (("a", 1.0), ("b", 1.0), ("c", 0.0)))
        return _erf(k12, one, two, a, b, c)


class SigmoidLike(Activation):
    """½ erf(x / 2.402...) + ½."""

    def pair(self, k12, one, two, terms=0):
        return _erf(k12, one, two, 0.5, 1 / 2.4020563531719796, 0.5)


def _erf(k12, k11, k22, a, b, c):
    product, cross = (1 + 2 * b**2 * k11) * (1 + 2 * b**2 * k22), 2 * b**2 * k12
    root = jnp.sqrt(jnp.maximum(product - cross**2, 1))  # the determinant of 1 + 2b²K
    dual = 2 * a**2 / math.pi * jnp.arctan2(cross, root) + c**2
    return dual, 4 * (a * b) ** 2 / math.pi / root


class Gelu(Activation):
    """x Φ(x). With A = 1 + k11, B = 1 + k22, D = AB - k12² and Q = E[φ(u)φ(v)] = 1/(2π√D),

    E[f(u)f(v)] = k12 P + Q (k11 k22 + k12² (1/A + 1/B - 1)),  P = E[Φ(u)Φ(v)] = ¼ + arctan(k12/√D)/2π.
    """

    def pair(self, k12, one, two, terms=0):
        plus1, plus2 = 1 + one, 1 + two
        det = jnp.maximum(plus1 * plus2 - k12**2, 1)  # of 1 + K, at least 1
        root = jnp.sqrt(det)
        normal = 0.25 + jnp.arctan2(k12, root) / (2 * math.pi)
        density = 1 / (2 * math.pi * root)
        factor = 1 / plus1 + 1 / plus2 - 1
        rest = one * two + k12**2 * factor
        dual = k12 * normal + density * rest
        slope = normal + density * k12 * (1 + 2 * factor + rest / det)
        return dual, slope


class Exp(Activation):
    """a exp(b x): a² exp(b²(k11 + k22 + 2 k12)/2)."""

    def pair(self, k12, one, two, terms=0):
        a, b = (self.scalar.split()[1].get(name, 1.0) for name in ("a", "b"))
        dual = a**2 * jnp.exp(b**2 * ((one + two) / 2 + k12))
        return dual, b**2 * dual


class Gaussian(Activation):
    """a exp(b x²), b < 0: a² / √((1 - 2b k11)(1 - 2b k22) - 4b² k12²)."""

    def pair(self, k12, one, two, terms=0):
        named = self.scalar.split()[1]
        a, b = named.get("a", 1.0), named.get("b", -1.0)
        det = jnp.maximum((1 - 2 * b * one) * (1 - 2 * b * two) - (2 * b * k12) ** 2, 1)
        dual = a**2 / jnp.sqrt(det)
        return dual, (2 * b) ** 2 * k12 / det * dual


class Gabor(Activation):
    """exp(-x²) sin(x): the Gaussian factor turns K into K(1 + 2K)⁻¹, under which the sines are taken."""

    def pair(self, k12, one, two, terms=0):
        return by_autodiff(_gabor, k12, one, two)


def _gabor(k12, k11, k22):
    det, short = (1 + 2 * k11) * (1 + 2 * k22) - 4 * k12**2, k11 * k22 - k12**2  # no maximum: its slope halves on a tie
    return jnp.exp(-(k11 + k22 + 4 * short) / (2 * det)) * jnp.sinh(k12 / det) / jnp.sqrt(det)


class ExpNormalized(Activation):
    """‖k‖ exp(γ(c + shift)), ‖k‖ = √(k11 k22), c = k12/‖k‖: the dual on variances of 1, made homogeneous on others."""

    def pair(self, k12, one, two, terms=0):
        named = self.scalar.split()[1]
        gamma, shift = named.get("gamma", 1.0), named.get("shift", -1.0)
        std1, std2 = jnp.sqrt(one), jnp.sqrt(two)
        value = jnp.exp(gamma * (correlation(k12, std1, std2)[0] + shift))
        return std1 * std2 * value, gamma * value


def by_autodiff(dual, k12: jax.Array, k11: jax.Array, k22: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A dual that is smooth in k12 up to correlation 1, with its derivative."""
    return jax.jvp(lambda k: dual(k, k11, k22), (k12,), (jnp.ones_like(k12),))
