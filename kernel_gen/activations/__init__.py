"""Activations with their duals, from which kernels of infinitely wide networks are computed.

The dual of a function f is E[f(u) f(v)] for normal u and v with given variances and covariance: it maps the covariances
before a layer with this activation to those after it, entry by entry.

`ACTIVATIONS` is the table of names, and `activation("leaky_relu(0.1)")` returns the `Activation` of a name. To add an
activation, add its function and its name to `linearized.base.activations` and a line to `ACTIVATIONS`. The tests in
tests/contracts then include it.
"""

import functools
from collections.abc import Callable
from typing import Any

from linearized.base import own_functions
from linearized.base.activations import OwnFunction, Scalar, parse
from linearized.base.errors import UserError
from linearized.base.registry import Registry

_HERE = "kernel_gen.activations"

# Each entry is a function of a `linearized.base.activations.Scalar` that returns an `Activation`.
ACTIVATIONS = Registry(
    "activation",
    {
        "sin": f"{_HERE}.smooth:Sin",
        "cos": f"{_HERE}.smooth:Cos",
        "rbf": f"{_HERE}.smooth:Rbf",
        "erf": f"{_HERE}.smooth:Erf",
        "sigmoid_like": f"{_HERE}.smooth:SigmoidLike",
        "gelu": f"{_HERE}.smooth:Gelu",
        "gelu_tanh": f"{_HERE}.series:Series",
        "exp": f"{_HERE}.smooth:Exp",
        "gaussian": f"{_HERE}.smooth:Gaussian",
        "exp_normalized": f"{_HERE}.smooth:ExpNormalized",
        "gabor": f"{_HERE}.smooth:Gabor",
        "hermite": f"{_HERE}.polynomials:hermite",
        "unit_hermite": f"{_HERE}.polynomials:UnitHermite",
        "monomial": f"{_HERE}.polynomials:monomial",
        "polynomial": f"{_HERE}.polynomials:polynomial",
        "rectified_monomial": f"{_HERE}.piecewise:rectified_monomial",
        "sign": f"{_HERE}.piecewise:sign",
        "abs": f"{_HERE}.piecewise:absolute",
        "relu": f"{_HERE}.piecewise:relu",
        "leaky_relu": f"{_HERE}.piecewise:leaky_relu",
        "relu6": f"{_HERE}.piecewise:relu6",
        "hard_sigmoid": f"{_HERE}.piecewise:hard_sigmoid",
        "hard_silu": f"{_HERE}.piecewise:hard_silu",
        "hard_tanh": f"{_HERE}.piecewise:hard_tanh",
        "softsign": f"{_HERE}.polar:Polar",
        "elu": f"{_HERE}.polar:Polar",
        "celu": f"{_HERE}.polar:Celu",
        "selu": f"{_HERE}.polar:Polar",
        "silu": f"{_HERE}.series:Series",
        "softplus": f"{_HERE}.series:Series",
        "log_sigmoid": f"{_HERE}.series:Series",
        "tanh": f"{_HERE}.series:Series",
        "sigmoid": f"{_HERE}.series:Series",
    },
)


@functools.cache
def _activation(text: str):
    scalar = parse(text)
    return ACTIVATIONS.load(scalar.name)(scalar)


@functools.lru_cache(maxsize=64)
def _referred(scalar: OwnFunction, given: Any):
    """Return the `Activation` of a user's object that was given by a reference `package.module:function`.

    Results are cached.

    Args:
        scalar: The reference. Its text names the activation in messages.
        given: The user's object: an `Activation`, which is returned, or a function f(x) or f(x, xp). The function is
            evaluated with JAX arrays, and xp is the module jax.numpy.
    """
    from jax import numpy as jnp

    from kernel_gen.activations.base import Activation
    from kernel_gen.activations.elementwise import Elementwise

    if isinstance(given, Activation):
        return given
    if not own_functions.takes_namespace(given):
        return Elementwise(given, text=scalar.text)
    return Elementwise(lambda x: given(x, jnp), text=scalar.text)


@functools.lru_cache(maxsize=64)
def _own(function: Callable):
    from kernel_gen.activations.elementwise import Elementwise

    return Elementwise(function)


def activation(given: Any):
    """Return the `Activation` for a name or a function: an object with the function f and its dual E[f(u) f(v)].

    Args:
        given: A name such as "gelu", a name with numbers such as "leaky_relu(0.1)", a reference
            `package.module:function`, an `Activation` (such as `Elementwise` returns), or a function of one array that
            works entry by entry, preferably in jax.numpy.

    Raises `UserError` for an unknown name (the message lists the known ones), for numbers that the named activation
    does not accept, and for a function that is not elementwise or has no dual.
    """
    from kernel_gen.activations.base import Activation

    if isinstance(given, Activation):
        return given
    if isinstance(given, str | Scalar):
        scalar = parse(given if isinstance(given, str) else given.text)
        return _referred(scalar, scalar.given) if isinstance(scalar, OwnFunction) else _activation(scalar.text)
    if callable(given):
        return _own(given)
    raise UserError(f"An activation is a name, a function or an Activation. Received: {given!r}.")


def name_of(given: Any) -> str | None:
    """Return the name of an activation, with its numbers, as `ACTIVATIONS` and the command line write it.

    Args:
        given: A name, a reference `package.module:function`, a function or an `Activation`.

    Returns: The text, such as "leaky_relu(alpha=0.1)"; None for an activation that is not in the table `ACTIVATIONS`.
    """
    if isinstance(given, str) and not isinstance(parse(given), OwnFunction):
        return parse(given).text
    made = activation(given)
    named = isinstance(made.scalar, Scalar) and made is _activation(made.scalar.text)
    return made.scalar.text if named else None
