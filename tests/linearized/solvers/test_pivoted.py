"""Randomly pivoted Cholesky: the approximation, its residual, the law of its pivots, and what a killed run keeps."""

import numpy as np
import pytest

from linearized.solvers.linear.driver import TimedCheckpoint
from linearized.solvers.linear.pivoted import pivoted_cholesky, randomly_pivoted


def matrix(n=60, rank=None, seed=0):
    points = np.random.default_rng(seed).standard_normal((n, rank or n))
    return points @ np.diag(1.0 / np.arange(1, points.shape[1] + 1)) @ points.T


def factor_of(k, rank, **more):
    return randomly_pivoted(np.diagonal(k).copy(), lambda rows: k[:, rows], rank, **more)


@pytest.mark.parametrize("dtype, error", [("float64", 1e-10), ("float32", 1e-4)])
def test_it_is_the_nystrom_approximation_of_its_pivots(dtype, error):
    k = matrix()
    found = factor_of(k, 20, dtype=dtype)
    rows, approximation = found.rows, found.factor.T.astype(np.float64) @ found.factor
    assert len(set(rows)) == 20 and found.factor.dtype == dtype
    nystrom = k[:, rows] @ np.linalg.solve(k[np.ix_(rows, rows)], k[rows])
    np.testing.assert_allclose(approximation, nystrom, atol=error * k.max())
    np.testing.assert_allclose(found.residual, np.diagonal(k - nystrom), atol=error * k.max())
    assert np.linalg.eigvalsh(k - approximation).min() > -error * k.max()


def test_a_residual_that_is_exhausted_ends_it():
    k = matrix(rank=7)
    found = factor_of(k, 30)
    assert len(found.rows) == 7 == len(found.factor)
    np.testing.assert_allclose(found.factor.T @ found.factor, k, atol=1e-9)
    assert len(factor_of(np.zeros((5, 5)), 3).rows) == 0
    assert len(factor_of(matrix(1), 3).rows) == 1


def test_the_first_pivot_is_drawn_in_proportion_to_the_diagonal():
    diagonal = np.array([1.0, 3.0, 6.0])
    counts = np.bincount([factor_of(np.diag(diagonal), 1, seed=seed).rows[0] for seed in range(600)], minlength=3)
    expected = 600 * diagonal / 10
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_a_killed_choice_goes_on_with_the_same_pivots(tmp_path):
    k, drawn = matrix(200), []

    def columns(rows):
        drawn.append(len(rows))
        if len(drawn) == 6:
            raise KeyboardInterrupt
        return k[:, rows]

    whole = factor_of(k, 50, seed=3)
    for _ in range(2):
        saved = TimedCheckpoint(tmp_path, 0.0, key="a")
        try:
            found = randomly_pivoted(np.diagonal(k).copy(), columns, 50, seed=3, saved=saved)
        except KeyboardInterrupt:
            assert len(list(tmp_path.glob("pivots-*"))) == 5
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_array_equal(found.factor, whole.factor)
    assert sum(drawn) < 50 + 2 * 5  # no block was drawn twice but the one that was killed


def test_rows_that_depend_on_others_are_left_out_of_the_pivoted_factor():
    k = matrix(12, rank=4)
    lower, order = pivoted_cholesky(k.copy(), 1e-10)
    assert lower.shape == (4, 4) and len(order) == 4
    factor = np.tril(lower)
    np.testing.assert_allclose(factor @ factor.T, k[np.ix_(order, order)], atol=1e-10)
    assert order[0] == np.argmax(np.diagonal(k))
    assert pivoted_cholesky(np.zeros((3, 3)), 1e-10)[0].shape == (0, 0)
