"""Approximate duals of activations: truncated Hermite series and Monte Carlo means.

The dual of an activation f is E[f(u) f(v)] for normal u and v. `HermiteDual` and `MonteCarlo` approximate the dual.
Their purpose is to measure the error that such an approximation causes in a kernel. They can be used in place of any
activation, for example `kernel_gen.gram("NTK", x, activation=HermiteDual("relu", 9))`.
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
    """An activation f whose dual E[f(u) f(v)] is approximated by its Hermite series up to a degree.

    The slope E[f'(u) f'(v)] is the exact derivative of that series. For inputs of standard deviations σ₁ and σ₂ and
    correlation c the dual is Σ_{k <= degree} a_k(σ₁) a_k(σ₂) c^k. The coefficients are a_k(σ) = E[f(σz) h_k(z)] for
    z ~ N(0, 1) and the normalised Hermite polynomials h_k of `kernel_gen.activations.hermite`, so that inputs may have
    any norm. Where both variances are 1, the truncation error is Σ_{k > degree} a_k(1)² c^k.

    The integrals of the coefficients are split at 0. For an activation with kinks at other points, coefficients of f
    have errors of up to 1e-4, and coefficients of f' errors of up to 2e-2. A kernel entry costs 4(degree + 1)
    operations.

    Args:
        exact: The activation f: a name, a function or an `Activation`.
        degree: Degree of the last term of the truncated series, at least 0.

    Raises `UserError` for a negative degree, and for an activation that is unknown, not elementwise or without a dual.

    Example:
        >>> import numpy as np
        >>> import kernel_gen
        >>> x = np.random.default_rng(0).normal(size=(4, 8))
        >>> exact = kernel_gen.gram("NTK", x, kind="nngp")
        >>> series = kernel_gen.gram("NTK", x, kind="nngp", activation=kernel_gen.HermiteDual("relu", 20))
        >>> bool(abs(series - exact).max() < 0.01 * exact.max())
        True
    """

    def __init__(self, exact: Any, degree: int):
        if degree < 0:
            raise UserError(f"The degree of a Hermite series must be at least 0. Received: degree={degree}.")
        super().__init__(activation(exact).scalar)
        self.degree = degree

    def terms(self, variance, dtype="float64"):
        """Return the length of the series: degree + 1, rounded up to a multiple of `BLOCK`.

        The arguments are not used.
        """
        return -(-(self.degree + 1) // BLOCK) * BLOCK

    def rows(self, variance, terms):
        """Return the Hermite coefficients of f and those of f' at these variances, and the variances themselves.

        Args:
            variance: Variances of the inputs, of any shape.
            terms: Length of the series, as the method `terms` returns it.

        Returns: Two arrays of coefficients, with a first axis of length `terms` and then the axes of `variance`; and
        `variance`. Coefficients of f above the index `degree` are 0, and so are those of f' above `degree` - 1.
        """
        z, weights = hermite.nodes((0.0,), self.degree)
        x = jnp.sqrt(variance)[..., None] * z.astype(variance.dtype)
        basis = hermite.basis(z, terms - 1) * weights
        found = []
        for part, last in zip(self.value_and_slope(x), (self.degree, self.degree - 1), strict=True):
            kept = np.where(np.arange(terms)[:, None] <= last, basis, 0).astype(variance.dtype)
            found.append(jnp.einsum("km,...m->k...", kept, part, precision="highest"))
        return (*found, variance)


class MonteCarlo(Activation):
    """An activation f whose dual E[f(u) f(v)] and slope E[f'(u) f'(v)] are means over random normal pairs (u, v).

    All entries of a kernel matrix use the same random pairs of standard normal numbers. The standard error of an entry
    of the dual is the standard deviation of f(u) f(v), divided by √samples. An entry costs about `samples` evaluations
    of f and f'.

    Args:
        exact: The activation f: a name, a function or an `Activation`.
        samples: Number of pairs, at least 1.
        seed: Random-number seed of the pairs.

    Raises `UserError` for fewer than one sample, and for an activation that is unknown, not elementwise or without a
    dual.
    """

    def __init__(self, exact: Any, samples: int = 100_000, seed: int = 0):
        if samples < 1:
            raise UserError(f"Monte Carlo means need at least one sample. Received: samples={samples}.")
        super().__init__(activation(exact).scalar)
        self.samples, self.seed = samples, seed

    def pair(self, k12, one, two, terms=0):
        """Return the means of f(u) f(v) and f'(u) f'(v) over the random pairs, entry by entry.

        `k12` are the covariances of u and v, `one` and `two` their variances; `terms` is not used.
        """
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
