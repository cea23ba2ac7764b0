"""ZCA and layer norm: fitted on train rows alone, applied to every split alike."""

import dataclasses

import numpy as np
import pytest

import data
from data.dataset import Split
from data.errors import UserError
from data.gram_settings import GramSettings
from data.preprocess import METHODS, fit_whitening, layer_norm, preprocessed


@pytest.fixture(scope="module")
def digits():
    return data.load("DIGITS", num_train=300, num_test=50, validation=40, cache=False)


def other_rows(dataset, names):
    """The dataset with other inputs in some splits."""
    changed = {
        name: Split(np.square(split.x[::-1]), split.y) for name, split in dataset.splits().items() if name in names
    }
    return dataclasses.replace(dataset, **changed)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_fitted_is_fitted_on_train_rows_alone(method, digits):
    """The train rows come out the same whatever the others are; a test row among train rows changes them."""
    plain = preprocessed(digits, method)
    changed = preprocessed(other_rows(digits, ("validation", "test")), method)
    np.testing.assert_array_equal(plain.train.x, changed.train.x)
    if method.endswith("zca"):
        leaked = preprocessed(other_rows(digits, ("train",)), method)
        assert np.abs(leaked.test.x - plain.test.x).max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_a_row_is_treated_alike_in_every_split(method, digits):
    """The same pixels that were fitted are those that it is applied to: a train row as a test row is the same row."""
    twice = dataclasses.replace(digits, test=Split(digits.train.x[:50], digits.train.y[:50]))
    found = preprocessed(twice, method)
    np.testing.assert_allclose(found.test.x, found.train.x[:50], atol=1e-5)


def test_zca_whitens_the_train_rows_and_keeps_images_images(digits):
    x = preprocessed(digits, "zca").train.x.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    raw = np.linalg.eigvalsh(np.cov(digits.train.x.T, bias=True))
    large = np.maximum(raw, 0) / (np.maximum(raw, 0) + 1e-4 * raw.mean())
    np.testing.assert_allclose(np.sort(values), np.sort(large), atol=1e-3)
    root = fit_whitening(digits.train.x).root
    np.testing.assert_allclose(root, root.T, atol=1e-8 * np.abs(root).max())  # the symmetric root: no rotation


def test_layer_norm_is_of_each_row():
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32) * 3 + 2
    x[3] = 4.0
    found = layer_norm(x)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=1), [1, 1, 1, 0, 1], atol=1e-5)


def test_the_fingerprint_and_the_name_tell_it():
    settings = [GramSettings(dataset="DIGITS", num_train=60, num_test=20, preprocess=method) for method in METHODS]
    assert len({one.data().fingerprint for one in settings}) == len(METHODS)
    assert len({one.path() for one in settings}) == len(METHODS)


def test_what_makes_no_sense_is_refused(digits):
    with pytest.raises(UserError, match="layer_norm_zca"):
        preprocessed(digits, "pca")
    with pytest.raises(UserError, match="covariance 0"):
        fit_whitening(np.ones((5, 3)))
