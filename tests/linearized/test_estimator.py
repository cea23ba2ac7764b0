"""`KernelRidgePath` as scikit-learn sees it, against its own KernelRidge, and by leaving rows out."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from linearized.estimator import KernelRidgePath


@parametrize_with_checks([KernelRidgePath(), KernelRidgePath(select="loo"), KernelRidgePath(2.0, kernel="linear")])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture
def points():
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 3))
    return x, np.sin(x[:, 0]) + 0.1 * random.standard_normal(60), random.standard_normal((15, 3))


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


def test_a_search_slices_the_matrix_on_both_sides(points):
    x, y, _ = points
    search = GridSearchCV(KernelRidgePath(), {"ridges": [0.1, 10.0]}, cv=KFold(3)).fit(rbf_kernel(x), y)
    assert search.best_params_["ridges"] in (0.1, 10.0)
    assert clone(search.best_estimator_).ridges == search.best_estimator_.ridges


@pytest.mark.parametrize("settings, words", [
    ({"select": "aic"}, "gcv or loo"), ({"ridges": [-1.0]}, "at least 0"), ({"solver": "cg"}, "does not give"),
    ({"solver": "svd"}, "cholesky"),
])  # fmt: skip
def test_bad_settings_are_refused(points, settings, words):
    x, y, _ = points
    with pytest.raises(ValueError, match=words):
        KernelRidgePath(**settings).fit(rbf_kernel(x), y)
