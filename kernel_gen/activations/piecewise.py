"""Activations that are piecewise polynomials, such as ReLU, with their duals E[f(x) f(x')] in closed form.

Such a function is

    f(x) = a₀ + a₁ x + a₂ x² + Σ J (x - t)₊^p over the kinks t >= 0 + Σ J (t - x)₊^p over the kinks t < 0

where x₊ = max(x, 0), and each kink has a position t, a power p >= 0 and a factor J. Each kink term is 0 on the side of
the kink that contains x = 0. Kinks at t ≠ 0 therefore contribute little at small variances, and small inputs keep full
precision.

The inputs x and x' are normal, with standard deviations σ₁ and σ₂ and correlation c. The dual is a sum of moments of
truncated normal variables. For a kink t of power p of the first input and a kink t' of power q of the second, let h =
`|t|`/σ₁ and k = `|t'|`/σ₂. The expectation of the product of the two kink terms, each without its factor J, is σ₁^p
σ₂^q N_pq, where

    N_pq = E[(z₁ - h)₊^p (z₂ - k)₊^q]

for standard normal z₁ and z₂ of correlation r. If t and t' are both >= 0 or both < 0, then r = c. If only one of them
is below 0, then r = -c, because its term is a function of -x. Stein's lemma gives

    N_{p+1,q} = p N_{p-1,q} + r q N_{p,q-1} - h N_{p,q}

At p = 0, φ(h) E[(z₂ - k)₊^q | z₁ = h] replaces the term p N_{p-1,q}, where φ is the normal density. At q = 0 the same
holds with the two inputs exchanged. N₀₀ is the probability P(z₁ > h, z₂ > k). For kinks at 0 the N_pp are half the
arc-cosine kernels (Cho & Saul, 2009). The slopes E[f'(x) f'(x')] are computed by the same formulas from f', without
automatic differentiation, so they are exact at correlation 1. A jump (p = 0) has the derivative 0, as in networks that
are trained by gradients.

Each of the functions `relu` ... `hard_silu` returns a `Piecewise` activation. The argument `scalar` is the same
function as a `Scalar`, which evaluates the function and stores its name and its numbers, such as `alpha`.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from kernel_gen.activations.base import Activation, correlation
from kernel_gen.activations.bivariate import upper_orthant
from linearized.base.activations import Scalar

FARTHEST = 37.0  # standard deviations beyond which a normal probability is negligible, below 1e-299
Kink = tuple[float, int, float]  # (J, p, t): factor, power and position of a kink term, see the module's docstring


class Piecewise(Activation):
    """An activation f that is a polynomial plus kink terms, with dual and slope in closed form.

    f(x) = a₀ + a₁ x + a₂ x² + Σ J (x - t)₊^p over the kinks t >= 0 + Σ J (t - x)₊^p over the kinks t < 0, where y₊ =
    max(y, 0). A pair of kinks that are not both at 0 costs about 40 exponentials per entry of the dual.

    Args:
        scalar: The function f as a `Scalar`, which evaluates it and stores its name.
        kinks: The kinks as triples (J, p, t) of factor, power and position.
        smooth: The coefficients (a₀, a₁, a₂) of the polynomial.
    """

    def __init__(self, scalar: Scalar, kinks: list[Kink], smooth: tuple[float, float, float] = (0.0, 0.0, 0.0)):
        super().__init__(scalar)
        self.kinks, self.smooth = kinks, smooth

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and its derivative E[f'(u) f'(v)] for centred normal u and v.

        They are computed from moments of truncated normal pairs. `k12` are the covariances of u and v, `one` and `two`
        their variances; `terms` is not used.
        """
        moments = Moments(k12, one, two)
        slopes = [(jump * p * _side(t), p - 1, t) for jump, p, t in self.kinks if p]
        _, linear, square = self.smooth
        return moments.product(self.kinks, self.smooth), moments.product(slopes, (linear, 2 * square, 0.0))


