"""The base class of activations: a scalar function f, its dual, and the derivative of the dual.

For a normal pair (u, v) ~ N(0, [[k11, k12], [k12, k22]]) the dual is E[f(u) f(v)]. It maps the covariances before a
layer of infinite width to those after it. Its slope is E[f'(u) f'(v)], which is the derivative of the dual with respect
to the covariance k12 (Price's theorem). If f has jumps, f' is the derivative between the jumps, as in training by
gradients.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from linearized.base.shapes import Float

CHUNK = 4096  # inputs that are processed at once, because f is evaluated at every quadrature node of every input


class Activation(abc.ABC):
    """Base class of activations: a function f with its dual E[f(u) f(v)] and slope E[f'(u) f'(v)] for normal u and v.

    A subclass implements `pair`, which is written in JAX so that kernels can fuse it, and optionally `rows` and
    `terms`. Computations for one input alone (`rows`) are separate from those for every pair of inputs (`pair`).
    `dual`, `slope`, `both` and `diagonal` take and return NumPy arrays.

    Args:
        scalar: The function, called as scalar(x, xp) with the array functions `xp`; its `text` names it in messages.
    """

    def __init__(self, scalar: Callable[..., Any]):
        self.scalar = scalar

    @property
    def text(self) -> str:
        """The activation as the command line writes it, such as "leaky_relu(alpha=0.1)"."""
        return self.scalar.text

    def function(self, x: Any, xp: Any = np) -> Any:
        """Return f(x), entry by entry.

        Args:
            x: Array of any shape.
            xp: Module of array functions with which f is computed, numpy or jax.numpy.
        """
        return self.scalar(x, xp)

    @property
    def largest_variance(self) -> float:
        """The smallest variance of a normal u at which E[f(u)²] is infinite; infinity if there is none."""
        return float("inf")

    def terms(self, variance: float, dtype: str = "float64") -> int:
        """Return the number of terms of the dual's series, or the index of its quadrature rule, for given inputs.

        The methods `rows` and `pair` need this number as an argument. A program is compiled for each value of it.

        Args:
            variance: Largest variance of the inputs.
            dtype: Data type of the computation, "float32" or "float64".

        Returns: The number; 0 if the dual has a closed form.

        Raises `UserError` for a variance beyond the range of the series or rule.
        """
        return 0

    def rows(self, variance: jax.Array, terms: int) -> Any:
        """Return the quantities that `pair` needs of one set of inputs, computed from the variances of the inputs.

        Args:
            variance: Variances of the inputs, of any shape.
            terms: The result of the method `terms` for these variances or larger ones.

        Returns: An array or a tuple of arrays, whose last axes are those of `variance`; by default `variance` itself.
        """
        return variance

    @abc.abstractmethod
    def pair(self, k12: jax.Array, one: Any, two: Any, terms: int = 0) -> tuple[jax.Array, jax.Array]:
        """Return the dual E[f(u) f(v)] and the slope E[f'(u) f'(v)], entry by entry.

        Args:
            k12: Covariances of u and v.
            one: The result of `rows` for the variances of u; its last axes broadcast against `k12`.
            two: The result of `rows` for the variances of v; its last axes broadcast against `k12`.
            terms: The larger of the results of the method `terms` for the variances of u and for those of v.
        """

    def dual(
        self, k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
    ) -> Float[np.ndarray, "n1 n2"]:
        """Return E[f(u) f(v)] for a block of pairs, (n1, n2), in the dtype of k12 (float64 if that is an integer type).

        Args:
            k12: Covariances (n1, n2) of u and v.
            k11: Variances (n1,) of u.
            k22: Variances (n2,) of v.

        Raises `UserError` for variances beyond the range of the activation.
        """
        return self.both(k12, k11, k22)[0]

    def slope(
        self, k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
    ) -> Float[np.ndarray, "n1 n2"]:
        """Return E[f'(u) f'(v)] for a block of normal pairs, (n1, n2), the derivative of `dual` with respect to k12.

        Args:
            k12: Covariances (n1, n2) of u and v.
            k11: Variances (n1,) of u.
            k22: Variances (n2,) of v.

        Raises `UserError` for variances beyond the range of the activation.
        """
        return self.both(k12, k11, k22)[1]

    def both(self, k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return E[f(u) f(v)] and E[f'(u) f'(v)], the results of `dual` and `slope`, computed in one pass.

        Args:
            k12: Covariances (n1, n2) of u and v.
            k11: Variances (n1,) of u.
            k22: Variances (n2,) of v.

        Raises `UserError` for variances beyond the range of the activation.
        """
        dtype = np.result_type(k12, np.float32)  # integers are converted to float64
        with jax.enable_x64(dtype == np.float64):
            terms = self.terms(float(max(np.max(k11, initial=0), np.max(k22, initial=0))), dtype.name)
            found = self._compiled(terms)(*(np.asarray(k, dtype) for k in (k12, k11, k22)))
            return tuple(np.array(part) for part in found)

    def diagonal(self, variance: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
        """Return E[f(u)²] and E[f'(u)²], float64 arrays of the shape of `variance`.

        Args:
            variance: Variances of u, of any shape.

        Raises `UserError` for variances beyond the range of the activation.
        """
        flat = np.ravel(np.asarray(variance, np.float64))
        with jax.enable_x64(True):
            program = self._compiled_diagonal(self.terms(float(np.max(flat, initial=0))))
            parts = [program(flat[start : start + CHUNK]) for start in range(0, max(len(flat), 1), CHUNK)]
        return tuple(np.concatenate(part).reshape(np.shape(variance)) for part in zip(*parts, strict=True))

    def layer(self, terms: int):
        """Return the compiled step of a network of infinite width: the activation and the dense layer after it.

        It maps (Σ, Θ, one, two, w², b²) to (w² dual(Σ) + b², w² slope(Σ) Θ + w² dual(Σ) + b²). Σ is the covariance of
        the network's outputs at initialisation (NNGP) and Θ its tangent kernel (NTK). `one` and `two` are the results
        of the method `rows` for the two sets of inputs, and w and b are the standard deviations of weights and biases.
        One compiled program is used for all layers with blocks of the same shape, and for all kernels of this
        activation.

        Args:
            terms: The larger of the results of the method `terms` for the two sets of inputs.
        """

        def step(sigma, tangent, one, two, weight_var, bias_var):
            dual, slope = self.pair(sigma, one, two, terms)
            sigma = weight_var * dual + bias_var
            return sigma, weight_var * slope * tangent + sigma

        return self._programs.setdefault(("layer", terms), jax.jit(step))

    def side(self, terms: int):
        """Return a compiled function of variances: the method `rows` for one value of its argument `terms`.

        The function is compiled once for all layers and all kernels of this activation.

        Args:
            terms: The result of the method `terms` for these variances or larger ones.
        """
        return self._programs.setdefault(("rows", terms), jax.jit(lambda variance: self.rows(variance, terms)))

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
    """Return the correlations c = k12 / (std1 std2) of pairs of inputs, and √(1 - c²).

    c is 0 where a standard deviation is 0. Where `|c|` is above 1 - 4 eps, with the machine precision eps of the data
    type, c is set to 1 or -1. The difference is within rounding errors, and entries on a diagonal are then exact.

    Args:
        k12: Covariances.
        std1: Standard deviations of the first inputs, which broadcast against `k12`.
        std2: Standard deviations of the second inputs, which broadcast against `k12`.
    """
    product = std1 * std2
    c = jnp.where(product > 0, k12 / jnp.where(product > 0, product, 1), 0)
    c = jnp.where(jnp.abs(c) > 1 - 4 * jnp.finfo(c.dtype).eps, jnp.sign(c), c)
    return c, jnp.sqrt((1 - c) * (1 + c))


def derivative(function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return f(x) and f'(x).

    Args:
        function: The elementwise function f, in jax.numpy.
        x: Array of any shape.
    """
    return jax.jvp(function, (x,), (jnp.ones_like(x),))
