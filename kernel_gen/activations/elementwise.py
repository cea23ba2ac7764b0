"""User-defined activations, made from a Python function f or from an expression of its dual E[f(u) f(v)].

    Elementwise(lambda x: jnp.arctan(x))                                          quadrature of dual and slope
    Elementwise(dual=lambda k12, k11, k22: jnp.exp(k12 - (k11 + k22) / 2))        slope by autodiff

Here k12 is the covariance of the normal numbers u and v, k11 and k22 are their variances, and the slope is E[f'(u)
f'(v)], the derivative of the dual with respect to k12. The dual of a smooth function is computed by its Hermite series
(`series`), that of a function with a kink at 0 by polar quadrature (`polar`). Kinks elsewhere reduce the accuracy. An
activation made from a function has the attribute `error`, an estimate of the relative error of its dual: 1e-14 if the
function is smooth, otherwise the difference between two quadrature rules.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from kernel_gen.activations import hermite
from kernel_gen.activations.base import Activation
from kernel_gen.activations.polar import REACHES, Polar
from kernel_gen.activations.series import REACH, Series
from linearized.base.errors import UserError

LEAST = {"float32": 1e-18, "float64": 1e-30}  # variance that replaces 0 in expressions of duals
POINTS = 6  # points of the interpolation in √(1 - |c|) that continues a dual to correlation 1


class _Plain:
    """A user's function f(x), callable as f(x, xp) like the functions of the table of activations.

    Args:
        function: The function f(x).
        text: Its name in messages.
    """

    def __init__(self, function: Callable, text: str):
        self.function, self.text = function, text

    def __call__(self, x: Any, xp: Any) -> Any:
        return self.function(x)


class FromDual(Activation):
    """An activation given by its dual E[f(u) f(v)] alone, as an expression; its slope is computed by autodiff.

    Autodiff returns NaN or noise close to the correlations c = 1 and c = -1. There dual and slope are interpolated in
    the variable `√(1 - |c|)`, in which duals are smooth. For duals and slopes that change slowly with c, the error of
    this interpolation is 1e-9 in float64 and 1e-3 in float32, relative to the largest value; an example is
    exp(-‖x - z‖²) at variances of 1. The error grows with the cube of the variance. At variances of 25 it is 1e-5 in
    float64, and float32 is not usable.

    Args:
        dual: E[f(u) f(v)] as a function of (k12, k11, k22), the covariance and variances of (u, v), entry by entry in
            jax.numpy.
        text: Name of the activation in messages.
    """

    def __init__(self, dual: Callable, text: str = "a dual"):
        super().__init__(_Plain(_no_function, text))
        self.expression = dual

    def pair(self, k12, one, two, terms=0):
        """Return the dual and its slope, the derivative with respect to the covariances `k12`.

        Both are interpolated close to correlation ±1. `one` and `two` are the variances of the two inputs of each
        covariance; `terms` is not used.
        """
        least = LEAST[k12.dtype.name]  # expressions may divide by a variance, or by the root of a product of two
        one, two = (jnp.where(k > 0, k, least) for k in (one, two))
        norm = jnp.sqrt(one) * jnp.sqrt(two)
        safe = jnp.where(norm > 0, norm, 1)
        c = jnp.clip(jnp.where(norm > 0, k12 / safe, 0), -1, 1)
        step = 0.01 if c.dtype == jnp.float64 else 0.1
        root, sign = jnp.sqrt(1 - jnp.abs(c)), jnp.where(c < 0, -1.0, 1.0).astype(c.dtype)
        end = root < step
        inside = self._derived(jnp.where(end, 0, c) * norm, one, two)
        continued = [0, 0]
        for node in range(1, POINTS + 1):
            weight = jnp.ones_like(c)
            for other in range(1, POINTS + 1):
                if other != node:
                    weight = weight * (root / step - other) / (node - other)
            values = self._derived(sign * (1 - (step * node) ** 2) * norm, one, two)
            continued = [total + weight * value for total, value in zip(continued, values, strict=True)]
        return tuple(jnp.where(end, far, near) for far, near in zip(continued, inside, strict=True))

    def _derived(self, k12, k11, k22):
        return jax.jvp(lambda k: self.expression(k, k11, k22), (k12,), (jnp.ones_like(k12),))


def _no_function(x: Any) -> Any:
    raise UserError("An activation that was made from its dual alone has no function of its own.")


class FromNumpy(Series):
    """A smooth activation f that NumPy can evaluate but JAX cannot trace; its dual is computed from its Hermite series.

    Let a_k(σ) be the coefficients of f for inputs of standard deviation σ. By Stein's lemma, the coefficients of f' are
    √(k+1) a_{k+1}(σ) / σ.
    """

    def rows(self, variance, terms):
        """Return the Hermite coefficients of f at these variances, those of f' by Stein's lemma, and the variances.

        Args:
            variance: Variances of the inputs, of any shape.
            terms: Number of terms of the series.

        Returns: Two arrays with a first axis of length `terms` and then the axes of `variance`; and `variance`.
        """
        variance = jnp.maximum(variance, 1e-12)
        below, _ = super().rows(variance, terms + 1)[:2]
        order = jnp.sqrt(jnp.arange(1, terms + 1, dtype=variance.dtype)).reshape(-1, *(1,) * variance.ndim)
        return below[:-1], order * below[1:] / jnp.sqrt(variance), variance

    def value_and_slope(self, x):
        """Return f(x) twice, computed by NumPy; other activations return (f(x), f'(x)).

        f'(x) is not available, because JAX cannot differentiate f. The method `rows` does not use the second value.
        """
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        call = lambda x: np.asarray(self.function(np.asarray(x, np.float64), np), x.dtype)  # noqa: E731
        value = jax.pure_callback(call, like, x, vmap_method="expand_dims")
        return value, value


def Elementwise(function: Callable | None = None, *, dual: Callable | None = None, text: str = "") -> Activation:
    """Return an activation made from a function f, or from its dual. Exactly one of the two must be given.

    Args:
        function: The function f(x) of an array, entry by entry; in jax.numpy, or in NumPy if it is smooth.
        dual: E[f(u) f(v)] as a function of (k12, k11, k22), the covariance and variances of (u, v), entry by entry in
            jax.numpy. Such an activation has no f, so that networks cannot use it.
        text: Name of the activation in messages; by default the name of the function.

    Raises `UserError`, with the reason, for a function that is not elementwise or not finite, for a function with a
    kink that JAX cannot trace, and if the quadrature cannot compute the dual or the second moment E[f(u)²].

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import kernel_gen
        >>> x = np.random.default_rng(0).normal(size=(4, 8))
        >>> own = kernel_gen.gram("NTK", x, activation=kernel_gen.Elementwise(jnp.sin))
        >>> np.allclose(own, kernel_gen.gram("NTK", x, activation="sin"), rtol=1e-5)
        True
    """
    if (function is None) == (dual is None):
        raise UserError("Elementwise takes a function or a dual, one of the two.")
    if dual is not None:
        return FromDual(dual, text or getattr(dual, "__name__", "a dual"))
    scalar = _Plain(function, text or getattr(function, "__name__", "a function"))
    _check(function, scalar.text)
    traced = _traceable(function)
    made = (Series if traced else FromNumpy)(scalar)
    made.error = 1e-14
    if _is_smooth(function):
        return made
    if not traced:
        raise UserError(
            f"{scalar.text} is not smooth and JAX cannot trace it, so that its slope cannot be taken. Write it in "
            "jax.numpy."
        )
    made = Polar(scalar)
    made.error, slope_error = _measured(made)
    if not (made.error < 1e-2 and slope_error < 0.2):
        raise UserError(
            f"The dual of {scalar.text} does not converge: two rules differ by {made.error:.1e}, and by "
            f"{slope_error:.1e} for the slope."
        )
    if max(made.error, slope_error) > 1e-8:
        logging.warning("%s has kinks away from 0: its dual has an error of %.0e, the slope one of %.0e", scalar.text,
                        made.error, slope_error)  # fmt: skip
    return made


def _check(function: Callable, text: str) -> None:
    """Raise `UserError` unless a function f is elementwise and finite, and E[f(z)²] is finite for z ~ N(0, 1).

    `text` is the name of the function in messages.
    """
    z = np.linspace(-REACH, REACH, 521)
    with np.errstate(all="ignore"), jax.enable_x64(True):
        try:
            values = np.asarray(function(z))
            part = np.asarray(function(z[None, :100]))
        except Exception as error:
            raise UserError(f"{text} cannot be called with an array: {type(error).__name__}: {error}") from error
    if values.shape != z.shape or part.shape != (1, 100) or values.dtype.kind not in "fiu":
        raise UserError(
            f"{text} is not elementwise: arrays of shape (521,) and (1, 100) became {values.shape} and {part.shape}."
        )
    if not np.isfinite(values).all():
        raise UserError(f"{text} is not finite at x = {z[np.argmin(np.isfinite(values))]:.3g}.")
    if not np.allclose(values[:100], part[0], rtol=1e-5, atol=1e-5 * np.abs(values).max()):
        raise UserError(f"{text} is not elementwise: its values depend on the other entries.")
    with np.errstate(over="ignore"):
        energy = values.astype(np.float64) ** 2 * np.exp(-(z**2) / 2)
    if not np.isfinite(energy).all() or max(energy[0], energy[-1]) > 1e-9 * energy.sum():
        raise UserError(f"{text} grows so fast that its second moment overflows the quadrature, or is infinite.")


def _traceable(function: Callable) -> bool:
    try:
        with jax.enable_x64(True):
            jax.eval_shape(function, jax.ShapeDtypeStruct((3,), np.float64))
    except Exception:  # noqa: BLE001 - any error while tracing means that JAX cannot
        return False
    return True


def _is_smooth(function: Callable) -> bool:
    """Return whether a function is smooth, judged from its Hermite coefficients at unit variance.

    The coefficients of a smooth function decrease to the level of rounding errors within 512 terms.
    """
    with jax.enable_x64(True):
        squares = hermite.coefficients(function, 512) ** 2
    return bool(squares[-32:].max() * 512 < 1e-22 * max(squares.sum(), 1e-300))


def _measured(made: Polar) -> list[float]:
    """Return estimates of the relative errors of the dual and of the slope, two numbers, at unit variance.

    They are the differences between two quadrature rules, relative to E[f²] and to E[f'²].

    Args:
        made: The activation.
    """
    c, one = np.array([[-0.9, 0.3, 0.99, 1.0]]), np.ones(1)
    with jax.enable_x64(True):
        programs = [made._compiled(terms) for terms in (len(REACHES) - 1, len(REACHES))]
        fine, finer = (np.array(program(c, one, np.ones(4))) for program in programs)
    return [float(np.abs(a - b).max() / max(abs(b[0, -1]), 1e-300)) for a, b in zip(fine, finer, strict=True)]