class Moments:
    """Moments of truncated Gaussian pairs, from which duals of piecewise polynomials are computed.

    Moments are computed for arrays of covariances. Each moment of two kinks is computed only once. The docstring of the
    module explains the formulas.

    Args:
        k12: Covariances of the two inputs.
        k11: Variances of the first inputs, which broadcast against `k12`.
        k22: Variances of the second inputs, which broadcast against `k12`.

    Attributes:
        stds: Standard deviations σ₁ and σ₂; methods select one of them by `side`, 0 or 1.
        c, s: Correlations c of the two inputs, and √(1 - c²).
    """

    def __init__(self, k12, k11, k22):
        self.k12, self.variances, self.stds = k12, (k11, k22), (jnp.sqrt(k11), jnp.sqrt(k22))
        self.c, self.s = correlation(k12, *self.stds)
        self.found, self.orthants = {}, {}

    def product(self, kinks: list[Kink], smooth: tuple[float, float, float]):
        """Return E[g(u) g(v)] of a piecewise polynomial g, entry by entry, for (u, v) normal with these covariances.

        g is the sum of a₀ + a₁ x + a₂ x² and of a term J (x - t)₊^p for each kink (or J (t - x)₊^p for t < 0).

        Args:
            kinks: The kinks of g as triples (J, p, t).
            smooth: The coefficients (a₀, a₁, a₂) of the polynomial of g.
        """
        constant, linear, square = smooth
        means = [constant + square * variance for variance in self.variances]
        total = means[0] * means[1] + linear**2 * self.k12 + 2 * (square * self.k12) ** 2
        for side in (0, 1):
            # Hermite terms l = 0, 1, 2 of the polynomial on the other side: (c σ)^l / l! E[P^(l)] E[g^(l)].
            spread = self.c * self.stds[1 - side]
            parts = means[1 - side], linear * spread, square * spread**2
            for jump, p, t in kinks:
                for order, part in enumerate(parts):
                    if smooth[order] or (order == 0 and square):
                        total += part * jump * self.stds[side] ** p * self.single(p, t, side, order)
        self._find_orthants([t for _, _, t in kinks])
        for jump1, p, t1 in kinks:
            for jump2, q, t2 in kinks:
                total += jump1 * jump2 * self.stds[0] ** p * self.stds[1] ** q * self.joint(p, q, t1, t2)
        return jnp.broadcast_to(total, jnp.broadcast_shapes(self.k12.shape, *(std.shape for std in self.stds)))

    def threshold(self, t: float, side: int):
        """Return `|t|`/σ, the distance of a kink t from 0 in standard deviations σ of one input.

        The result is at most 37 (`FARTHEST`); the probability of inputs beyond that is below 1e-299.

        Args:
            t: Position of a kink.
            side: 0 for the first input with σ₁, 1 for the second with σ₂.
        """
        if t == 0:
            return jnp.zeros((), self.stds[side].dtype)
        std = jnp.maximum(self.stds[side], jnp.finfo(self.stds[side].dtype).tiny ** 0.5)
        return jnp.minimum(abs(t) / std, FARTHEST)

    def single(self, p: int, t: float, side: int, order: int):
        """Return the expectation of (z - h)₊^p, or of one of its derivatives, for z ~ N(0, 1) and h = `|t|`/σ.

        For t < 0 the result is multiplied by (-1)^order.

        Args:
            p: Power of the kink.
            t: Position of the kink.
            side: 0 for σ₁, 1 for σ₂.
            order: Order of the derivative with respect to z, 0, 1 or 2.
        """
        h, sign = self.threshold(t, side), _side(t) ** order
        if order > p:
            return sign * math.factorial(p) * h ** (order - p - 1) * _phi(h)
        before, now = _phi(h), ndtr(-h)
        for power in range(p - order):
            before, now = now, max(power, 1) * before - h * now
        return sign * math.perm(p, order) * now

    def given(self, q: int, mean):
        """Return the conditional moment E[(mean + s w)₊^q] for w ~ N(0, 1) and s = √(1 - c²), where y₊ = max(y, 0).

        Args:
            q: Power.
            mean: Conditional means, an array; None stands for 0.
        """
        if mean is None:
            return self.s**q * (math.gamma((q + 1) / 2) * 2 ** (q / 2 - 1) / math.sqrt(math.pi))
        safe = jnp.where(self.s > 0, self.s, 1)
        # At s = mean = 0 the ratio is 0, which gives ½
        ratio = jnp.where(self.s > 0, mean / safe, jnp.sign(mean) * FARTHEST)
        before, now = self.s * _phi(ratio), ndtr(ratio)
        for power in range(q):
            before, now = now, mean * now + (before if power == 0 else power * self.s**2 * before)
        return now

    def joint(self, p: int, q: int, t1: float, t2: float):
        """Return E[(z₁ - h)₊^p (z₂ - k)₊^q] at h = `|t1|`/σ₁ and k = `|t2|`/σ₂, for standard normal z₁ and z₂.

        Their correlation is that of the two inputs, c, or -c if exactly one of the two kinks is below 0.

        Args:
            p: Power of the kink of the first input.
            q: Power of the kink of the second input.
            t1: Position of the kink of the first input.
            t2: Position of the kink of the second input.
        """
        key = (p, q, abs(t1), abs(t2), _side(t1) * _side(t2))
        if key not in self.found:
            self.found[key] = self._joint(p, q, t1, t2)
        return self.found[key]

    def _joint(self, p, q, t1, t2):
        h, k, c = self.threshold(t1, 0), self.threshold(t2, 1), self.c * (_side(t1) * _side(t2))
        if p == q == 0:
            if t1 == t2 == 0:
                return 0.25 + jnp.arctan2(c, self.s) / (2 * math.pi)
            return self.orthants[abs(t1), abs(t2), _side(t1) * _side(t2)]
        # Conditional means of z₁ - h at z₂ = k and of z₂ - k at z₁ = h
        mean1, mean2 = (None, None) if t1 == t2 == 0 else (c * k - h, c * h - k)
        if p == 0:  # the same recursion in the other index
            own = _phi(k) * self.given(0, mean1) if q == 1 else (q - 1) * self.joint(0, q - 2, t1, t2)
            rest = c * _phi(h) * self.given(q - 1, mean2)
            return own + rest - (k * self.joint(0, q - 1, t1, t2) if t2 else 0)
        own = _phi(h) * self.given(q, mean2) if p == 1 else (p - 1) * self.joint(p - 2, q, t1, t2)
        cross = q * self.joint(p - 1, q - 1, t1, t2) if q else _phi(k) * self.given(p - 1, mean1)
        return own + c * cross - (h * self.joint(p - 1, q, t1, t2) if t1 else 0)

    def _find_orthants(self, positions: list[float]) -> None:
        """Compute and store the probabilities that two inputs exceed two kinks, for each pair of these positions.

        They are P(z₁ > h, z₂ > k) for standard normal z₁ and z₂, where h and k are the distances of the kinks from 0 in
        standard deviations. Pairs with both kinks at 0 are left out. The pairs are processed in a loop, because XLA
        takes a second to compile each copy of `upper_orthant`.
        """
        pairs = {(abs(t1), abs(t2), _side(t1) * _side(t2)) for t1 in positions for t2 in positions if t1 or t2}
        pairs = sorted(pairs - self.orthants.keys())
        if not pairs:
            return
        limits = [
            jnp.stack([jnp.broadcast_to(self.threshold(pair[side], side), std.shape) for pair in pairs])
            for side, std in enumerate(self.stds)
        ]
        signs = jnp.asarray([sign for *_, sign in pairs], self.c.dtype)
        found = jax.lax.map(lambda each: upper_orthant(each[0], each[1], each[2] * self.c, self.s), (*limits, signs))
        self.orthants.update(zip(pairs, found, strict=True))


