"""ZCA and layer norm: fitted on train rows alone, applied to every split alike."""

import dataclasses

import numpy as np
import pytest

from linearized import data
from linearized.base.errors import UserError
from linearized.data.dataset import Split
from linearized.data.loading import load_preprocessed
from linearized.data.transforms.preprocess import fit_whitening, layer_norm, preprocessed, unit_norm
from linearized.settings.data_settings import PREPROCESSING
from linearized.settings.gram_settings import GramSettings


@pytest.fixture(scope="module")
def digits():
    return data.load("DIGITS", num_train=300, num_test=50, validation=40, cache=False)


def other_rows(dataset, names):
    """The dataset with other inputs in some splits."""
    changed = {
        name: Split(np.square(split.x[::-1]), split.y) for name, split in dataset.splits().items() if name in names
    }
    return dataclasses.replace(dataset, **changed)


@pytest.mark.parametrize("method", PREPROCESSING)
def test_what_is_fitted_is_fitted_on_train_rows_alone(method, digits):
    """The train rows come out the same whatever the others are; a test row among train rows changes them."""
    plain = preprocessed(digits, method)
    changed = preprocessed(other_rows(digits, ("validation", "test")), method)
    np.testing.assert_array_equal(plain.train.x, changed.train.x)
    if method.endswith("zca"):
        leaked = preprocessed(other_rows(digits, ("train",)), method)
        assert np.abs(leaked.test.x - plain.test.x).max() > 0.1


@pytest.mark.parametrize("method", PREPROCESSING)
def test_a_row_is_treated_alike_in_every_split(method, digits):
    """The same pixels that were fitted are those that it is applied to: a train row as a test row is the same row."""
    twice = dataclasses.replace(digits, test=Split(digits.train.x[:50], digits.train.y[:50]))
    found = preprocessed(twice, method)
    np.testing.assert_allclose(found.test.x, found.train.x[:50], atol=1e-5)


@pytest.mark.parametrize("regularization", [1e-4, 0.1])
def test_zca_whitens_the_train_rows_and_keeps_images_images(digits, regularization):
    x = preprocessed(digits, "zca", regularization).train.x.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    raw = np.linalg.eigvalsh(np.cov(digits.train.x.T, bias=True))
    large = np.maximum(raw, 0) / (np.maximum(raw, 0) + regularization * raw.mean())
    np.testing.assert_allclose(np.sort(values), np.sort(large), atol=1e-3)
    root = fit_whitening(digits.train.x).root
    np.testing.assert_allclose(root, root.T, atol=1e-8 * np.abs(root).max())  # the symmetric root: no rotation


@pytest.mark.parametrize("n", [2, 10, 64])
def test_directions_in_which_train_rows_do_not_vary_keep_their_scale(n):
    """Fewer rows than columns: held-out rows stay of the size that they have, and are not multiplied by 1/√ε."""
    random = np.random.default_rng(n)
    x, z = random.standard_normal((n, 100)), random.standard_normal((500, 100))
    whitening = fit_whitening(x)
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2 / n
    gains = np.linalg.eigvalsh(whitening.root)
    expected = np.ones(100)
    expected[: n - 1] = 1 / np.sqrt(values[: n - 1] + 0.1 * values.sum() / 100)
    np.testing.assert_allclose(np.sort(gains), np.sort(expected), rtol=1e-9)
    assert 0.5 < np.sqrt(np.mean(whitening(z) ** 2)) < 3


def test_a_constant_pixel_keeps_its_scale_and_adds_nothing():
    random = np.random.default_rng(0)
    x = random.standard_normal((500, 6))
    x[:, 2] = 0.1
    whitening = fit_whitening(x)
    np.testing.assert_allclose(whitening.root[2], [0, 0, 1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(whitening(x)[:, 2], 0, atol=1e-7)


def test_few_photo_patches_are_not_blown_up(caplog):
    dataset = data.load("PATCHES", num_train=100, num_test=50, cache=False)
    found = preprocessed(dataset, "zca")
    train, test = (np.sqrt(np.mean(split.x.astype(np.float64) ** 2)) for split in (found.train, found.test))
    assert train < 1 and test < 1
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_held_out_rows_that_come_out_larger_are_warned_of(digits, caplog):
    far = dataclasses.replace(digits, test=Split(30 * digits.test.x, digits.test.y))
    with caplog.at_level("WARNING"):
        preprocessed(far, "zca")
    assert "root mean square of test rows" in caplog.text


def test_the_regularization_is_refused_without_zca_and_names_the_result():
    shared = {"dataset": "DIGITS", "num_train": 60, "num_test": 20}
    with pytest.raises(UserError, match="preprocess=zca"):
        GramSettings(**shared, zca_regularization=0.2)
    one, other = (GramSettings(**shared, preprocess="zca", zca_regularization=value) for value in (0.1, 0.2))
    assert one.path() != other.path()
    first, second = (load_preprocessed(settings, settings.noise_ind) for settings in (one, other))
    assert first.fingerprint != second.fingerprint
    assert np.abs(first.train.x - second.train.x).max() > 1e-3


def test_layer_norm_is_of_each_row():
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32) * 3 + 2
    x[3] = 0.1  # of which the mean of seven is not 0.1 in any precision
    found = layer_norm(x)
    np.testing.assert_array_equal(found[3], 0)
    np.testing.assert_array_equal(layer_norm(np.full((1, 784), 0.1)), 0)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=1), [1, 1, 1, 0, 1], atol=1e-5)


def test_the_fingerprint_and_the_name_tell_it():
    settings = [
        GramSettings(dataset="DIGITS", num_train=60, num_test=20, preprocess=method) for method in PREPROCESSING
    ]
    assert len({load_preprocessed(one, one.noise_ind).fingerprint for one in settings}) == len(PREPROCESSING)
    assert len({one.path() for one in settings}) == len(PREPROCESSING)


def test_what_makes_no_sense_is_refused(digits):
    with pytest.raises(UserError, match="layer_norm_zca"):
        preprocessed(digits, "pca")
    with pytest.raises(UserError, match="covariance 0"):
        fit_whitening(np.ones((5, 3)))
    for x in (np.full((5, 3), 0.1), np.random.default_rng(0).standard_normal((1, 3))):
        with pytest.raises(UserError, match="covariance 0"):
            fit_whitening(x)
    with pytest.raises(UserError, match="at least 0"):
        fit_whitening(digits.train.x, -1.0)
    for x in (np.array([[1.0, np.nan]]), np.ones((0, 3)), np.ones(3), np.array([["a"]])):
        for function in (fit_whitening, layer_norm):
            with pytest.raises(UserError, match="Inputs must be"):
                function(x)


def test_standard_and_unit_norm_agree_with_scikit_learn_and_apply_to_further_rows(digits):
    from sklearn.preprocessing import Normalizer, StandardScaler

    scaler = StandardScaler().fit(digits.train.x.astype(np.float64))
    for method, expected in (("standard", scaler), ("unit_norm", Normalizer())):
        found = preprocessed(digits, method)
        np.testing.assert_allclose(found.test.x, expected.transform(digits.test.x.astype(np.float64)), atol=1e-5)
        np.testing.assert_array_equal(found.preparation.inputs(digits.test.x), found.test.x)


def test_extreme_rows_have_unit_norm_and_zeros_stay():
    x = np.array([[1e30, 1e30], [1e-30, 0], [0, 0]], np.float32)
    np.testing.assert_allclose(unit_norm(x), [[0.5**0.5] * 2, [1, 0], [0, 0]], rtol=1e-6)
