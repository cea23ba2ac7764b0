"""Laplace, Gaussian and Matérn kernels: against scikit-learn's, near rows, and the median rule over a job's shards."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.gaussian_process.kernels import RBF, Matern

import linearized
from kernel_gen import gram
from kernel_gen.jobs.gram_job import GramJobSettings
from kernel_gen.jobs.runner import run
from kernel_gen.kernels.radial import median_distance
from kernel_gen.rows import prepare_rows
from linearized.base.errors import UserError
from linearized.storage.gram import open_gram
from linearized.storage.results import load_arrays

KINDS = [
    ("LAPLACE", {}, lambda length: Matern(length, nu=0.5)),
    ("GAUSSIAN", {}, lambda length: RBF(length)),
    ("MATERN", {"smoothness": "1.5"}, lambda length: Matern(length, nu=1.5)),
    ("MATERN", {}, lambda length: Matern(length, nu=2.5)),
]
EACH = pytest.mark.parametrize("name, settings, reference", KINDS)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(40, 7))


@EACH
@pytest.mark.parametrize("length", [0.3, 2.0])
def test_entries_are_scikit_learns(name, settings, reference, length, rows):
    found = gram(name, rows, bandwidth=length, dtype="float64", **settings)
    np.testing.assert_allclose(found, reference(length)(rows), atol=1e-14)
    part = gram(name, rows[:3], rows, bandwidth=length, dtype="float64", **settings)
    np.testing.assert_allclose(part, found[:3], atol=1e-14)


@EACH
def test_near_rows_far_from_the_origin_keep_their_digits(name, settings, reference, rows):
    """‖x‖² + ‖z‖² - 2x·z of rows at distance 1e-3 around 1e4 is rounding alone."""
    near = 1e4 + np.concatenate([rows[:5], rows[:5] + 1e-3 * rows[5:10]])
    found = gram(name, near, bandwidth=0.01, dtype="float64", **settings)
    np.testing.assert_allclose(found, reference(0.01)(near), rtol=1e-6, atol=1e-12)


@EACH
def test_the_bandwidth_is_the_median_distance_of_the_train_rows(name, settings, reference, rows):
    length = np.median(pdist(rows))
    assert median_distance(rows) == pytest.approx(length, rel=1e-12)
    np.testing.assert_allclose(gram(name, rows, dtype="float64", **settings), reference(length)(rows), atol=1e-14)
    other = gram(name, rows[:2] * 3, rows, dtype="float64", **settings)
    np.testing.assert_allclose(other, reference(length)(rows[:2] * 3, rows), atol=1e-14)


def test_the_median_of_many_rows_is_that_of_some_spread_over_them():
    x = np.random.default_rng(1).normal(size=(5000, 3)) * np.linspace(1, 2, 5000)[:, None]
    assert median_distance(x) == pytest.approx(np.median(pdist(x)), rel=0.03)


def test_rows_without_a_median_distance_are_refused_and_a_bandwidth_serves_them():
    with pytest.raises(UserError, match="Give one with --bandwidth"):
        gram("LAPLACE", np.ones((5, 3)))
    with pytest.raises(UserError, match="Give one with --bandwidth"):
        gram("LAPLACE", np.ones((1, 3)))
    np.testing.assert_array_equal(gram("LAPLACE", np.ones((5, 3)), bandwidth=1.0), np.ones((5, 5)))


@pytest.mark.parametrize("changes, words", [
    ({"bandwidth": -1.0}, "bandwidth"), ({"smoothness": "3.5"}, "smoothness"),
    ({"kernel": "NTK"}, "--bandwidth is read"),
    ({"kernel": "LAPLACE", "smoothness": "1.5"}, "--smoothness is read by --kernel=MATERN"),
])  # fmt: skip
def test_what_a_kernel_cannot_have_is_refused(changes, words, rows):
    with pytest.raises(UserError, match=words):
        gram(**{"kernel": "MATERN", "x1": rows, "bandwidth": 1.0, **changes})


def test_shards_of_a_job_share_the_bandwidth_of_all_train_rows(directories):
    settings = GramJobSettings(kernel="LAPLACE", dataset="DIGITS", num_train=90, num_test=20, num_shards=3)
    run(settings)
    stored = open_gram(settings.path())
    data = linearized.load("DIGITS", num_train=90, num_test=20)
    whole = gram("LAPLACE", data.train.x)
    np.testing.assert_allclose(stored.to_memory(), whole, atol=1e-6)
    np.testing.assert_allclose(stored.test.to_memory(), gram("LAPLACE", data.test.x, data.train.x), atol=1e-6)


def test_kernel_ridge_regression_predicts_new_rows_with_the_bandwidth_of_the_train_rows(directories):
    x = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    fitted = linearized.krr("GAUSSIAN", (x[:100], np.sin(x[:100, 0]), x[100:], np.sin(x[100:, 0])))
    kept = load_arrays(fitted.folder)["predictions/test"]
    np.testing.assert_allclose(fitted.predict(x[100:]).ravel(), kept.ravel(), atol=1e-4)
    assert fitted.record["ridges"][fitted.record["chosen"]["position"]]["test_r2"] > 0.8


def test_rows_are_prepared_in_float64(rows):
    from kernel_gen.kernels.laplace import LaplaceKernel

    kernel = LaplaceKernel(1.0, "float32")
    assert kernel.prepare(rows).values.dtype == np.float64 == prepare_rows(rows, np.dtype("float64")).values.dtype
    with pytest.raises(ValueError, match="call `on` first"):
        (bare := LaplaceKernel()).block(bare.prepare(rows), bare.prepare(rows))