def _side(t: float) -> int:
    return -1 if t < 0 else 1


def _phi(x):
    return jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def relu(scalar: Scalar) -> Piecewise:
    """Return the ReLU, max(x, 0), as an activation with its dual; `scalar` is the function without the dual."""
    return Piecewise(scalar, [(1.0, 1, 0.0)])


def leaky_relu(scalar: Scalar) -> Piecewise:
    """Return the leaky ReLU, alpha x + (1 - alpha) max(x, 0), as an activation with its dual.

    `scalar` is the function without the dual, with its argument `alpha`, by default 0.2.
    """
    alpha = scalar.split()[1].get("alpha", 0.2)
    return Piecewise(scalar, [(1.0 - alpha, 1, 0.0)], (0.0, alpha, 0.0))


def absolute(scalar: Scalar) -> Piecewise:
    """Return the absolute value, `|x|` = 2 max(x, 0) - x, as an activation with its dual.

    `scalar` is the function without the dual.
    """
    return Piecewise(scalar, [(2.0, 1, 0.0)], (0.0, -1.0, 0.0))


def sign(scalar: Scalar) -> Piecewise:
    """Return the sign, 1 for x > 0 and -1 otherwise, as an activation with its dual.

    `scalar` is the function without the dual.
    """
    return Piecewise(scalar, [(2.0, 0, 0.0)], (-1.0, 0.0, 0.0))


def rectified_monomial(scalar: Scalar) -> Piecewise:
    """Return the rectified monomial max(x, 0)^degree as an activation with its dual.

    `scalar` is the function without the dual, with its argument `degree`, by default 2.
    """
    return Piecewise(scalar, [(1.0, int(scalar.split()[1].get("degree", 2)), 0.0)])


def relu6(scalar: Scalar) -> Piecewise:
    """Return the ReLU limited to 6, x₊ - (x - 6)₊ with y₊ = max(y, 0), as an activation with its dual.

    `scalar` is the function without the dual.
    """
    return Piecewise(scalar, [(1.0, 1, 0.0), (-1.0, 1, 6.0)])


def hard_sigmoid(scalar: Scalar) -> Piecewise:
    """Return the hard sigmoid, clip(½ + x/6, 0, 1), as an activation with its dual.

    It equals ½ + x/6 - (x - 3)₊/6 + (-3 - x)₊/6 with y₊ = max(y, 0). `scalar` is the function without the dual.
    """
    return Piecewise(scalar, [(-1 / 6, 1, 3.0), (1 / 6, 1, -3.0)], (0.5, 1 / 6, 0.0))


def hard_tanh(scalar: Scalar) -> Piecewise:
    """Return the hard tanh, clip(x, -1, 1), as an activation with its dual.

    It equals x - (x - 1)₊ + (-1 - x)₊ with y₊ = max(y, 0). `scalar` is the function without the dual.
    """
    return Piecewise(scalar, [(-1.0, 1, 1.0), (1.0, 1, -1.0)], (0.0, 1.0, 0.0))


def hard_silu(scalar: Scalar) -> Piecewise:
    """Return the hard SiLU, x clip(½ + x/6, 0, 1), as an activation with its dual.

    It equals x/2 + x²/6 - (y²/6 + y/2) - (z²/6 + z/2) with y = max(x - 3, 0) and z = max(-3 - x, 0). `scalar` is the
    function without the dual.
    """
    kinks = [(jump, p, t) for t in (3.0, -3.0) for jump, p in ((-1 / 6, 2), (-0.5, 1))]
    return Piecewise(scalar, kinks, (0.0, 0.5, 1 / 6))
