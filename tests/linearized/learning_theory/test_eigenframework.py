"""Predictions of kernel ridge regression against simulation, their limits in closed form, and what is refused."""

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.learning_theory.eigenframework import effective_ridge, learnabilities, predict, spectrum
from linearized.learning_theory.sphere import sphere_spectrum

RIDGES = (1e-6, 0.3, 3.0)


def pool(rows=500, dim=12, seed=0):
    """Return a Laplace kernel between rows on a sphere and two targets, the second one mostly noise."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, dim))
    x *= np.sqrt(dim) / np.linalg.norm(x, axis=1, keepdims=True)  # all rows alike, as the theory has them
    distances = np.sqrt(np.maximum(np.square(x[:, None] - x[None]).sum(axis=-1), 0))
    y = np.stack([x[:, 0] * x[:, 1] + x[:, 2], 0.3 * x[:, 0] + random.normal(size=rows)], axis=1)
    return np.exp(-distances / 4), y - y.mean(axis=0)


def measured(gram, y, n, ridge, draws=40):
    """Return test and train errors of kernel ridge regression on n rows of the pool, (draws, 2, k)."""
    random, found = np.random.default_rng(1), []
    for _ in range(draws):
        rows = random.permutation(len(y))
        train, other = rows[:n], rows[n:]
        alpha = np.linalg.solve(gram[np.ix_(train, train)] + ridge * np.eye(n), y[train])
        missed = gram[np.ix_(other, train)] @ alpha - y[other]
        found.append((np.square(missed).mean(axis=0), np.square(ridge * alpha).mean(axis=0)))
    return np.array(found)


@pytest.mark.parametrize("n", [60, 160, 300])
@pytest.mark.parametrize("ridge", RIDGES)
def test_prediction_on_a_pool_equals_the_mean_over_draws(n, ridge):
    gram, y = pool()
    found = spectrum(gram, y)
    got = predict(*found, n, ridge, pool=len(y))
    test, train = measured(gram, y, n, ridge).mean(axis=0)
    # the mean over 40 draws is known to about 2 %; one value of h for all rows of a pool costs up to 7 % at n = 300
    np.testing.assert_allclose(got.test, test, rtol=0.1)
    np.testing.assert_allclose(got.train, train, rtol=0.1, atol=1e-9)


def test_prediction_that_takes_the_pool_for_a_population_is_too_low():
    gram, y = pool()
    found = spectrum(gram, y)
    test = measured(gram, y, 160, 0.3).mean(axis=0)[0]
    assert (predict(*found, 160, 0.3).test < 0.85 * test).all()


def test_whole_pool_gives_the_exact_train_error():
    gram, y = pool(rows=90)
    found = spectrum(gram, y)
    got = predict(*found, 90, 2.0, pool=90)
    alpha = np.linalg.solve(gram + 2.0 * np.eye(90), y)
    np.testing.assert_allclose(got.train, np.square(2.0 * alpha).mean(axis=0), rtol=1e-10)
    assert got.kappa == pytest.approx(2.0 / 90)
    degrees = np.trace(gram @ np.linalg.inv(gram + 2.0 * np.eye(90)))
    assert got.degrees == pytest.approx(degrees, rel=1e-10)


def test_pool_becomes_a_population_as_it_grows():
    values = np.repeat(1.0 / np.arange(1, 41) ** 1.5, 50)
    coefficients = np.random.default_rng(0).normal(size=(len(values), 3)) * values[:, None]
    for ridge in (0.0, 0.1):
        whole = predict(values, coefficients, 10, ridge)
        part = predict(values, coefficients, 10, ridge, pool=len(values))
        np.testing.assert_allclose(part.test, whole.test, rtol=0.01)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("n, ridge", [(1, 0.0), (30, 0.0), (30, 1e-9), (30, 1.0), (99, 1e3), (99, 1e-12)])
def test_effective_ridge_solves_its_equation(n, ridge, pooled):
    values = np.random.default_rng(0).lognormal(0, 4, 100)
    kappa = effective_ridge(values, n, ridge, pool=100 if pooled else 0)
    learned = learnabilities(values, kappa).sum()
    got = learned + ridge / kappa * ((1 - learned / 100) if pooled else 1.0)
    assert got == pytest.approx(n, rel=1e-8)


def test_effective_ridge_of_equal_eigenvalues_is_known_in_closed_form():
    # m λ/(λ + κ) + ρ/κ = n is a quadratic equation in κ
    m, value, n, ridge = 80, 0.5, 30, 2.0
    b = n * value - m * value - ridge
    kappa = (-b + np.sqrt(b**2 + 4 * n * ridge * value)) / (2 * n)
    assert effective_ridge(np.full(m, value), n, ridge) == pytest.approx(kappa, rel=1e-11)


def test_fewer_modes_than_rows_are_linear_regression():
    # of m features n > m rows leave m/(n - m - 1) of the noise at ridge 0, m/(n - m) as n and m grow
    got = predict(np.ones(40), np.zeros((40, 1)), 120, 0.0, noise=2.0)
    assert got.kappa == 0 and got.test[0] == pytest.approx(2.0 * (1 + 40 / 80))
    assert got.train[0] == pytest.approx(2.0 * (1 - 40 / 120))
    assert np.isinf(predict(np.ones(40), np.zeros((40, 1)), 40, 0.0, noise=2.0).test[0])


def test_spectrum_reproduces_kernel_and_targets():
    gram, y = pool(rows=60)
    found = spectrum(gram, y)
    assert (np.diff(found.eigenvalues) <= 0).all()
    assert found.eigenvalues.sum() == pytest.approx(np.trace(gram) / 60)
    np.testing.assert_allclose(np.square(found.coefficients).sum(axis=0), np.square(y).mean(axis=0))
    energy = (found.eigenvalues[:, None] * np.square(found.coefficients)).sum(axis=0) * 60**2
    np.testing.assert_allclose(energy, np.einsum("ik,ij,jk->k", y, gram, y), rtol=1e-9)


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_population_prediction_from_an_exact_spectrum_equals_simulation(ridge):
    dim, n, degrees = 30, 250, 8

    def profile(t):
        return np.exp(-np.sqrt(np.maximum(2 - 2 * t, 0)))

    exact = sphere_spectrum(profile, dim, degrees)
    counts = np.minimum(exact.multiplicities.astype(int), 20_000)
    values = np.repeat(exact.eigenvalues, counts)
    coefficients = np.zeros((len(values), 1))
    coefficients[1], coefficients[1 + dim] = 1.0, 0.7  # a linear and a quadratic harmonic of mean square 1 and .49
    beyond = profile(np.ones(1))[0] - (exact.eigenvalues * counts).sum()  # of higher degrees acts as a ridge
    got = predict(values, coefficients, n, ridge + beyond).test[0]
    random, errors = np.random.default_rng(0), []
    for _ in range(12):
        x = random.normal(size=(n + 1500, dim))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        pair = x[:, 1] * x[:, 2]
        y = np.sqrt(dim) * x[:, 0] + 0.7 * pair * np.sqrt(dim * (dim + 2))
        alpha = np.linalg.solve(profile(x[:n] @ x[:n].T) + ridge * np.eye(n), y[:n])
        errors.append(np.square(profile(x[n:] @ x[:n].T) @ alpha - y[n:]).mean())
    assert got == pytest.approx(np.mean(errors), rel=0.06)


@pytest.mark.parametrize("given, said", [
    ((np.array([1.0, -1.0]), 1, 0.0), "at least 0"), ((np.array([np.nan]), 1, 0.0), "finite"),
    ((np.ones(3), 0, 0.0), "n of at least 1"), ((np.ones(3), 1, -1.0), "ridge of at least 0"),
    ((np.ones(3), 1, 1.0, 5), "A pool of 5 rows"), ((np.ones(3), 4, 1.0, 3), "at most 3 train rows"),
    ((np.zeros(0), 1, 1.0), "one at least"),
])  # fmt: skip
def test_impossible_values_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        effective_ridge(*given)


def test_kernel_with_nan_is_refused():
    with pytest.raises(UserError, match="not finite"):
        spectrum(np.full((3, 3), np.nan), np.ones((3, 1)))
    with pytest.raises(UserError, match="row of coefficients"):
        predict(np.ones(3), np.ones((2, 1)), 1, 1.0)
