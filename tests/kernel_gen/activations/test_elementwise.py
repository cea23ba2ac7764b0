"""Activations of the user's own: from a function, from a dual, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from kernel_gen.activations import activation, hermite
from kernel_gen.activations.elementwise import Elementwise
from linearized.base.errors import UserError

C = np.array([[-1.0, -0.9, 0.0, 0.4, 0.9, 0.99999, 1.0]])
K11, K22 = np.array([1.44]), np.full(7, 0.81)
K12 = C * 1.2 * 0.9


def arc_cosine(k12, k11, k22):
    """The ReLU's dual, whose autodiff is NaN at correlation 1."""
    norm = jnp.sqrt(k11 * k22)
    c = k12 / norm
    return norm * (jnp.sqrt(1 - c**2) + c * (jnp.pi - jnp.arccos(c))) / (2 * jnp.pi)


def squared_exponential(k12, k11, k22):
    return jnp.exp(-(k11 + k22 - 2 * k12))


@pytest.mark.parametrize(
    "function, name, error",
    [
        (jax.scipy.special.erf, "erf", 1e-13),
        (lambda x: scipy.special.erf(x), "erf", 1e-13),
        (lambda x: jnp.maximum(x, 0), "relu", 1e-12),
        (lambda x: jnp.where(x > 0, x, 0.2 * x), "leaky_relu", 1e-12),
        (lambda x: x * jax.nn.sigmoid(x), "silu", 1e-12),
        (lambda x: x**3, "monomial(3)", 1e-11),
        (lambda x: jnp.clip(x, -1, 1), "hard_tanh", 1e-2),
    ],
    ids=["erf in jax", "erf in scipy", "relu", "leaky relu", "silu", "cube", "kinks off 0"],
)
def test_a_function_alone_gives_its_dual_and_slope(function, name, error):
    made = Elementwise(function)
    for found, expected in zip(made.both(K12, K11, K22), activation(name).both(K12, K11, K22), strict=True):
        np.testing.assert_allclose(found, expected, rtol=error, atol=error)
    assert (made.error > 1e-6) == (name == "hard_tanh")  # it says when it is not exact


@pytest.mark.parametrize("dual, name", [(arc_cosine, "relu"), (squared_exponential, "rbf")])
def test_a_dual_alone_gives_its_slope_at_correlation_one_too(dual, name):
    for dtype, error in ((np.float64, 1e-9), (np.float32, 1e-3)):
        arrays = [k.astype(dtype) for k in (K12, K11, K22)]
        for found, expected in zip(Elementwise(dual=dual).both(*arrays), activation(name).both(*arrays), strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=error, atol=error)


def test_the_error_of_a_dual_alone_grows_with_the_cube_of_the_variance():
    """As its docstring states: 1e-9 of the largest value at variances of 1, 1e-5 at variances of 25."""
    c = 1 - np.geomspace(1e-13, 0.3, 60)[None, :]
    for variance, bound in ((1.0, 1e-9), (25.0, 1.6e-5)):
        sides = np.array([variance]), np.full(60, variance)
        found = Elementwise(dual=squared_exponential).dual(c * variance, *sides)
        error = np.abs(found - np.exp(-2 * variance * (1 - c))).max()
        assert 0.1 * bound < error < bound


@pytest.mark.parametrize("name, std, counts", [("tanh", 1.0, (256, 128)), ("silu", 1.0, (64, 32)),
                                               ("tanh", 3.36, (2048, 1024))])  # fmt: skip
def test_series_take_the_terms_that_the_docstring_says_and_leave_out_a_small_tail(name, std, counts):
    made = activation(name)
    if std == 1.0:
        energy = hermite.coefficients(lambda x: made.function(x, np), 400) ** 2 * np.arange(401)
    for dtype, count, bound in zip(("float64", "float32"), counts, (1e-15, 1e-9), strict=True):
        assert made.terms(0.99 * std**2, dtype) == count
        assert std > 1 or energy[count:].sum() < bound * energy.sum()
    if name == "tanh":
        with pytest.raises(UserError, match="2048 Hermite terms"):
            made.terms(16.0)


@pytest.mark.parametrize("std, bound", [(0.2, 1e-10), (0.3, 1e-14), (3.0, 1e-14), (10.0, 1e-14)])
def test_polar_quadrature_errs_within_the_bound_of_the_docstring(std, bound):
    """E elu(u)² = σ²/2 + E (eᵘ - 1)² 1(u < 0), of which the normal distribution function gives the second part."""
    below = [np.exp(k * k * std**2 / 2) * scipy.special.ndtr(-k * std) for k in (0, 1, 2)]
    expected = std**2 / 2 + below[2] - 2 * below[1] + below[0]
    found = activation("elu").dual(np.array([[std**2]]), np.array([std**2]), np.array([std**2])).item()
    assert abs(found / expected - 1) < bound


def test_whole_numbers_are_taken_as_float64():
    for name in ("relu", "silu"):
        found = activation(name).both(np.array([[1, 0]]), np.array([1.44]), np.array([0.81, 1.0]))
        expected = activation(name).both(np.array([[1.0, 0.0]]), np.array([1.44]), np.array([0.81, 1.0]))
        np.testing.assert_array_equal(found, expected)
        assert found[0].dtype == np.float64


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda x: x.sum(), "not elementwise"),
        (lambda x: x - x.mean(), "depend on the other"),
        (lambda x: np.cumsum(x), "not elementwise|depend"),
        (lambda x: jnp.log(x), "not finite at x = -13"),
        (lambda x: 1 / x, "not finite at x = 0"),
        (lambda x: jnp.exp(x**2 / 4), "second moment"),
        (lambda x: jnp.exp(x**2), "second moment"),
        (lambda x: x if x > 0 else 0, "cannot be called"),
        (lambda x: np.where(np.asarray(x) > 0.3, x, 0), "JAX cannot trace"),
        (lambda x: jnp.sign(jnp.sin(40 * x)), "does not converge"),
    ],
    ids=["a sum", "centred", "cumulated", "log", "pole", "infinite moment", "overflow", "if", "numpy jump", "wild"],
)
def test_what_has_no_dual_is_refused_with_the_reason(function, words):
    with pytest.raises(UserError, match=words):
        Elementwise(function)


def test_a_function_or_a_dual():
    with pytest.raises(UserError, match="one of the two"):
        Elementwise()
    with pytest.raises(UserError, match="one of the two"):
        Elementwise(jnp.tanh, dual=arc_cosine)
    with pytest.raises(UserError, match="no function of its own"):
        Elementwise(dual=arc_cosine).function(np.ones(2))


def test_variances_beyond_the_rules_are_refused():
    big = np.array([1e6])
    for name, words in (("tanh", "Hermite terms"), ("softsign", "integrated for")):
        with pytest.raises(UserError, match=words):
            activation(name).dual(np.zeros((1, 1)), big, big)
