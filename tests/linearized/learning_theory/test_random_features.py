"""The error of random features: Mei and Montanari's theorem, the eigenframework, and simulation side by side."""

import numpy as np
import pytest
from scipy.integrate import quad

from linearized.base.errors import UserError
from linearized.learning_theory.eigenframework import predict
from linearized.learning_theory.random_features import RELU, ActivationMoments, feature_error, sphere_error

CASES = [(0.5, 3.0, 1e-3), (2.9, 3.0, 1e-3), (3.0, 3.0, 0.1), (6.0, 3.0, 1e-3), (6.0, 3.0, 0.1), (1.0, 3.0, 1e-8),
         (8.0, 3.0, 1e-8), (3.0, 1.0, 1e-2)]  # fmt: skip
NOISE = 0.25


def sphere(random, rows, dim):
    x = random.normal(size=(rows, dim))
    return x * np.sqrt(dim) / np.linalg.norm(x, axis=1, keepdims=True)


def simulated(dim, psi1, psi2, ridge, draws=24):
    """Return the mean test error of ReLU features for a linear target with noise, and its standard error."""
    random, errors = np.random.default_rng(0), []
    features, n = round(psi1 * dim), round(psi2 * dim)
    for _ in range(draws):
        x, weights = sphere(random, n + 1000, dim), sphere(random, features, dim)
        phi = np.maximum(x @ weights.T / np.sqrt(dim), 0)
        y = x[:n, 0] + np.sqrt(NOISE) * random.normal(size=n)
        gram = phi[:n] @ phi[:n].T + ridge * n * features / dim * np.eye(n)
        readout = phi[:n].T @ np.linalg.solve(gram, y)
        errors.append(np.square(phi[n:] @ readout - x[n:, 0]).mean())
    return np.mean(errors), np.std(errors) / np.sqrt(draws)


@pytest.mark.parametrize("psi1, psi2, ridge", CASES)
def test_sphere_error_equals_simulation(psi1, psi2, ridge):
    mean, error = simulated(100, psi1, psi2, ridge)
    assert sphere_error(psi1, psi2, ridge, noise=NOISE) == pytest.approx(mean, abs=4 * error + 0.03 * mean)


@pytest.mark.parametrize("psi1, psi2, ridge", CASES)
def test_sphere_error_equals_the_eigenframework_of_its_spectrum(psi1, psi2, ridge):
    dim = 20_000  # modes of degree 1 and infinitely many small ones; the theorem is the limit
    features, n = round(psi1 * dim), round(psi2 * dim)
    values = np.full(dim, RELU.slope**2 / dim)
    coefficients = np.zeros((dim, 1))
    coefficients[0] = 1
    kernel_ridge = ridge * n / dim  # of the mean over features instead of their sum
    got = feature_error(values, coefficients, n, features, kernel_ridge, noise=NOISE, tail=RELU.rest**2)[0] - NOISE
    assert got == pytest.approx(sphere_error(psi1, psi2, ridge, noise=NOISE), rel=2e-3)


def test_double_descent_peaks_where_features_equal_rows_and_a_ridge_removes_it():
    widths = np.array([0.5, 1, 2, 2.9, 3.1, 4, 8, 30])
    small = [sphere_error(psi, 3.0, 1e-8, noise=NOISE) for psi in widths]
    assert small[0] > small[1] < small[2] < small[3] and small[4] > small[5] > small[6] > small[7]
    large = [sphere_error(psi, 3.0, 0.3, noise=NOISE) for psi in widths]
    assert (np.diff(large) < 0).all()


def test_moments_of_relu_are_its_integrals():
    def mean(power):
        return quad(lambda u: u**power * max(u, 0) * np.exp(-u * u / 2) / np.sqrt(2 * np.pi), -12, 12, points=[0])[0]

    assert (RELU.mean, RELU.slope) == pytest.approx((mean(0), mean(1)))
    assert RELU.rest**2 + RELU.mean**2 + RELU.slope**2 == pytest.approx(0.5)


def test_what_nothing_learns_adds_to_the_error():
    one = sphere_error(2, 3, 0.1, noise=0.5)
    two = sphere_error(2, 3, 0.1, nonlinear=0.5)
    assert two - one == pytest.approx(0.5)  # a nonlinear part is noise that the error contains
    assert sphere_error(2, 3, 1e6) == pytest.approx(1, rel=1e-3)  # a large ridge leaves the target
    linear = ActivationMoments(0.0, 1.0, 1e-4)  # features that are all but linear: N > d has no use
    assert sphere_error(5, 3, 1e-3, activation=linear) < 1e-3


def test_many_features_are_the_kernel():
    values = 1.0 / np.arange(1, 2001) ** 1.5
    coefficients = np.random.default_rng(0).normal(size=(2000, 2)) * values[:, None]
    got = feature_error(values, coefficients, 100, 10**7, 0.05, noise=0.1)
    np.testing.assert_allclose(got, predict(values, coefficients, 100, 0.05, noise=0.1).test, rtol=1e-3)


@pytest.mark.parametrize("features", [40, 110, 300])
def test_feature_error_equals_simulation_of_gaussian_features(features):
    n, ridge, noise = 100, 0.02, 0.1
    values = 1.0 / np.arange(1, 801) ** 1.3
    target = np.zeros(800)
    target[:6] = [0.5, 1, 0.3, 0.7, 0.2, 0.6]
    random, errors = np.random.default_rng(0), []
    for _ in range(40):
        modes = random.normal(size=(n + 500, 800))
        phi = modes * np.sqrt(values) @ random.normal(size=(800, features)) / np.sqrt(features)
        y = modes @ target + np.sqrt(noise) * random.normal(size=n + 500)
        readout = phi[:n].T @ np.linalg.solve(phi[:n] @ phi[:n].T + ridge * np.eye(n), y[:n])
        errors.append(np.square(phi[n:] @ readout - y[n:]).mean())
    got = feature_error(values, target[:, None], n, features, ridge, noise=noise)[0]
    assert got == pytest.approx(np.mean(errors), abs=4 * np.std(errors) / np.sqrt(40) + 0.02 * np.mean(errors))


@pytest.mark.parametrize("given", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, -1)])
def test_impossible_values_are_refused(given):
    with pytest.raises(UserError, match="above 0"):
        sphere_error(*given)
    with pytest.raises(UserError, match="above 0"):
        feature_error(np.ones(3), np.ones((3, 1)), *given)
