"""Hermite series: coefficients by their closed forms, cut duals by the error that theory gives, at any norm."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

import kernel_gen
from kernel_gen.activations import activation, hermite
from kernel_gen.activations.approximations import HermiteDual, MonteCarlo
from linearized.base.errors import UserError

SEVEN = ["relu", "gelu", "abs", "sin", "cos", "erf", "gaussian"]


def relu_coefficient(k):
    """E[relu h_k] = He_{k-2}(0) φ(0) / √k! for even k."""
    m = (k - 2) // 2
    log = math.lgamma(k - 1) - math.lgamma(m + 1) - m * math.log(2) - 0.5 * math.lgamma(k + 1)
    return (-1) ** m * math.exp(log) / math.sqrt(2 * math.pi)


def test_coefficients_of_the_relu_to_high_degree():
    found = hermite.coefficients(lambda x: np.maximum(x, 0), 1200)
    assert found.shape == (1201,)
    np.testing.assert_allclose(found[:2], [1 / math.sqrt(2 * math.pi), 0.5], rtol=1e-13)
    np.testing.assert_allclose(found[3::2], 0, atol=1e-14)
    np.testing.assert_allclose(found[2::2], [relu_coefficient(k) for k in range(2, 1201, 2)], atol=1e-14)


@pytest.mark.parametrize("std", [0.3, 1.0, 2.5])
def test_coefficients_at_any_scale(std):
    found = hermite.coefficients(lambda x: np.exp(0.8 * x), 60, std=std)
    k = np.arange(61)
    logs = 0.32 * std**2 + k * np.log(0.8 * std) - np.array([0.5 * math.lgamma(i + 1) for i in k])
    np.testing.assert_allclose(found, np.exp(logs), rtol=1e-11, atol=1e-13 * found.max())
    # A kink that is not at 0: |z - 1/std| has the mean of a folded normal.
    folded = hermite.coefficients(lambda x: np.abs(x - 1), 0, std=std, kinks=(1.0,))
    h = 1 / std
    cdf = 0.5 * math.erfc(-h / math.sqrt(2))
    expected = std * (2 * math.exp(-h * h / 2) / math.sqrt(2 * math.pi) + h * (2 * cdf - 1))
    np.testing.assert_allclose(folded, [expected], rtol=1e-13)


def test_kinks_that_are_not_split_cost_what_the_docstring_says():
    def slope(x):
        return (np.abs(x) < 1) * 1.0

    for std in (0.7, 1.3, 5.0):
        for function, bound in ((lambda x: np.clip(x, -1, 1), 1e-4), (slope, 2e-2)):
            split, whole = (hermite.coefficients(function, 50, std, kinks) for kinks in ((-1.0, 1.0), (0.0,)))
            assert np.abs(split - whole).max() <= bound


def test_polynomials_are_orthonormal():
    basis = hermite.polynomials(np.linspace(-1, 1, 5), 3)
    x = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(basis, [x**0, x, (x**2 - 1) / math.sqrt(2), (x**3 - 3 * x) / math.sqrt(6)], atol=1e-14)
    z, weights = hermite.nodes((), 30)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    products = hermite.basis(z, 30) / np.sqrt(density) * np.sqrt(weights)
    np.testing.assert_allclose(products @ products.T, np.eye(31), atol=1e-13)


def unit_rows(n=40, dim=6):
    x = np.random.default_rng(0).normal(size=(n, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("name", SEVEN)
def test_error_falls_with_the_degree_as_theory_says(name):
    x = unit_rows()
    exact, c, one = activation(name), x @ x.T, np.ones(len(x))
    whole = exact.dual(c, one, one)
    coefficients = hermite.coefficients(lambda z: exact.function(z, np), 2000)
    rest, powers = coefficients**2, c[..., None] ** np.arange(2001)
    errors = []
    for degree in (0, 1, 4, 15, 64):
        found = HermiteDual(exact, degree).dual(c, one, one)
        errors.append(np.linalg.norm(found - whole) / np.linalg.norm(whole))
        theory = np.linalg.norm(powers[..., degree + 1 :] @ rest[degree + 1 :]) / np.linalg.norm(whole)
        if theory > 1e-12:
            assert abs(errors[-1] / theory - 1) < 0.05
    assert all(after <= before * (1 + 1e-9) + 1e-14 for before, after in itertools.pairwise(errors))
    assert errors[-1] < 0.2 * errors[1]


@pytest.mark.parametrize("degree", [0, 1, 5, 15, 16, 17])
def test_the_last_term_is_there_at_any_norm(degree):
    exact = activation("hermite(5)")
    k11, k22, c = np.array([1.7]), np.array([0.4]), -0.6
    found = HermiteDual(exact, degree).both(np.array([[c * math.sqrt(1.7 * 0.4)]]), k11, k22)
    left, right = (
        hermite.coefficients(lambda x: exact.function(x, np), degree, std=math.sqrt(k.item())) for k in (k11, k22)
    )
    np.testing.assert_allclose(
        found[0].item(), np.sum(left * right * c ** np.arange(degree + 1)), rtol=1e-11, atol=1e-13
    )
    if degree >= 5:  # then the series of a polynomial is all of it
        np.testing.assert_allclose(found, exact.both(np.array([[c * math.sqrt(1.7 * 0.4)]]), k11, k22), rtol=1e-10)


def test_the_slope_is_the_derivative_of_the_cut_series():
    cut, one, c, step = HermiteDual(activation("relu"), 9), np.ones(1), np.array([[0.7]]), 1e-6
    found = cut.slope(c, one, one).item()
    difference = (cut.dual(c + step, one, one) - cut.dual(c - step, one, one)).item() / (2 * step)
    assert abs(found - difference) < 1e-8


def test_monte_carlo_errs_as_one_over_root_samples():
    exact, c, one = activation("tanh"), np.linspace(-1, 1, 9)[None], np.ones(1)
    k22 = np.full(9, 1.5)
    whole = exact.both(c * np.sqrt(1.5), one, k22)
    for samples in (2_000, 20_000):
        found = MonteCarlo(exact, samples).both(c * np.sqrt(1.5), one, k22)
        for part, mean in zip(found, whole, strict=True):
            assert np.abs(part - mean).max() < 5 / np.sqrt(samples)  # |f|, |f'| <= 1
    assert np.ptp(MonteCarlo(exact, 100, seed=1).dual(c, one, k22) - MonteCarlo(exact, 100).dual(c, one, k22)) > 0
    assert jnp.zeros(1).dtype == np.float32  # no test leaves JAX in float64


def test_approximate_duals_go_where_an_activation_goes():
    x = unit_rows()
    exact = kernel_gen.gram("NTK", x, activation="gelu", dtype="float64")
    errors = [
        np.linalg.norm(kernel_gen.gram("NTK", x, activation=made, dtype="float64") - exact) / np.linalg.norm(exact)
        for made in (
            kernel_gen.HermiteDual("gelu", 1),
            kernel_gen.HermiteDual("gelu", 20),
            kernel_gen.MonteCarlo("gelu"),
        )
    ]
    assert errors[1] < 1e-3 < 0.02 < errors[0] and errors[2] < 0.02
    with pytest.raises(UserError, match="degree=-1"):
        kernel_gen.HermiteDual("gelu", -1)
    with pytest.raises(UserError, match="samples=0"):
        kernel_gen.MonteCarlo("gelu", 0)
