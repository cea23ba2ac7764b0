"""Smooth activations f whose duals E[f(u) f(v)] are elementary functions of the covariance, for any variances.

Each class states the formula of its dual for (u, v) ~ N(0, K) with K = [[k11, k12], [k12, k22]]. The numbers in f(x)
(a, b, c, gamma ...) are arguments of the `Scalar` from which the activation is made.

The duals of sin, cos, rbf (Rahimi & Recht, 2007), exp, gaussian and gabor are Gaussian integrals of exponentials; erf
is due to Williams (1997); gelu to Tsuchida, Pearce et al. (2021, arXiv 2002.08517), derived here from Stein's lemma;
exp_normalized to Shankar et al. (2020). All slopes are finite at correlation 1.
"""

import math

import jax.numpy as jnp

from kernel_gen.activations.base import Activation, correlation
from linearized.base.errors import UserError


class Sin(Activation):
    """The sine a sin(b x + c), with a = b = 1 and c = 0 by default.

    Its dual E[f(u) f(v)], for normal u and v of variances k11 and k22 and covariance k12, is a²/2 [exp(-b²(k11 + k22 -
    2 k12)/2) - cos(2c) exp(-b²(k11 + k22 + 2 k12)/2)].
    """

    shift = 0.0  # added to the phase c

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        a, b, c = (self.scalar.split()[1].get(name, value) for name, value in (("a", 1.0), ("b", 1.0), ("c", 0.0)))
        return _trigonometric(k12, one, two, a, b, c + self.shift)


class Cos(Sin):
    """The cosine a cos(b x + c), which is the sine shifted by π/2, with a = b = 1 and c = 0 by default."""

    shift = math.pi / 2


class Rbf(Activation):
    """The function √2 sin(√(2γ) x + π/4), a random Fourier feature, with the dual exp(-γ(k11 + k22 - 2 k12)).

    That is the squared exponential kernel. k11 and k22 are the variances of both inputs, and k12 is their covariance.
    `gamma` is 1 by default.
    """

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        gamma = self.scalar.split()[1].get("gamma", 1.0)
        dual = jnp.exp(-gamma * (one + two - 2 * k12))
        return dual, 2 * gamma * dual


def _trigonometric(k12, k11, k22, a, b, c):
    """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of f(x) = a sin(b x + c).

    u and v are normal with variances k11 and k22 and covariance k12. Half the difference of the two exponentials is
    computed as a sinh, so that small variances keep full precision.
    """
    mean, cross = b**2 * (k11 + k22) / 2, b**2 * jnp.abs(k12)
    near, far = jnp.exp(cross - mean), jnp.exp(-cross - mean)
    plus = jnp.where(k12 < 0, near, far)  # exp(-b²(k11 + k22 + 2 k12)/2)
    odd = -near * jnp.expm1(-2 * cross) / 2 * jnp.sign(k12)
    dual = a**2 * (odd + math.sin(c) ** 2 * plus)
    slope = (a * b) ** 2 * ((near + far) / 2 - math.sin(c) ** 2 * plus)
    return dual, slope


class Erf(Activation):
    """The error function a erf(b x) + c, with a = b = 1 and c = 0 by default.

    Its dual, for variances k11 and k22 and covariance k12 of both inputs, is (2a²/π) arcsin(2b²k12 / √((1 + 2b²k11)(1 +
    2b²k22))) + c².
    """

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        a, b, c = (self.scalar.split()[1].get(name, value) for name, value in (("a", 1.0), ("b", 1.0), ("c", 0.0)))
        return _erf(k12, one, two, a, b, c)


class SigmoidLike(Activation):
    """The function ½ erf(x / 2.402...) + ½, which approximates the sigmoid, with the dual of `Erf`."""

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        return _erf(k12, one, two, 0.5, 1 / 2.4020563531719796, 0.5)


def _erf(k12, k11, k22, a, b, c):
    det = _Determinant(k12, k11, k22, 2 * b**2)
    return 2 * a**2 / math.pi * jnp.arctan2(det.sine, det.root) + c**2, 4 * (a * b) ** 2 / math.pi / det.whole_root


class _Determinant:
    """The determinant D of 1 + xK, computed without products of variances, which overflow float32 from 1e19 on.

    K = [[k11, k12], [k12, k22]] is the covariance of the two inputs of an activation, and x a number. Let c be the
    correlation and q = √((1 + x k11)(1 + x k22)). For x > 0 every attribute except `whole_root` is between 0 and 1 in
    magnitude. No attribute is computed as a difference of nearly equal numbers, so the duals are accurate at
    correlation 1 and at large variances.

    Attributes:
        inverses, shares: 1/(1 + x k) and x k/(1 + x k) for k = k11 and k = k22.
        c_square, s_square: c² and 1 - c².
        sine: `|x|` k12/q.
        square, root: D/q² and its square root.
        whole_root: √D.
    """

    def __init__(self, k12, k11, k22, x):
        c, s = correlation(k12, jnp.sqrt(k11), jnp.sqrt(k22))
        (i1, i2), (h1, h2) = ([1 / (1 + x * k) for k in (k11, k22)], [x * k / (1 + x * k) for k in (k11, k22)])
        self.inverses, self.shares, self.c_square, self.s_square = (i1, i2), (h1, h2), c * c, s * s
        self.sine = c * jnp.sqrt(h1 * h2)
        self.square = i1 + i2 * h1 + h1 * h2 * self.s_square
        self.root = jnp.sqrt(self.square)
        self.whole_root = self.root / jnp.sqrt(i1) / jnp.sqrt(i2)


