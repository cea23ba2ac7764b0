"""Approximate duals, to measure the error that an approximation causes: truncated Hermite series and Monte Carlo means.

Both are accepted wherever an activation is, for example `kernel_gen.gram("NTK", x, activation=HermiteDual("relu", 9))`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.activations import activation, hermite
from kernel_gen.activations.base import Activation, correlation, derivative
from kernel_gen.activations.series import BLOCK, Series
from linearized.base.errors import UserError


class HermiteDual(Series):
    """The dual truncated to Σ_{k <= degree} a_k(σ₁) a_k(σ₂) c^k, for inputs of any norm, and its exact derivative.

    On unit variances the error is Σ_{k > degree} a_k² c^k. The coefficients are integrals split at 0; for an activation
    with kinks elsewhere each coefficient has an error of up to 1e-4, and of up to 2e-2 for the slope. One entry costs
    4(degree + 1) operations.

    Args:
        exact: The activation: a name, a function or an `Activation`.
        degree: Degree of the last term of the truncated series, at least 0.
    """

    def __init__(self, exact: Any, degree: int):
        if degree < 0:
            raise UserError(f"The degree of a Hermite series must be at least 0. Received: degree={degree}.")
        super().__init__(activation(exact).scalar)
        self.degree = degree

    def terms(self, variance, dtype="float64"):
        """Return the number of terms up to `degree`, rounded up to a multiple of `BLOCK`, for any variance."""
        return -(-(self.degree + 1) // BLOCK) * BLOCK

    def rows(self, variance, terms):
        """Return the coefficients of the function and of its derivative, 0 beyond `degree`, and the variance."""
        z, weights = hermite.nodes((0.0,), self.degree)
        x = jnp.sqrt(variance)[..., None] * z.astype(variance.dtype)
        basis = hermite.basis(z, terms - 1) * weights
        found = []
        for part, last in zip(self.value_and_slope(x), (self.degree, self.degree - 1), strict=True):
            kept = np.where(np.arange(terms)[:, None] <= last, basis, 0).astype(variance.dtype)
            found.append(jnp.einsum("km,...m->k...", kept, part, precision="highest"))
        return (*found, variance)


class MonteCarlo(Activation):
    """The dual and its derivative as means over pairs of normal random numbers, which are the same for all entries.

    The standard error is the standard deviation of the product of two activations, divided by √samples. One entry costs
    `samples` evaluations.

    Args:
        exact: The activation: a name, a function or an `Activation`.
        samples: Number of pairs, at least 1.
        seed: Random-number seed of the pairs.
    """

    def __init__(self, exact: Any, samples: int = 100_000, seed: int = 0):
        if samples < 1:
            raise UserError(f"Monte Carlo means need at least one sample. Received: samples={samples}.")
        super().__init__(activation(exact).scalar)
        self.samples, self.seed = samples, seed

    def pair(self, k12, one, two, terms=0):
        """Return the means of f(u) f(v) and f'(u) f'(v) over the random pairs."""
        std1, std2 = jnp.sqrt(one), jnp.sqrt(two)
        c, s = correlation(k12, std1, std2)
        draws = jnp.asarray(np.random.default_rng(self.seed).standard_normal((self.samples, 2)), c.dtype)

        def add(index, sums):
            z, w = draws[index]
            sides = (derivative(lambda x: self.function(x, jnp), x) for x in (std1 * z, std2 * (c * z + s * w)))
            (f1, g1), (f2, g2) = sides
            return sums[0] + f1 * f2, sums[1] + g1 * g2

        sums = jax.lax.fori_loop(0, self.samples, add, (jnp.zeros_like(c), jnp.zeros_like(c)))
        return tuple(total / self.samples for total in sums)
