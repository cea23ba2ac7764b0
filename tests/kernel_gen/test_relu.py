"""ReLU's duals: by their closed forms, by sampling, and by the polynomials that replace arccos."""

import numpy as np
import pytest

from kernel_gen.activations import relu


@pytest.mark.parametrize("cos", [-0.9, -0.3, 0.0, 0.5, 0.99])
def test_duals_are_means_over_gaussian_pairs(cos):
    random = np.random.default_rng(0)
    u, w = random.normal(size=(2, 200_000))
    u, v = 2.0 * u, 0.5 * (cos * u + np.sqrt(1 - cos**2) * w)
    for found, samples in (
        (relu.dual(np.array([[cos]]), np.array([4.0]), np.array([0.25])), relu.function(u, np) * relu.function(v, np)),
        (relu.slope(np.array([[cos]]), np.array([4.0]), np.array([0.25])), (u > 0) * (v > 0)),
    ):
        assert abs(found.item() - samples.mean()) < 5 * samples.std() / np.sqrt(len(samples))


def test_slope_is_the_derivative_of_the_dual_by_the_covariance():
    k12, one, step = np.linspace(-0.9, 0.9, 7)[:, None], np.ones(7), 1e-6
    difference = relu.dual(k12 + step, one, np.ones(1)) - relu.dual(k12 - step, one, np.ones(1))
    np.testing.assert_allclose(relu.slope(k12, one, np.ones(1)), difference / (2 * step), rtol=1e-7)


def test_a_variance_of_zero_gives_zero():
    assert relu.dual(np.zeros((1, 1)), np.zeros(1), np.ones(1)) == 0
    assert relu.slope(np.zeros((1, 1)), np.zeros(1), np.ones(1)) == 0.25


@pytest.mark.parametrize("degree, error", [(7, 1e-8), (18, 1e-15)])
def test_polynomials_give_both_kernels(degree, error):
    cos = np.concatenate([np.linspace(-1, 1, 10_001), 1 - np.logspace(-15, -1, 50)])
    short = 1 - np.abs(cos)
    angle, rest = (np.polyval(coefficients, 1 - 2 * short) for coefficients in relu.polynomials(degree))
    angle, rest = np.sqrt(short) * angle, np.sqrt(short) * short * rest
    arccos = np.arctan2(np.sqrt(short * (2 - short)), cos)  # to the last digit near 1, where arccos is not
    kappa1 = np.maximum(cos, 0) + rest
    np.testing.assert_allclose(np.where(cos > 0, angle, 1 - angle), arccos / np.pi, atol=error)
    expected = (np.sqrt(short * (2 - short)) + cos * (np.pi - arccos)) / np.pi
    np.testing.assert_allclose(kappa1, expected, atol=error)
