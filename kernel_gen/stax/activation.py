"""Activations of this suite, named or user-defined, as layers of neural_tangents.stax.

    stax = kernel_gen.stax.network.neural_tangents().stax  # patched to run on current JAX
    layer = stax.serial(stax.Dense(1), activation_layer(lambda x: jnp.arctan(x)), stax.Dense(1))
    kernel_gen.gram(kernel_gen.stax.network.from_stax(layer), x)

In the text of an architecture such layers are written as `Elementwise('softplus')` or `Elementwise()`, see
`kernel_gen.stax.network`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.activations import activation
from kernel_gen.activations.base import Activation
from kernel_gen.activations.elementwise import FromDual
from kernel_gen.stax import compat
from linearized.base.errors import UserError

# Lengths of the series that are compiled. The first block of a shape takes about 6 seconds of CPU for two such
# activations, nearly all of it in XLA.
LENGTHS = (64, 512, 2048)
STEPS = range(-24, 61)  # quarters of a power of 2: standard deviations from 1/64 to 32,768


def activation_layer(given: Any) -> tuple:
    """Return an activation as a layer of stax, a triple (init, apply, kernel function).

    The variances of the inputs are not known when a kernel is compiled. Therefore the series of a dual is compiled in
    each of the lengths `LENGTHS`, and one length is selected when the kernel runs. If a variance is beyond the range of
    the longest series, the kernel is NaN, for which `gram` raises an error. An activation that was made from its dual
    alone has no function, and networks of finite width with it return NaN.

    Args:
        given: A name, a function of one array or an `Activation`, as in `kernel_gen.activations.activation`.
    """
    compat.install()
    from neural_tangents._src.stax import elementwise, requirements

    made = activation(given)
    for dtype in ("float32", "float64"):
        _lengths(made, dtype)  # cached now, because JAX does not compute values while it traces

    def value(x):
        """Return the function's values, or NaN if only the dual is known: stax also calls it to infer shapes."""
        return jnp.full_like(x, jnp.nan) if isinstance(made, FromDual) else made.function(x, jnp)

    def pairs(cov, one, two, diagonal_batch, diagonal_spatial, parts):
        """Return the dual (and slope, if `parts` has two items) of a covariance in any layout of neural-tangents."""
        lengths = _lengths(made, cov.dtype.name)
        largest = jnp.max(one) if two is None else jnp.maximum(jnp.max(one), jnp.max(two))
        index = jnp.sum(largest > jnp.asarray([limit for limit, _ in lengths], cov.dtype))

        def of(terms):
            return lambda: _pair(made, cov, one, two, (diagonal_batch, diagonal_spatial), terms)[: len(parts)]

        beyond = lambda: tuple(jnp.full_like(cov, jnp.nan) for _ in parts)  # noqa: E731
        return jax.lax.switch(index, [*(of(terms) for _, terms in lengths), beyond])

    def kernel_fn(k):
        shape = k.diagonal_batch, k.diagonal_spatial
        one, two = (requirements.get_diagonal(cov, *shape) for cov in (k.cov1, k.cov2))
        parts = (0,) if k.ntk is None else (0, 1)
        nngp, *slope = pairs(k.nngp, one, two, False, k.diagonal_spatial, parts)
        [cov1] = pairs(k.cov1, one, None, *shape, (0,))
        [cov2] = [None] if k.cov2 is None else pairs(k.cov2, two, None, *shape, (0,))
        ntk = None if k.ntk is None else k.ntk * slope[0]
        return k.replace(cov1=cov1, nngp=nngp, cov2=cov2, ntk=ntk)

    @requirements.layer
    @requirements.supports_masking(remask_kernel=True)
    def layer():
        return elementwise._elementwise(value, made.text, kernel_fn)

    return layer()


def _pair(
    made: Activation, cov: jax.Array, one: jax.Array, two: jax.Array | None, diagonal: tuple[bool, bool], terms: int
) -> tuple[jax.Array, jax.Array]:
    """Return the dual of an activation and its derivative for covariances in the layouts of neural-tangents.

    Both are computed in one pass.

    Args:
        made: The activation.
        cov: Covariances. The first axes are (n1, n2) for pairs of inputs, or (n1,) for inputs with themselves only. The
            pixel axes follow: (x, x, y, y) for pairs of pixels, or (x, y) for pixels with themselves only.
        one: The variances (n[, x, y]) of the first side.
        two: The variances of the second side; None if both sides are the same.
        diagonal: Whether `cov` contains only covariances of inputs with themselves, and only those of pixels with
            themselves.
        terms: Length of the activation's series, 0 for closed forms.
    """
    from neural_tangents._src.utils import utils

    batch, space = diagonal
    start = 1 if batch else 0
    stop = 2 - start if space else cov.ndim
    flat = utils.make_2d(cov, start, stop)
    sides = []
    for variance, axis in ((one, start + 1), (one if two is None else two, start)):
        flat_shape = (*variance.shape[:start], -1, *variance.shape[1 if space else variance.ndim :])
        sides.append(made.rows(jnp.expand_dims(variance.reshape(flat_shape), axis), terms))
    unzipped = cov.shape[:start] + cov.shape[start:stop:2] + cov.shape[start + 1 : stop : 2] + cov.shape[stop:]
    found = (jnp.broadcast_to(jnp.asarray(part, cov.dtype), flat.shape) for part in made.pair(flat, *sides, terms))
    return tuple(utils.zip_axes(part.reshape(unzipped), start, stop) for part in found)


@functools.lru_cache(maxsize=256)
def _lengths(made: Activation, dtype: str) -> list[tuple[float, int]]:
    """Return pairs (largest variance, number of terms), one for each length in which a series is compiled.

    The shortest comes first. An activation with a closed form has one entry with 0 terms.

    Args:
        made: The activation.
        dtype: Data type of the computation, "float32" or "float64".
    """
    if type(made).terms is Activation.terms:
        return [(np.inf, 0)]
    found: dict[int, float] = {}
    for step in STEPS:
        variance = 2.0 ** (step / 2)
        try:
            terms = made.terms(variance, dtype)
            found[next((length for length in LENGTHS if length >= terms), terms) if terms else 0] = variance
        except UserError:
            break
    if set(found) == {0} and np.isfinite(made.largest_variance):
        found[0] = float(np.nextafter(made.largest_variance, 0))
    return [(variance, terms) for terms, variance in sorted(found.items())]
