"""The Hermite eigenstructure: modes by enumeration, eigenvalues, targets and predictions on Gaussian rows."""

import itertools
import math

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.learning_theory.eigenframework import predict_from_powers
from linearized.learning_theory.hermite import hermite_features, hermite_modes, hermite_target, level_coefficients
from linearized.learning_theory.sphere import effective_dimension, sphere_spectrum


def exponential(t):
    """A dot-product kernel exp(x·z/4) on the sphere of square radius 4, whose level coefficients are 4^-ℓ."""
    return np.exp(t)


def gaussian_rows(rows, variances, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, len(variances))) * np.sqrt(variances)


def test_modes_are_the_largest_products_of_an_enumeration():
    variances, levels = np.array([1.5, 0.7, 0.7, 0.2]), [0.5, 1.0, 0.0, 0.3, 0.2]
    every = [(level * math.prod(variances[list(mode)]), mode) for degree, level in enumerate(levels) if level
             for mode in itertools.combinations_with_replacement(range(4), degree)]  # fmt: skip
    expected = sorted((value for value, _ in every), reverse=True)
    got = hermite_modes(variances, levels, 30)
    np.testing.assert_allclose(got.eigenvalues, expected[:30])
    assert len(set(got.components)) == 30
    for value, mode in zip(got.eigenvalues, got.components, strict=True):
        assert value == pytest.approx({m: v for v, m in every}[mode])
    assert len(hermite_modes(variances, levels, 10**6).components) == len(every)


def test_features_are_orthonormal_on_gaussian_rows_and_few_of_them_known():
    scores = gaussian_rows(200_000, np.ones(3))
    modes = [(), (0,), (2,), (0, 0), (0, 1), (0, 0, 1), (1, 1, 1)]
    features = hermite_features(scores, modes)
    np.testing.assert_allclose(features.T @ features / len(scores), np.eye(7), atol=0.04)
    np.testing.assert_allclose(features[:, 5], (scores[:, 0] ** 2 - 1) / math.sqrt(2) * scores[:, 1])


def test_level_coefficients_of_many_dimensions_are_derivatives():
    variances = np.full(2000, 4 / 2000)
    np.testing.assert_allclose(level_coefficients(exponential, variances, degrees=4), 0.25 ** np.arange(5), rtol=0.01)
    levels = level_coefficients(np.square, np.full(6, 0.5), degrees=4)  # (x·z)²/9 in six dimensions
    assert levels[[1, 3, 4]] == pytest.approx([0, 0, 0], abs=1e-9) and levels[2] > 0


def test_equal_variances_have_the_spectrum_of_the_sphere():
    exact = sphere_spectrum(exponential, 9, 3).eigenvalues
    modes = hermite_modes(np.full(9, 0.3), level_coefficients(exponential, np.full(9, 0.3), degrees=3), 400)
    for value, mode in zip(modes.eigenvalues, modes.components, strict=True):
        assert value == pytest.approx(exact[len(mode)], rel=1e-9)


@pytest.mark.parametrize("profile", [exponential, lambda t: (1 + t) ** 2])
def test_eigenvalues_are_those_of_gaussian_rows(profile):
    variances = 1.0 / np.arange(1, 61) ** 0.6
    variances *= 4 / variances.sum()
    x = gaussian_rows(1500, variances)
    found = np.linalg.eigvalsh(profile(x @ x.T / 4))[::-1] / len(x)
    got = hermite_modes(variances, level_coefficients(profile, variances), 2000).eigenvalues
    # the approximation is that of small variances, here up to a tenth of the trace
    np.testing.assert_allclose(got[:12], found[:12], rtol=0.2)
    np.testing.assert_allclose(np.cumsum(got)[[5, 20, 60]], np.cumsum(found)[[5, 20, 60]], rtol=0.08)
    assert np.abs(np.log(got[:40] / found[:40])).mean() < 0.1


def test_powers_of_a_target_are_found_without_bias():
    scores = gaussian_rows(1200, np.ones(8), seed=3)
    modes = hermite_modes(np.linspace(1, 0.5, 8), [1.0, 0.3, 0.05], 40)
    planted = hermite_features(scores, [(0, 1), (2,)]) @ np.array([0.8, 0.5])
    noise = np.random.default_rng(1).normal(size=1200)
    y = np.stack([planted + noise, noise], axis=1)
    got = hermite_target(scores, y, modes.components)
    places = [modes.components.index(mode) for mode in ((0, 1), (2,))]
    np.testing.assert_allclose(got.powers[places, 0], [0.64, 0.25], atol=0.12)
    others = np.delete(got.powers, places, axis=0)
    assert abs(others.sum(axis=0)[1]) < 4 * np.sqrt(2 * 40) / 1200 and (others < 0).any()
    np.testing.assert_allclose(got.powers.sum(axis=0) + got.rest, np.square(y).mean(axis=0))
    assert got.rest[0] == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_learning_curve_from_covariance_alone_equals_simulation(ridge):
    variances = 1.0 / np.arange(1, 61) ** 0.6
    variances *= 4 / variances.sum()
    modes = hermite_modes(variances, level_coefficients(exponential, variances), 20_000)
    powers = np.zeros((len(modes.eigenvalues), 1))
    target = [(0,), (4,), (0, 2), (1, 1)]
    for mode, value in zip(target, (1.0, 0.5, 0.7, 0.4), strict=True):
        powers[modes.components.index(mode)] = value**2
    n, errors = 300, []
    trace = np.prod(1 - variances / 2) ** -0.5  # the mean of exp(‖x‖²/4)
    tail = max(trace - modes.eigenvalues.sum(), 0)
    got = predict_from_powers(modes.eigenvalues, powers, n, ridge + tail).test[0]
    for seed in range(8):
        x = gaussian_rows(n + 1500, variances, seed)
        y = hermite_features(x / np.sqrt(variances), target) @ np.array([1.0, 0.5, 0.7, 0.4])
        gram = np.exp(x @ x[:n].T / 4)
        alpha = np.linalg.solve(gram[:n] + ridge * np.eye(n), y[:n])
        errors.append(np.square(gram[n:] @ alpha - y[n:]).mean())
    assert got == pytest.approx(np.mean(errors), rel=0.15)  # norms vary, which the levels do not know


def test_effective_dimension_of_a_sample_is_corrected_for_its_rows():
    x = np.random.default_rng(0).normal(size=(300, 80))
    variances = np.linalg.eigvalsh(x.T @ x / 300)
    assert effective_dimension(variances) < 66
    assert effective_dimension(variances, 300) == pytest.approx(80, rel=0.05)


@pytest.mark.parametrize("call, said", [
    (lambda: hermite_modes(np.array([1.0, 2.0]), [1.0], 3), "decreasing"),
    (lambda: hermite_modes(np.array([1.0, 0.0]), [1.0], 3), "positive"),
    (lambda: hermite_modes(np.ones(2), [1.0, -1.0], 3), "Level coefficients"),
    (lambda: hermite_target(np.ones((10, 2)), np.ones((10, 1)), [()] * 6), "1 to 5 modes"),
])  # fmt: skip
def test_impossible_values_are_refused(call, said):
    with pytest.raises(UserError, match=said):
        call()
