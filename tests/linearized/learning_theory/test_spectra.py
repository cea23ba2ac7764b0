"""Spectra on the sphere against sampled kernels, other quadratures and closed forms; fitted power laws."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import eval_gegenbauer

from linearized.base.errors import UserError
from linearized.learning_theory.power_law import fit_power_law
from linearized.learning_theory.sphere import effective_dimension, multiplicities, sphere_spectrum


def arc_cosine(t):
    """The kernel of ReLU features on the unit sphere (Cho & Saul, order 1)."""
    t = np.clip(t, -1, 1)
    return (np.sqrt(1 - t**2) + t * (np.pi - np.arccos(t))) / np.pi


@pytest.mark.filterwarnings("ignore:The occurrence of roundoff")  # of integrals that are 0
@pytest.mark.parametrize("dim", [3, 10, 200])
@pytest.mark.parametrize("profile", [arc_cosine, np.exp, lambda t: np.exp(-np.sqrt(np.maximum(2 - 2 * t, 0)))])
def test_eigenvalues_equal_those_of_an_adaptive_quadrature(dim, profile):
    got = sphere_spectrum(profile, dim, 6)

    def integral(function):
        return quad(lambda angle: function(np.cos(angle)) * np.sin(angle) ** (dim - 2), 0, np.pi, points=[np.pi / 2],
                    epsabs=0, epsrel=1e-10, limit=200)[0]  # fmt: skip

    norm, alpha = integral(lambda t: 1.0), (dim - 2) / 2
    for degree, value in enumerate(got.eigenvalues[:5]):
        scale = eval_gegenbauer(degree, alpha, 1.0)
        expected = integral(lambda t, d=degree, s=scale: profile(t) * eval_gegenbauer(d, alpha, t) / s) / norm
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-13)


def test_polynomial_kernel_has_its_closed_form():
    # t² = (t² - 1/d) + 1/d: the constant has 1/d, degree 2 shares what is left of f(1) = 1
    got = sphere_spectrum(np.square, 10, 4)
    np.testing.assert_allclose(got.eigenvalues, [0.1, 0, 0.9 / 54, 0, 0], atol=1e-15)
    np.testing.assert_allclose(got.multiplicities, [1, 10, 54, 210, 660])
    assert got.shares().sum() == pytest.approx(1)


def test_arc_cosine_kernel_has_no_odd_degree_above_1():
    got = sphere_spectrum(arc_cosine, 12, 9)
    assert (got.eigenvalues[[0, 1, 2, 4, 6, 8]] > 0).all()
    np.testing.assert_allclose(got.eigenvalues[[3, 5, 7, 9]], 0, atol=1e-14)
    assert 0.99 < sphere_spectrum(arc_cosine, 12, 30).shares().sum() < 1


def test_eigenvalues_of_sampled_rows_gather_at_the_exact_ones():
    dim, rows = 6, 2000
    x = np.random.default_rng(0).normal(size=(rows, dim))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    sampled = np.linalg.eigvalsh(arc_cosine(x @ x.T))[::-1] / rows
    exact = sphere_spectrum(arc_cosine, dim, 2)
    start = 0
    for value, count in zip(exact.eigenvalues, exact.multiplicities.astype(int), strict=True):
        mine = sampled[start : start + count]  # (of 2,000 rows the 20 values of degree 2 spread by 15 %)
        assert mine.mean() == pytest.approx(value, rel=0.03)
        start += count


def test_multiplicities_count_harmonic_polynomials():
    np.testing.assert_allclose(multiplicities(3, 5), [1, 3, 5, 7, 9, 11])
    np.testing.assert_allclose(multiplicities(784, 2), [1, 784, 784 * 785 / 2 - 1])


def test_effective_dimension_of_equal_variances_is_the_dimension():
    assert effective_dimension(np.full(30, 2.5)) == pytest.approx(30)
    # 16 variances of d^κ among d = 256 of 1, as SYNTH has them at κ = .9: (16 s + 240)²/(16 s² + 240)
    large = 256**0.9
    expected = (16 * large + 240) ** 2 / (16 * large**2 + 240)
    assert effective_dimension(np.r_[np.full(16, large), np.ones(240)]) == pytest.approx(expected)
    assert 16 < expected < 20
    with pytest.raises(UserError, match="variances"):
        effective_dimension(np.zeros(3))


@pytest.mark.parametrize("dim, degrees", [(2, 3), (np.inf, 3), (5, -1), (5, 201)])
def test_spectra_out_of_range_are_refused(dim, degrees):
    with pytest.raises(UserError, match="Spectra need"):
        sphere_spectrum(np.exp, dim, degrees)


def test_exponents_are_covered_by_their_errors():
    random, x, away = np.random.default_rng(0), 2.0 ** np.arange(4, 11), []
    for _ in range(300):
        exact = 3.0 * x**-0.4
        errors = 0.05 * exact * random.uniform(0.5, 2, len(x))
        found = fit_power_law(x, exact + errors * random.normal(size=len(x)), errors)
        away.append((found.exponent - 0.4) / found.error)
    assert abs(np.mean(away)) < 0.2 and 0.75 < np.std(away) < 1.1  # errors are only ever enlarged


def test_exact_power_law_is_found():
    x = np.array([1.0, 2.0, 5.0, 9.0])
    for errors in (None, 0.01 * x**-1.5):
        found = fit_power_law(x, 7 * x**-1.5, errors)
        assert found.exponent == pytest.approx(1.5, abs=1e-6) and found.factor == pytest.approx(7, rel=1e-6)
        np.testing.assert_allclose(found(x), 7 * x**-1.5, rtol=1e-6)
    assert fit_power_law(x, 7 * x**1.5).exponent == pytest.approx(-1.5, abs=1e-6)


def test_errors_weigh_the_points():
    x, y = np.array([1.0, 10.0, 100.0, 1000.0]), np.array([1.0, 0.1, 0.01, 0.5])
    weighted = fit_power_law(x, y, np.array([1e-3, 1e-4, 1e-5, 5.0]))
    assert weighted.exponent == pytest.approx(1, abs=0.01) and fit_power_law(x, y).exponent < 0.5
    curved = fit_power_law(x, np.exp(-(x**0.3)), 1e-3 * np.exp(-(x**0.3)))
    assert curved.chi > 10 and curved.error > 10 * 1e-3 / 8  # no power law: said, and the error enlarged


@pytest.mark.parametrize("x, y, errors", [
    ([1, 2], [1, 1], None), ([1, 1, 1], [1, 2, 3], None), ([1, 2, 3], [1, -2, 3], None), ([0, 2, 3], [1, 2, 3], None),
    ([1, 2, 3], [1, 2, 3], [0, 1, 1]), ([1, 2, 3], [1, np.nan, 3], None),
])  # fmt: skip
def test_points_that_no_power_law_has_are_refused(x, y, errors):
    with pytest.raises(UserError, match="A power law needs"):
        fit_power_law(np.array(x, float), np.array(y, float), None if errors is None else np.array(errors, float))
