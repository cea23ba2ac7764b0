"""Smooth activations whose duals have no closed form and are computed by Mehler's series of Hermite coefficients.

For inputs of standard deviations σ₁ and σ₂ and correlation c the dual is Σ_k a_k(σ₁) a_k(σ₂) c^k. Here a_k(σ) is
E[f(σz) h_k(z)] for z ~ N(0, 1), with the normalised Hermite polynomials h_k (see `hermite`). The slope is the
corresponding series for f'. Inputs need not be normalised. For f analytic in a strip `|Im x|` < δ the coefficients
decrease like exp(-δ √(2k)/σ), so that

    terms ≈ (21 σ/δ)²    in float64, (14 σ/δ)² in float32, rounded up to a power of two.

For example, tanh (δ = π/2) needs 256 terms at σ = 1 and 2,048, the maximum, up to σ = 3.4; silu (δ = π) needs 64 terms
at σ = 1. If more terms are needed, `UserError` is raised. The omitted terms contribute less than 1e-15 (float32: 1e-9)
of the sum Σ k a_k² at the largest variance. A kernel entry costs 4 operations per term. An input costs 400 evaluations
of f and f', and 800 operations per term.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.activations import hermite
from kernel_gen.activations.base import Activation, correlation, derivative
from linearized.base.errors import UserError

MOST_TERMS = 2048  # largest number of terms of a series
REACH = 13.0  # integrals over z extend from -REACH to REACH; the normal density times h_k is below 1e-18 beyond
TAIL = {"float32": 1e-9, "float64": 1e-15}  # largest omitted share of Σ k a_k²
BLOCK = 16  # terms in one pass over a block of entries


class Series(Activation):
    """A smooth activation f, written in `jax.numpy`, whose dual E[f(u) f(v)] is computed by Mehler's series.

    That is the sum Σ_k a_k(σ₁) a_k(σ₂) c^k over the Hermite coefficients of f at the standard deviations of u and v,
    with their correlation c.
    """

    def value_and_slope(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return f(x) and f'(x), two arrays of the shape of `x`."""
        return derivative(lambda x: self.function(x, jnp), x)

    def terms(self, variance, dtype="float64"):
        """Return the number of terms of the series that the dual of inputs with variances up to `variance` needs.

        Raises `UserError` if the function overflows or more than `MOST_TERMS` are needed.
        """
        steps = math.ceil(4 * math.log2(max(variance, 1e-6)) / 2)
        return self._terms(2 ** (steps / 4), dtype)  # at the next larger of a few deviations, which are cached

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - activations are cached by their text and live as long
    def _terms(self, std: float, dtype: str) -> int:
        z, weights = rule(MOST_TERMS)
        with np.errstate(over="ignore", invalid="ignore"), jax.enable_x64(True):
            values = np.asarray(self.function(std * z, np), np.float64)
        if not np.isfinite(values).all():
            raise UserError(
                f"{self.text} is not finite within {REACH:g} standard deviations of {std:.3g}: its mean cannot be "
                "taken by quadrature. Lower --weight_std or scale the inputs."
            )
        squares = (weighted_basis(MOST_TERMS) @ values) ** 2
        energy = squares * np.maximum(np.arange(MOST_TERMS), 1)
        beyond = np.cumsum(energy[::-1])[::-1]  # sum of this term and all later ones
        floor = 4e-32 * np.sum(weights * values**2 * np.exp(-(z**2) / 2)) * np.arange(MOST_TERMS, 0, -1) * MOST_TERMS
        good = np.flatnonzero(beyond <= TAIL[dtype] * max(energy.sum(), 1e-300) + floor)
        if not len(good) or good[0] > MOST_TERMS - 2 * BLOCK:
            raise UserError(
                f"{self.text} needs more than {MOST_TERMS} Hermite terms at a standard deviation of {std:.3g}. "
                "Lower --weight_std, take --scale=stax, or scale the inputs."
            )
        return int(min(2 ** math.ceil(math.log2(max(good[0], BLOCK))), MOST_TERMS))

    def rows(self, variance, terms):
        """Return the Hermite coefficients of f and of f' at these variances, and the variances.

        Args:
            variance: Variances of the inputs, of any shape.
            terms: Number of terms of the series.

        Returns: Two arrays with a first axis of length `terms` and then the axes of `variance`; and `variance`.
        """
        z, _ = rule(terms)
        x = jnp.sqrt(variance)[..., None] * z.astype(variance.dtype)
        basis = _typed_basis(terms, variance.dtype.name)
        values = self.value_and_slope(x)
        series = (jnp.einsum("km,...m->k...", basis, part, precision="highest") for part in values)
        return (*series, variance)

    def pair(self, k12, one, two, terms=0):
        """Return the sums of the series of f and of f': the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)].

        `k12` are the covariances of u and v, `one` and `two` the results of `rows` for their variances; `terms` is not
        used.
        """
        c, _ = correlation(k12, jnp.sqrt(one[2]), jnp.sqrt(two[2]))
        count = min(len(one[0]), len(two[0])) // BLOCK * BLOCK  # the coefficients of the smaller variance end here

        def add(sums, coefficients):
            lefts, rights = coefficients
            return tuple(total * c + left * right for total, left, right in zip(sums, lefts, rights, strict=True)), None

        # A scan traces its body once, whereas a Python loop over the terms would trace each of them.
        sides = tuple(tuple(coefficients[:count] for coefficients in side[:2]) for side in (one, two))
        sums, _ = jax.lax.scan(add, (jnp.zeros_like(c), jnp.zeros_like(c)), sides, reverse=True, unroll=BLOCK)
        return sums


@functools.lru_cache(maxsize=16)
def rule(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights, two arrays (nodes,), of the trapezoidal rule for integrals from -`REACH` to `REACH`.

    The rule converges exponentially for smooth f, because the normal density makes the integrand vanish at the ends.
    Its step is small enough for the Hermite polynomials h_k up to k = `terms`, whose wavelength is 2π/√terms. It is
    also small enough for every function f whose series needs at most `terms` terms.
    """
    count = 2 * math.ceil(REACH / min(0.0625, 1.4 / math.sqrt(terms))) + 1
    z = np.linspace(-REACH, REACH, count)
    return z, np.full(count, z[1] - z[0])


@functools.lru_cache(maxsize=16)
def weighted_basis(terms: int) -> np.ndarray:
    """Return the matrix (terms, nodes) that maps values of f at the nodes of `rule` to Hermite coefficients of f."""
    z, weights = rule(terms)
    return hermite.basis(z, terms - 1) * weights


@functools.lru_cache(maxsize=8)
def _typed_basis(terms: int, dtype: str) -> np.ndarray:
    """Return `weighted_basis` converted to a dtype.

    The array is cached. Compiled programs therefore store it once for all layers.
    """
    return weighted_basis(terms).astype(dtype)
