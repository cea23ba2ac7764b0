"""The base class of activations: a scalar function f, its dual, and the dual of its derivative.

For (u, v) ~ N(0, [[k11, k12], [k12, k22]]) the dual is E[f(u) f(v)] and its slope is E[f'(u) f'(v)], the derivative of
the dual with respect to k12 (Price's theorem). Where f jumps, f' is its derivative almost everywhere, as in gradient
training.
"""

import abc
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from linearized.base.activations import Scalar
from linearized.base.shapes import Float

CHUNK = 4096  # inputs at once, where values at all nodes of a rule are computed


class Activation(abc.ABC):
    """A function with its duals.

    `pair` is written in JAX, so that kernels can fuse it; `dual` and `slope` take and return NumPy arrays. Computations
    for one input alone (`rows`) are separate from those for every pair of inputs.
    """

    def __init__(self, scalar: Scalar):
        self.scalar = scalar

    @property
    def text(self) -> str:
        """The activation in the notation of the command line."""
        return self.scalar.text

    def function(self, x: Any, xp: Any = np) -> Any:
        """Return f(x), entry by entry, computed with the array functions of `xp`."""
        return self.scalar(x, xp)

    @property
    def largest_variance(self) -> float:
        """Smallest variance at which E[f²] is infinite; infinity for functions with moments at all variances."""
        return float("inf")

    def terms(self, variance: float, dtype: str = "float64") -> int:
        """Return the length of series or quadrature rules for variances up to `variance`; 0 for closed forms.

        It is a static argument of the compiled programs. Raises `UserError` for variances beyond the range of the
        series or rule.
        """
        return 0

    def rows(self, variance: jax.Array, terms: int) -> Any:
        """Return the quantities of one side that `pair` needs: arrays whose last axes are those of `variance`."""
        return variance

    @abc.abstractmethod
    def pair(self, k12: jax.Array, one: Any, two: Any, terms: int = 0) -> tuple[jax.Array, jax.Array]:
        """Return dual and slope, entry by entry; the `rows` of both sides broadcast against `k12`.

        `terms` is the larger of the lengths of the two sides.
        """

    def dual(
        self, k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
    ) -> Float[np.ndarray, "n1 n2"]:
        """Return E[f(u) f(v)] in the dtype of k12, or in float64 if k12 has an integer dtype.

        The diagonals are vectors, so that a block needs no further square blocks.
        """
        return self.both(k12, k11, k22)[0]

    def slope(
        self, k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
    ) -> Float[np.ndarray, "n1 n2"]:
        """Return E[f'(u) f'(v)], the derivative of `dual` with respect to k12."""
        return self.both(k12, k11, k22)[1]

    def both(self, k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return dual and slope, computed in one pass."""
        dtype = np.result_type(k12, np.float32)  # integers are converted to float64
        with jax.enable_x64(dtype == np.float64):
            terms = self.terms(float(max(np.max(k11, initial=0), np.max(k22, initial=0))), dtype.name)
            found = self._compiled(terms)(*(np.asarray(k, dtype) for k in (k12, k11, k22)))
            return tuple(np.array(part) for part in found)

    def diagonal(self, variance: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
        """Return E[f(u)²] and E[f'(u)²] in float64, for u of these variances."""
        flat = np.ravel(np.asarray(variance, np.float64))
        with jax.enable_x64(True):
            program = self._compiled_diagonal(self.terms(float(np.max(flat, initial=0))))
            parts = [program(flat[start : start + CHUNK]) for start in range(0, max(len(flat), 1), CHUNK)]
        return tuple(np.concatenate(part).reshape(np.shape(variance)) for part in zip(*parts, strict=True))

    def layer(self, terms: int):
        """Return the compiled step of a network: an activation and the dense layer after it.

        It maps (Σ, Θ, one, two, w², b²) to the new Σ and Θ. One program serves all layers with blocks of the same
        shape, and all kernels of this activation.
        """

        def step(sigma, tangent, one, two, weight_var, bias_var):
            dual, slope = self.pair(sigma, one, two, terms)
            sigma = weight_var * dual + bias_var
            return sigma, weight_var * slope * tangent + sigma

        return self._programs.setdefault(("layer", terms), jax.jit(step))

    @functools.cached_property
    def _programs(self) -> dict:
        return {}

    def _compiled(self, terms: int):
        def both(k12, k11, k22):
            found = self.pair(k12, self.rows(k11[:, None], terms), self.rows(k22[None, :], terms), terms)
            return tuple(jnp.broadcast_to(part, k12.shape) for part in found)

        return self._programs.setdefault(("both", terms), jax.jit(both))

    def _compiled_diagonal(self, terms: int):
        def both(variance):
            rows = self.rows(variance, terms)
            return tuple(jnp.broadcast_to(part, variance.shape) for part in self.pair(variance, rows, rows, terms))

        return self._programs.setdefault(("diagonal", terms), jax.jit(both))


def correlation(k12: jax.Array, std1: jax.Array, std2: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the correlation c = k12 / (std1 std2) in [-1, 1] and √(1 - c²); c is 0 where a standard deviation is 0.

    A correlation within four roundings of 1 or -1 is set to that value: rounding makes it indistinguishable, and the
    diagonal becomes exact.
    """
    product = std1 * std2
    c = jnp.where(product > 0, k12 / jnp.where(product > 0, product, 1), 0)
    c = jnp.where(jnp.abs(c) > 1 - 4 * jnp.finfo(c.dtype).eps, jnp.sign(c), c)
    return c, jnp.sqrt((1 - c) * (1 + c))


def derivative(function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return f(x) and f'(x) of an elementwise function."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))
