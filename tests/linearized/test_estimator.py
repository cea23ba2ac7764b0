"""`KernelRidgePath` as scikit-learn sees it, against its own KernelRidge, and by leaving rows out."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from linearized.kernel_ridge.estimator import KernelRidgePath


@parametrize_with_checks([KernelRidgePath(), KernelRidgePath(select="loo"), KernelRidgePath(2.0, kernel="linear")])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("outputs", [1, 2])
def test_one_ridge_is_scikit_learns_kernel_ridge(points, outputs):
    x, y, z = points
    y = y if outputs == 1 else np.stack([y, y**2], axis=1)
    ours = KernelRidgePath(0.3, kernel="rbf", kernel_params={"gamma": 0.5}).fit(x, y)
    theirs = KernelRidge(alpha=0.3, kernel="rbf", gamma=0.5).fit(x, y)
    np.testing.assert_allclose(ours.dual_coef_, theirs.dual_coef_, atol=1e-8)
    np.testing.assert_allclose(ours.predict(z), theirs.predict(z), atol=1e-8)
    assert ours.score(x, y) == pytest.approx(theirs.score(x, y))
    precomputed = KernelRidgePath(0.3).fit(rbf_kernel(x, gamma=0.5), y)
    np.testing.assert_allclose(precomputed.predict(rbf_kernel(z, x, gamma=0.5)), ours.predict(z), atol=1e-10)


def test_leave_one_out_chooses_what_leaving_rows_out_chooses(points):
    x, y, _ = points
    gram, ridges = rbf_kernel(x, gamma=0.5), [1e-3, 1e-1, 1.0, 30.0]
    losses = []
    for ridge in ridges:
        errors = []
        for i in range(60):
            kept = np.arange(60) != i
            alpha = np.linalg.solve(gram[np.ix_(kept, kept)] + ridge * np.eye(59), y[kept])
            errors.append(y[i] - gram[i, kept] @ alpha)
        losses.append(np.mean(np.square(errors)))
    fitted = KernelRidgePath(ridges, select="loo").fit(gram, y)
    np.testing.assert_allclose(fitted.scores_, losses, rtol=1e-6)
    assert fitted.ridge_ == ridges[int(np.argmin(losses))] and fitted.ridge_index_ == int(np.argmin(losses))


def test_gcv_is_its_formula(points):
    x, y, _ = points
    gram, ridges = rbf_kernel(x, gamma=0.5), [1e-2, 1.0, 30.0]
    inverses = [np.linalg.inv(gram + ridge * np.eye(60)) for ridge in ridges]
    expected = [np.mean((inverse @ y) ** 2) / (np.trace(inverse) / 60) ** 2 for inverse in inverses]
    fitted = KernelRidgePath(ridges).fit(gram, y)
    np.testing.assert_allclose(fitted.scores_, expected, rtol=1e-6)
    assert fitted.ridge_ == ridges[int(np.argmin(expected))]


@pytest.mark.parametrize("weights", [np.random.default_rng(1).uniform(0.1, 4, 60), np.arange(60) % 3, 2.5],
                         ids=["positive", "with zeros", "one number"])  # fmt: skip
@pytest.mark.parametrize("solver", ["auto", "band", "eigh", "cg", "block_lanczos", "cholesky"])
def test_weights_are_those_of_scikit_learns_kernel_ridge(points, weights, solver):
    x, y, _ = points
    y = np.stack([y, y**2], axis=1)
    gram = rbf_kernel(x, gamma=0.5)
    ours = KernelRidgePath(0.3, solver=solver, rtol=1e-11).fit(gram, y, sample_weight=weights)
    theirs = KernelRidge(alpha=0.3, kernel="precomputed").fit(gram, y, sample_weight=weights)
    np.testing.assert_allclose(ours.dual_coef_, theirs.dual_coef_, atol=1e-7)
    np.testing.assert_allclose(ours.path_.solutions[0].predictions, gram @ theirs.dual_coef_, atol=1e-7)
    assert ours.path_.solutions[0].residual < 1e-8


def test_weighted_leave_one_out_is_that_of_leaving_rows_out(points):
    x, y, _ = points
    gram, weights = rbf_kernel(x, gamma=0.5), np.arange(60) % 3 + 0.0
    errors = []
    for i in range(60):
        kept = (np.arange(60) != i) & (weights > 0)
        inner = KernelRidge(alpha=0.3, kernel="precomputed")
        inner.fit(gram[np.ix_(kept, kept)], y[kept], sample_weight=weights[kept])
        errors.append(y[i] - inner.predict(gram[i : i + 1, kept])[0])
    fitted = KernelRidgePath([0.3, 9.0], select="loo").fit(gram, y, sample_weight=weights)
    np.testing.assert_allclose(fitted.path_.solutions[0].leave_one_out[:, 0], errors, atol=1e-8)
    assert fitted.scores_[0] == pytest.approx(np.average(np.square(errors), weights=weights))


def test_weighted_gcv_is_its_formula(points):
    x, y, _ = points
    gram, weights, ridge = rbf_kernel(x, gamma=0.5), np.arange(60) % 3 + 0.0, 0.4
    kept = weights > 0
    root = np.sqrt(weights[kept])
    scaled = root[:, None] * gram[np.ix_(kept, kept)] * root
    hat = scaled @ np.linalg.inv(scaled + ridge * np.eye(kept.sum()))
    left = y[kept] - (hat @ (root * y[kept])) / root
    expected = np.average(left**2, weights=weights[kept]) / (1 - np.trace(hat) / kept.sum()) ** 2
    fitted = KernelRidgePath([ridge, 9.0]).fit(gram, y, sample_weight=weights)
    assert fitted.scores_[0] == pytest.approx(expected)
    assert fitted.path_.solutions[0].degrees_of_freedom == pytest.approx(np.trace(hat))


def test_a_weight_counts_as_often_as_its_row_is_repeated(points):
    x, y, z = points
    counts = np.random.default_rng(2).integers(0, 4, 60)
    weighted = KernelRidgePath(0.3, kernel="rbf").fit(x, y, sample_weight=counts)
    repeated = KernelRidgePath(0.3, kernel="rbf").fit(np.repeat(x, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(weighted.predict(z), repeated.predict(z), atol=1e-7)


@pytest.mark.parametrize("weights, words", [
    (-np.ones(60), "at least 0"), (np.zeros(60), "all weights are zero"), (np.ones(59), r"shape \(60,\)"),
    (np.full(60, np.nan), "finite"), (np.ones((60, 1)), "shape"), (["a"] * 60, "real numbers"),
])  # fmt: skip
def test_weights_that_mean_nothing_are_refused(points, weights, words):
    x, y, _ = points
    with pytest.raises(ValueError, match=words):
        KernelRidgePath(1.0).fit(rbf_kernel(x), y, sample_weight=weights)


def test_a_kernel_of_nan_is_refused_in_predict(points):
    x, y, _ = points
    fitted = KernelRidgePath(1.0, kernel=lambda a, b: float(a @ b) if np.abs(a).max() < 50 else np.nan).fit(x, y)
    with pytest.raises(ValueError, match="must be finite"):
        fitted.predict(np.full((1, 3), 60.0))


def test_a_search_slices_the_matrix_on_both_sides(points):
    x, y, _ = points
    search = GridSearchCV(KernelRidgePath(), {"ridges": [0.1, 10.0]}, cv=KFold(3)).fit(rbf_kernel(x), y)
    assert search.best_params_["ridges"] in (0.1, 10.0)
    assert clone(search.best_estimator_).ridges == search.best_estimator_.ridges


@pytest.mark.parametrize("settings", [
    {"ridges": 1e-3, "solver": "cg", "rtol": 1e-15},  # beyond float64
    {"ridges": 1e-12, "solver": "cg", "rtol": 1e-10},  # more iterations than are allowed
    {"ridges": [1e-13, 1e-12], "select": "loo", "rtol": 1e-13},  # both of a path
], ids=["precision", "iterations", "path"])  # fmt: skip
def test_a_chosen_ridge_that_is_not_solved_issues_a_convergence_warning(points, settings):
    x, y, _ = points
    gram = rbf_kernel(x, gamma=0.05)
    with pytest.warns(ConvergenceWarning, match="did not converge") as caught:
        fitted = KernelRidgePath(**settings).fit(gram, y)
    [warning] = caught
    assert warning.filename == __file__  # where `fit` was called
    said, asked = map(float, re.search(r"residual (\S+), asked for (\S+)\. Take", str(warning.message)).groups())
    left = y - (gram @ fitted.dual_coef_ + fitted.ridge_ * fitted.dual_coef_)
    residual = np.linalg.norm(left) / np.linalg.norm(y)
    assert asked == settings["rtol"] < residual
    assert 0.3 < said / residual < 3  # rounding of the products dominates both


@pytest.mark.parametrize("settings", [
    {"ridges": 1e-3, "solver": "cg"}, {"ridges": [1e-13, 0.1], "select": "loo", "rtol": 1e-13},
], ids=["solved", "the ridge that is not solved is not chosen"])  # fmt: skip
def test_a_chosen_ridge_that_is_solved_issues_no_warning(points, settings):
    x, y, _ = points
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = KernelRidgePath(**settings).fit(rbf_kernel(x, gamma=0.05), y)
    solved = [solution.converged for solution in fitted.path_.solutions]
    assert solved[fitted.ridge_index_] and solved == [True] * (len(solved) == 1) + [False, True] * (len(solved) == 2)


@pytest.mark.parametrize("settings, words", [
    ({"select": "aic"}, "gcv or loo"), ({"ridges": [-1.0]}, "at least 0"), ({"solver": "cg"}, "does not give"),
    ({"solver": "svd"}, "cholesky"),
])  # fmt: skip
def test_bad_settings_are_refused(points, settings, words):
    x, y, _ = points
    with pytest.raises(ValueError, match=words):
        KernelRidgePath(**settings).fit(rbf_kernel(x), y)
