"""Activations with a kink at 0 whose duals have no closed form and are computed by quadrature in polar coordinates.

A normal pair of standard deviations σ₁ and σ₂ and correlation c = cos θ is (u, v) = r (σ₁ cos φ, σ₂ cos(φ - θ)), with a
uniform angle φ and a radius r of density r exp(-r²/2). The lines u = 0 and v = 0, at which f(u) or f(v) has its kink,
divide the plane into four sectors, with angles of π - θ and θ. The integrand is smooth inside each sector for every c.
In each sector one Gauss rule is used for the angle and one for r.

With 32 points in both rules, f and f' are evaluated 8,192 times per entry, which takes some microseconds. Errors of the
dual in float64 were measured for elu, celu, selu and softsign against other quadratures. Relative errors, even at
correlation 1, are 1e-10 for standard deviations up to 0.25, where both rules have 24 points, and 1e-14 for standard
deviations between 0.25 and 10. The slope of softsign has a relative error of 1e-12, because each branch of its f' has a
pole at a distance of 1 from 0.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.activations.base import Activation, correlation, derivative
from linearized.base.errors import UserError

SIZES = (16, 24, 32, 48, 64)  # numbers of angles, and of radii, of the quadrature rules
REACHES = (0.25, 3.0, 10.0, 100.0)  # largest standard deviation of each size except the first, in float64
REACH = 9.0  # largest radius r of the rules, at which exp(-r²/2) is 3e-18


class Polar(Activation):
    """An activation f with a kink at 0, whose dual and slope are computed by quadrature over four sectors of the plane.

    f must be smooth on each side of 0 and work in jax.numpy.
    """

    def value_and_slope(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return f(x) and f'(x), two arrays of the shape of `x`."""
        return derivative(lambda x: self.function(x, jnp), x)

    def terms(self, variance, dtype="float64"):
        """Return the index in `SIZES` of the quadrature rule for inputs with variances up to `variance`.

        The rule for float32 is smaller than that for float64. Raises `UserError` for standard deviations above 100.
        """
        for index, std in enumerate(REACHES):
            if variance <= std**2:
                return index + (dtype == "float64")  # float32 uses the next smaller size
        raise UserError(
            f"{self.text} is integrated for standard deviations up to {REACHES[-1]:g}. Received: "
            f"{math.sqrt(variance):.3g}. Lower --weight_std, take --scale=stax, or scale the inputs."
        )

    def rows(self, variance, terms):
        """Return the standard deviations of inputs with these variances, which `pair` needs; `terms` is not used."""
        return jnp.sqrt(variance)

    def pair(self, k12, one, two, terms=0):
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)] of normal u and v by quadrature over the sectors.

        Args:
            k12: Covariances of u and v.
            one: Standard deviations of u.
            two: Standard deviations of v.
            terms: Index of the quadrature rule in `SIZES`.
        """
        std1, std2, size = one, two, SIZES[terms]
        c, s = correlation(k12, std1, std2)
        theta = jnp.arctan2(s, c)
        y, y_weights = _graded(size)
        r, r_weights = _radial(size)
        nodes = [np.asarray(a, c.dtype) for a in (y, y_weights)]

        def sector(index, sums):
            node, weight = (jnp.asarray(a)[index] for a in nodes)
            for width, sign in ((math.pi - theta, 1), (theta, -1)):
                u, v = std1 * jnp.sin(width * node), sign * std2 * jnp.sin(width * (1 - node))
                sums = self._along(sums, u, v, weight * width / (2 * math.pi), r, r_weights)
            return sums

        zero = jnp.zeros(jnp.broadcast_shapes(c.shape, std1.shape, std2.shape), c.dtype)
        return jax.lax.fori_loop(0, size, sector, (zero, zero))

    def _along(self, sums, u, v, weight, r, r_weights):
        """Integrate f(u) f(v) and f'(u) f'(v) over the radius r on some rays, and add the integrals to `sums`.

        The opposite rays are included.

        Args:
            sums: Sums so far for the dual and for the slope, a pair of arrays.
            u: First input of f on each ray, at r = 1.
            v: Second input of f on each ray, at r = 1.
            weight: Weight of the rays in the rule of the angle.
            r: Radii.
            r_weights: Weights of the radii.

        Returns: The new pair of sums.
        """
        radii, weights = (jnp.asarray(np.asarray(a, u.dtype)) for a in (r, r_weights))

        def add(index, inner):
            for sign in (1, -1):
                (f1, g1), (f2, g2) = (self.value_and_slope(sign * radii[index] * side) for side in (u, v))
                inner = inner[0] + weights[index] * f1 * f2, inner[1] + weights[index] * g1 * g2
            return inner

        found = jax.lax.fori_loop(0, len(r), add, tuple(jnp.zeros_like(total) for total in sums))
        return tuple(total + weight * part for total, part in zip(sums, found, strict=True))


class Celu(Polar):
    """The activation celu: x for x >= 0, and alpha (exp(x/alpha) - 1) for x < 0.

    For alpha < 0 it grows as exp(x/alpha) below 0, and the quadrature is then accurate up to a standard deviation of
    `|alpha|`.
    """

    def terms(self, variance, dtype="float64"):
        """Return the index in `SIZES` of the quadrature rule for inputs with variances up to `variance`.

        Raises `UserError` for standard deviations above 100 and, if alpha < 0, above `|alpha|`.
        """
        alpha = self.scalar.split()[1].get("alpha", 1.0)
        if alpha < 0 and variance > alpha**2:
            raise UserError(
                f"{self.text} is integrated for standard deviations up to {-alpha:g}. Received: "
                f"{math.sqrt(variance):.3g}. Lower --weight_std, scale the inputs, or take a larger |alpha|."
            )
        return super().terms(variance, dtype)


def _graded(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a Gauss rule on [0, 1], nodes and weights, for an angle within a sector.

    Its nodes cluster at both ends, where an input of the activation is small.
    """
    t, weights = np.polynomial.legendre.leggauss(count)
    t, weights = (t + 1) / 2, weights / 2
    return t * t * (3 - 2 * t), weights * 6 * t * (1 - t)


def _radial(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a rule for ∫ r exp(-r²/2) dr from 0 to `REACH`, whose nodes cluster at 0."""
    t, weights = np.polynomial.legendre.leggauss(count)
    t, weights = (t + 1) / 2, weights / 2
    r = REACH * t * t
    return r, weights * 2 * REACH * t * r * np.exp(-r * r / 2)
