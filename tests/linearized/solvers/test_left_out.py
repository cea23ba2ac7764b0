"""The mean leave-one-out error of a path: that of leaving rows out, from all rows or estimated from a draw of them."""

import numpy as np
import pytest

from linearized.kernel_ridge.embedded_fit import fit_embedding
from linearized.kernel_ridge.ridge_path import fit
from linearized.solvers.linear import left_out
from linearized.solvers.linear.left_out import drawn_rows, mean_left_out

RIDGES = [0.01, 0.3, 10.0]


def uneven(n, seed=0):
    """Return a Laplace kernel of rows of very different density, for which gcv is too small, and two targets."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 4)) * random.lognormal(0, 0.6, (n, 1))
    gram = np.exp(-np.linalg.norm(x[:, None] - x[None], axis=-1))
    return gram, np.stack([np.sin(x[:, 0]) + x[:, 1], random.normal(size=n)], axis=1)


def exact(gram, y, ridge):
    inverse = np.linalg.inv(gram + ridge * np.eye(len(y)))
    return np.square(inverse @ y).sum(axis=1), np.diagonal(inverse)


@pytest.mark.parametrize("solver", ["band", "eigh"])
@pytest.mark.parametrize("dtype, close", [("float64", 1e-7), ("float32", 1e-3)])
def test_up_to_256_rows_the_mean_is_that_of_leaving_each_row_out(solver, dtype, close):
    gram, y = uneven(90)
    for one in fit(gram.astype(dtype), y, RIDGES, solver=solver).solutions:
        errors = []
        for row in range(90):
            others = np.delete(np.arange(90), row)
            alpha = np.linalg.solve(gram[np.ix_(others, others)] + one.ridge * np.eye(89), y[others])
            errors.append(np.square(y[row] - gram[row, others] @ alpha).sum())
        assert one.left_out_loss == pytest.approx(np.mean(errors), rel=close)
        assert one.left_out_error == pytest.approx(np.std(errors) / np.sqrt(90), rel=close)


@pytest.mark.parametrize("ridge", RIDGES)
def test_estimates_from_draws_scatter_about_the_mean_as_their_errors_say(ridge, monkeypatch):
    gram, y = uneven(700)
    squares, diagonal = exact(gram, y, ridge)
    losses, found = squares / diagonal**2, []
    assert squares.mean() / diagonal.mean() ** 2 < 0.98 * losses.mean()  # gcv
    for seed in range(150):
        monkeypatch.setattr(left_out, "SEED", seed)
        draw = drawn_rows(np.stack([squares, squares]))
        assert len(draw.rows) == len(set(draw.rows)) and draw.counts.sum() == 256
        found.append(mean_left_out(squares, draw, diagonal[draw.rows]))
    values, errors = np.array(found).T
    by_rows = losses.std() / np.sqrt(700)
    assert values.mean() == pytest.approx(losses.mean(), abs=4 * values.std() / np.sqrt(150) + 0.003 * losses.mean())
    assert values.std() < 0.6 * losses.std() / np.sqrt(256)  # that of rows drawn alike
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(np.hypot(values.std(), by_rows), rel=0.15)


def test_a_long_path_is_estimated_from_one_draw_for_all_ridges():
    gram, y = uneven(400, seed=1)
    for one in fit(gram, y, RIDGES, solver="band").solutions:
        squares, diagonal = exact(gram, y, one.ridge)
        mean = (squares / diagonal**2).mean()
        assert 0 < abs(one.left_out_loss - mean) < 4 * one.left_out_error < mean


def test_weighted_rows_have_a_weighted_mean():
    gram, y = uneven(60)
    weights = np.random.default_rng(1).uniform(0.5, 2, 60)
    for solver in ("band", "eigh"):
        [one] = fit(gram, y, [0.3], solver=solver, sample_weight=weights).solutions
        alpha = np.linalg.solve(gram + 0.3 * np.diag(1 / weights), y)
        without = alpha / np.diagonal(np.linalg.inv(gram + 0.3 * np.diag(1 / weights)))[:, None]
        expected = np.average(np.square(without).sum(axis=1), weights=weights)
        assert one.left_out_loss == pytest.approx(expected, rel=1e-6)


def test_rows_of_features_are_not_those_that_the_normal_equations_leave_out():
    random = np.random.default_rng(0)
    path = fit_embedding(random.normal(size=(80, 12)), random.normal(size=80), [1.0])
    assert path.solutions[0].left_out_loss is None and path.solutions[0].gcv is not None


def test_draws_take_ridges_without_numbers_for_nothing():
    squares = np.ones((3, 300))
    squares[0], squares[1, :150] = np.nan, 0.0
    draw = drawn_rows(squares)
    assert draw.chances.min() > 0 and (draw.rows >= 150).mean() > 0.6
    assert drawn_rows(np.zeros((1, 300))).chances is None
