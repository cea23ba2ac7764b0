"""The band solver: what float32 asks for, traces from the band, ridges of rounding's size, and its saved state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.problems import GramProblem
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.linear import refinement
from linearized.solvers.linear.band import banded
from linearized.solvers.linear.band import solver as band


def spectrum_of(seed, n, values):
    """K with these eigenvalues, and Y."""
    random = np.random.default_rng(seed)
    vectors = np.linalg.qr(random.standard_normal((n, n)))[0]
    k = (vectors * values) @ vectors.T
    return (k + k.T) / 2, random.standard_normal((n, 2))


@given(seed=st.integers(0, 10**6), n=st.integers(1, 50), width=st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_the_trace_of_the_inverse_of_a_band(seed, n, width):
    random, width = np.random.default_rng(seed), min(width, n - 1)
    lower = np.tril(random.standard_normal((n, n)))
    lower[np.arange(n)[:, None] - np.arange(n) > width] = 0
    dense = lower @ lower.T + 0.5 * np.eye(n)
    stored = np.array([np.pad(np.diagonal(dense, -i), (0, i)) for i in range(width + 1)])
    factor = banded.factor(stored - 0.25 * (np.arange(width + 1) == 0)[:, None], 0.25)
    assert banded.inverse_trace(factor) == pytest.approx(np.trace(np.linalg.inv(dense)), rel=1e-9)
    y = random.standard_normal((n, 3))
    np.testing.assert_allclose(dense @ banded.solve(factor, y), y, atol=1e-8)
    expected = (y * np.linalg.solve(dense, y)).sum(axis=0)
    np.testing.assert_allclose(banded.inverse_squares(factor, y), expected, rtol=1e-8)


def test_a_band_that_is_not_positive_definite_has_no_factor():
    assert banded.factor(np.array([[1.0, 1.0], [2.0, 0.0]]), 0.5) is None
    assert banded.factor(np.array([[1.0, 1.0], [2.0, 0.0]]), 1.5) is not None


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-9), ("float32", 1e-4)])
def test_degrees_of_freedom_and_gcv(dtype, close):
    values = np.logspace(3, -3, 150)
    k, targets = spectrum_of(0, 150, values)
    for one in band.solve(GramProblem(k.astype(dtype), targets), [0.01, 1.0, 100.0], rtol=1e-9, atol=0.0):
        assert one.degrees_of_freedom == pytest.approx(np.sum(values / (values + one.ridge)), rel=close)
        alpha = np.linalg.solve(k + one.ridge * np.eye(150), targets)
        inverse = np.sum(1 / (values + one.ridge))
        gcv = np.mean(np.sum(alpha**2, axis=1)) / (inverse / 150) ** 2
        assert one.gcv == pytest.approx(gcv, rel=10 * close)
        assert one.shift == 0


def test_float32_is_refined_where_the_tolerance_asks():
    k, targets = spectrum_of(1, 200, np.logspace(3, 0, 200))
    problem = GramProblem(k.astype(np.float32), targets)
    exact = np.linalg.solve(problem.gram.astype(np.float64) + 0.1 * np.eye(200), targets)
    [rough], [fine] = (band.solve(problem, [0.1], rtol=rtol, atol=0.0) for rtol in (1e-2, 1e-10))
    assert rough.converged and rough.refinements == 0 and 1e-6 < rough.residual < 1e-2
    assert fine.converged and fine.refinements > 0 and fine.residual < 1.1e-10
    assert len(fine.history) == fine.refinements + 1 and fine.history[0] == pytest.approx(rough.residual, rel=0.1)
    np.testing.assert_allclose(fine.value, exact, atol=1e-8 * np.abs(exact).max())


def test_a_ridge_of_roundings_size_is_solved_from_a_larger_one_and_told():
    """The factor is made at λ', CG goes back to ρ: the answer is that of ρ, and λ' is reported."""
    k, targets = spectrum_of(2, 120, np.logspace(3, -3, 120))
    problem = GramProblem(k.astype(np.float32), targets)
    solutions = band.solve(problem, [1e-4, 10.0], rtol=1e-7, atol=0.0)
    small = solutions[0]
    least = refinement.floor(np.dtype(np.float32), float(np.linalg.norm(k)))
    assert small.shift >= least * (1 - 1e-6) > 1e-4 and solutions[1].shift == 0
    assert small.converged and small.degrees_of_freedom is None and small.gcv is None
    assert "float32 does not hold K" in small.message and solutions[1].message == ""
    stored = problem.gram.astype(np.float64)
    stored = np.tril(stored) + np.tril(stored, -1).T
    exact = np.linalg.solve(stored + 1e-4 * np.eye(120), targets)
    np.testing.assert_allclose(small.value, exact, atol=1e-2 * np.abs(exact).max())
    missing = targets - stored @ small.value - 1e-4 * small.value
    assert np.linalg.norm(missing) / np.linalg.norm(targets) < 1.2e-7


def test_an_indefinite_matrix_is_told_ridge_by_ridge():
    values = np.append(np.linspace(1, 5, 79), -2.0)
    k, targets = spectrum_of(3, 80, values)
    low, high = band.solve(GramProblem(k, targets), [1.0, 3.0], rtol=1e-8, atol=0.0)
    assert "not positive definite" in low.message and low.shift > 2
    assert high.converged and high.message == "" and high.shift == 0
    np.testing.assert_allclose(high.value, np.linalg.solve(k + 3 * np.eye(80), targets), atol=1e-9)


def test_too_few_steps_are_told():
    k, targets = spectrum_of(4, 100, np.logspace(3, -4, 100))
    problem = GramProblem(k.astype(np.float32), targets)
    [solution] = band.solve(problem, [1e-5], rtol=1e-9, atol=0.0, max_iterations=2)
    assert not solution.converged and solution.refinements == 2
    assert "after 2 steps" in solution.message


def test_the_reduction_is_saved_at_its_end_and_serves_other_ridges_and_labels(tmp_path, monkeypatch):
    k, targets = spectrum_of(5, 300, np.linspace(1, 9, 300))
    saves, save = [], Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda self, name, arrays: (saves.append(name), save(self, name, arrays)))
    band.solve(GramProblem(k, targets), [1.0], checkpoint=tmp_path, key="k", interval=1e6)
    assert len(saves) == 1  # not on the way: the interval has not passed
    told = []
    [solution] = band.solve(
        GramProblem(k, targets[:, :1] ** 2), [0.2], rtol=1e-9, atol=0.0, checkpoint=tmp_path, key="k",
        progress=lambda *news: told.append(news),
    )  # fmt: skip
    assert not told and len(saves) == 1  # read, not made again
    expected = np.linalg.solve(k + 0.2 * np.eye(300), targets[:, :1] ** 2)
    np.testing.assert_allclose(solution.value, expected, atol=1e-10)


def test_progress_counts_work():
    k, targets = spectrum_of(6, 400, np.linspace(1, 9, 400))
    told = []
    band.solve(GramProblem(k, targets), [1.0, 2.0], progress=lambda *news: told.append(news))
    parts = [news[0] for news in told]
    assert parts == sorted(set(parts)) and parts[-1] == 1000
    assert all(news[1] == 1000 and news[2].shape == (2,) and news[3] == 2 for news in told)