class Gelu(Activation):
    """The Gaussian error linear unit x Φ(x), with Φ the normal distribution function and φ its density.

    k11 and k22 are the variances of the inputs u and v, and k12 is their covariance. With A = 1 + k11, B = 1 + k22, D =
    AB - k12², P = E[Φ(u)Φ(v)] = ¼ + arctan(k12/√D)/2π and Q = E[φ(u)φ(v)] = 1/(2π√D) the dual is

        E[f(u)f(v)] = k12 P + Q (k11 k22 + k12² (1/A + 1/B - 1)).
    """

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        det = _Determinant(k12, one, two, 1)
        (i1, i2), (h1, h2) = det.inverses, det.shares
        normal = 0.25 + jnp.arctan2(det.sine, det.root) / (2 * math.pi)
        # k11 k22 (1 - c²) + k12² (1/A + 1/B), which is the last bracket without its cancelling terms, over √D.
        rest = (one * jnp.sqrt(i1) * (two * jnp.sqrt(i2)) * det.s_square + k12 * det.sine * (i1 + i2)) / det.root
        less = i1 * i2 + det.s_square * (h1 * i2 + h2 * i1) + det.c_square * (h1 * i2**2 + h2 * i1**2)
        dual = k12 * normal + rest / (2 * math.pi)
        slope = normal + det.sine / det.root * (2 * (i1 + i2) - less / det.square) / (2 * math.pi)
        return dual, slope


class Exp(Activation):
    """The exponential a exp(b x), with a = b = 1 by default.

    Its dual, for variances k11 and k22 and covariance k12 of both inputs, is a² exp(b²(k11 + k22 + 2 k12)/2). The
    factor a² is computed in the exponent, so that a small a keeps the dual finite at large variances.
    """

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        a, b = (self.scalar.split()[1].get(name, 1.0) for name in ("a", "b"))
        log = 2 * math.log(abs(a)) if a else -math.inf
        dual = jnp.exp(b**2 * ((one + two) / 2 + k12) + log)
        return dual, b**2 * dual


class Gaussian(Activation):
    """The Gaussian a exp(b x²), with a = 1 and b = -1 by default.

    Its dual, for variances k11 and k22 and covariance k12 of both inputs, is a² / √((1 - 2b k11)(1 - 2b k22) - 4b²
    k12²). For b > 0 the dual exists at variances below 1/(4b).
    """

    @property
    def largest_variance(self):
        """The smallest variance at which E[f²] is infinite: 1/(4b) for b > 0, otherwise infinity."""
        b = self.scalar.split()[1].get("b", -1.0)
        return 1 / (4 * b) if b > 0 else math.inf

    def terms(self, variance, dtype="float64"):
        """Return 0, because the dual has a closed form.

        Raises `UserError` for variances at which the second moment is infinite.
        """
        if variance >= self.largest_variance:
            raise UserError(
                f"The second moment of {self.text} is infinite at variances of {self.largest_variance:.6g} and above. "
                f"Received: {variance:.6g}. Lower --weight_std, scale the inputs, or take a smaller b."
            )
        return 0

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        named = self.scalar.split()[1]
        a, b = named.get("a", 1.0), named.get("b", -1.0)
        det = _Determinant(k12, one, two, -2 * b)
        dual = a**2 / det.whole_root
        return dual, 2 * abs(b) * det.sine / det.square * jnp.sqrt(det.inverses[0]) * jnp.sqrt(det.inverses[1]) * dual


class Gabor(Activation):
    """The Gabor function exp(-x²) sin(x).

    Let K = [[k11, k12], [k12, k22]] be the covariance of both inputs, D the determinant of 1 + 2K, w = k12/D and
    m = (k11 + k22 + 4 det K)/(2D). The dual is exp(-m) sinh(w)/√D. The Gaussian factor turns the covariance K into
    K(1 + 2K)⁻¹, at which the dual of the sine is evaluated.
    """

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        det = _Determinant(k12, one, two, 2)
        (i1, i2), (h1, h2) = det.inverses, det.shares
        mean = ((h1 * i2 + h2 * i1) / 2 + h1 * h2 * det.s_square) / (2 * det.square)
        scale = jnp.sqrt(i1) * jnp.sqrt(i2)
        inverse = (scale / det.root) ** 2  # 1/D
        w = det.sine / 2 * scale / det.square
        factor = jnp.exp(-mean) / det.whole_root
        slope = jnp.cosh(w) * (inverse + 8 * w * w) + 8 * w * (1 - mean) * jnp.sinh(w)
        return factor * jnp.sinh(w), factor * slope


class ExpNormalized(Activation):
    """The activation with the dual √(k11 k22) exp(γ(c + shift)) of inputs with correlation c = k12/√(k11 k22).

    The dual is finite at any variances k11 and k22. It is the dual of exp(√γ x + γ(shift - 1)/2) at variances of 1. At
    other variances it is continued so that it is homogeneous in both standard deviations, and it is then not the dual
    of that function. `gamma` is 1 and `shift` is -1 by default.
    """

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v, in closed form.

        `k12` are their covariances, `one` and `two` the variances of u and of v; `terms` is not used.
        """
        named = self.scalar.split()[1]
        gamma, shift = named.get("gamma", 1.0), named.get("shift", -1.0)
        std1, std2 = jnp.sqrt(one), jnp.sqrt(two)
        value = jnp.exp(gamma * (correlation(k12, std1, std2)[0] + shift))
        return std1 * std2 * value, gamma * value
