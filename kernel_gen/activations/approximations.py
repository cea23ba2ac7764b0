"""Duals to compare others with: cut Hermite series of any degree, and Monte Carlo means."""

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.activations import hermite
from kernel_gen.activations.base import Activation, correlation, derivative
from kernel_gen.activations.series import BLOCK, Series


class HermiteDual(Series):
    """Σ_{k <= degree} a_k(σ₁) a_k(σ₂) c^k, with all its terms, for inputs of any norm; the slope is its derivative.

    On unit variances it misses Σ_{k > degree} a_k² c^k. The coefficients are integrals that are split at 0, of inputs
    of any norm; kinks elsewhere cost them 1e-4. Costs 4(degree + 1) operations an entry.
    """

    def __init__(self, exact: Activation, degree: int):
        super().__init__(exact.scalar)
        self.degree = degree

    def terms(self, variance, dtype="float64"):
        return -(-(self.degree + 1) // BLOCK) * BLOCK

    def rows(self, variance, terms):
        z, weights = hermite.nodes((0.0,), self.degree)
        x = jnp.sqrt(variance)[..., None] * z.astype(variance.dtype)
        basis = hermite.basis(z, terms - 1) * weights
        found = []
        for part, last in zip(self.value_and_slope(x), (self.degree, self.degree - 1), strict=True):
            kept = np.where(np.arange(terms)[:, None] <= last, basis, 0).astype(variance.dtype)
            found.append(jnp.einsum("km,...m->k...", kept, part, precision="highest"))
        return (*found, variance)


class MonteCarlo(Activation):
    """Means over pairs of normal numbers, the same for all entries: they err by 1/√samples of a product's deviation."""

    def __init__(self, exact: Activation, samples: int = 100_000, seed: int = 0):
        super().__init__(exact.scalar)
        self.samples, self.seed = samples, seed

    def pair(self, k12, one, two, terms=0):
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
