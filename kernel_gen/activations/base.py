"""What an activation is to a kernel: a scalar function f, its dual, and the dual of its derivative.

For (u, v) ~ N(0, [[k11, k12], [k12, k22]]) the dual is E[f(u) f(v)] and its slope E[f'(u) f'(v)], the derivative of the
dual by k12 (Price's theorem). Where f jumps, f' is its derivative almost everywhere, as training by gradients has it.
"""

import abc
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from linearized.base.activations import Scalar
from linearized.base.shapes import Float

CHUNK = 4096  # inputs at once, where values at all nodes of a rule are due


class Activation(abc.ABC):
    """A function with its duals; `pair` is JAX, for kernels to fuse, `dual` and `slope` take and give NumPy arrays.

    What depends on one input alone (`rows`) is separate from what is due for every pair of inputs.
    """

    def __init__(self, scalar: Scalar):
        self.scalar = scalar

    @property
    def text(self) -> str:
        """The activation as the command line writes it."""
        return self.scalar.text

    def function(self, x: Any, xp: Any = np) -> Any:
        """f(x), entry by entry, in the functions of `xp`."""
        return self.scalar(x, xp)

    @property
    def largest_variance(self) -> float:
        """The variance from which on E[f²] is infinite; infinity for functions that have moments at all variances."""
        return float("inf")

    def terms(self, variance: float, dtype: str = "float64") -> int:
        """How long series or rules must be for variances up to this; 0 for closed forms. Static to what is compiled.

        Raises `UserError` where the variance is beyond what they can reach.
        """
        return 0

    def rows(self, variance: jax.Array, terms: int) -> Any:
        """What `pair` wants of one side: arrays whose last axes are those of `variance`."""
        return variance

    @abc.abstractmethod
    def pair(self, k12: jax.Array, one: Any, two: Any, terms: int = 0) -> tuple[jax.Array, jax.Array]:
        """Dual and slope, entry by entry; both sides' `rows` broadcast against `k12`. `terms`: the larger of theirs."""

    def dual(
        self, k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
    ) -> Float[np.ndarray, "n1 n2"]:
        """Return E[f(u) f(v)] in the dtype of k12, or in float64 where that holds whole numbers.

        The diagonals are vectors, so a block needs no square blocks beside it.
        """
        return self.both(k12, k11, k22)[0]

    def slope(
        self, k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
    ) -> Float[np.ndarray, "n1 n2"]:
        """E[f'(u) f'(v)], the derivative of `dual` by k12."""
        return self.both(k12, k11, k22)[1]

    def both(self, k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Dual and slope in one pass."""
        dtype = np.result_type(k12, np.float32)  # whole numbers are taken as float64
        with jax.enable_x64(dtype == np.float64):
            terms = self.terms(float(max(np.max(k11, initial=0), np.max(k22, initial=0))), dtype.name)
            found = self._compiled(terms)(*(np.asarray(k, dtype) for k in (k12, k11, k22)))
            return tuple(np.array(part) for part in found)

    def diagonal(self, variance: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
        """E[f(u)²] and E[f'(u)²] in float64, for u of these variances."""
        flat = np.ravel(np.asarray(variance, np.float64))
        with jax.enable_x64(True):
            program = self._compiled_diagonal(self.terms(float(np.max(flat, initial=0))))
            parts = [program(flat[start : start + CHUNK]) for start in range(0, max(len(flat), 1), CHUNK)]
        return tuple(np.concatenate(part).reshape(np.shape(variance)) for part in zip(*parts, strict=True))

    def layer(self, terms: int):
        """The compiled step of a network: (Σ, Θ, one, two, w², b²) to Σ and Θ after the activation and a dense layer.

        One program serves all layers of equal blocks, and all kernels of this activation.
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
    """c = k12 / (std1 std2) within [-1, 1], 0 where a deviation is, and √(1 - c²).

    Within four roundings of 1 or -1 it is taken for that: nothing else can be told there, and the diagonal is exact.
    """
    product = std1 * std2
    c = jnp.where(product > 0, k12 / jnp.where(product > 0, product, 1), 0)
    c = jnp.where(jnp.abs(c) > 1 - 4 * jnp.finfo(c.dtype).eps, jnp.sign(c), c)
    return c, jnp.sqrt((1 - c) * (1 + c))


def derivative(function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """f(x) and f'(x) of a function entry by entry."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))
