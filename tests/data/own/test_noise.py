"""Noise of the user's levels: equal to the published noise where there is one, and right by its law elsewhere."""

import numpy as np
import pytest

from kernel_gen.embed import EmbedSettings
from kernel_gen.jobs.gram_job import GramJobSettings
from linearized import from_arrays
from linearized.base.errors import UserError
from linearized.data.loading import load_rows
from linearized.data.own.memory import register
from linearized.data.sources.cifar10 import CIFAR10
from linearized.data.sources.digits import NDIGITS
from linearized.data.sources.fmnist import FMNIST, NFMNIST
from linearized.data.transforms import noise
from linearized.experiments.krr import KernelFitSettings
from linearized.experiments.train import TrainSettings

KEYED = {
    "none": {}, "levels": {"noise": "gaussian", "noise_levels": "0,1"},
    "zero": {"noise": "low_frequency", "noise_levels": "0"},
}  # fmt: skip
KEYS = {
    "none": ("56a7d467", "5838741b6c6b3c46"), "levels": ("c1896b8a", "8aeaaa6be106cbf2"),
    "zero": ("e859b845", "f5318c7a724c2842"),
}  # fmt: skip


def images(count, side, channels=1, seed=0):
    shape = (count, side, side, channels) if channels > 1 else (count, side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def noisy(arrays, kind, levels, noise_ind=0, **settings):
    text = register(*arrays)
    noise_flags = {"noise": kind, "noise_levels": levels} if kind else {}
    return load_rows(TrainSettings(data=text, **noise_flags, **settings), noise_ind)


def four(side, channels=1, train=30, test=10):
    x, y = images(train + test, side, channels), np.arange(train + test) % 3
    return x[:train], y[:train], x[train:], y[train:]


@pytest.mark.parametrize("kind, side, channels, published, level", [
    ("high_frequency", 28, 1, noise.high_frequency, 1.5), ("low_frequency", 28, 1, noise.low_frequency, 9),
    ("low_frequency", 32, 3, noise.low_frequency_colour, 12), ("high_frequency", 20, 3, noise.high_frequency, 0.7),
    ("low_frequency", 9, 4, noise.low_frequency_colour, 5), ("high_frequency", 8, 2, noise.high_frequency, 1.0),
    ("low_frequency", 6, 5, noise.low_frequency_colour, 3),
])  # fmt: skip
def test_noise_of_images_equals_the_published_one(kind, side, channels, published, level):
    arrays = four(side, channels)
    dataset = noisy(arrays, kind, f"0,{level}", noise_ind=1)
    sets = [x.reshape(*x.shape[:3], channels) for x in (arrays[0], arrays[2])]
    train, test = published(*sets, level)
    np.testing.assert_array_equal(dataset.train.x, train)
    np.testing.assert_array_equal(dataset.test.x, test)
    part = noisy(arrays, kind, f"0,{level}", noise_ind=1, num_train=7)  # the noise is that of the whole set
    np.testing.assert_array_equal(part.train.x, train[:7])


@pytest.mark.parametrize("kind, side, channels", [("high_frequency", 8, 1), ("low_frequency", 8, 1),
                                                  ("low_frequency", 8, 3)])  # fmt: skip
def test_further_rows_are_prepared_as_images_without_noise(kind, side, channels):
    arrays = four(side, channels)
    dataset = noisy(arrays, kind, "0")
    np.testing.assert_allclose(dataset.preparation.inputs(arrays[2]), dataset.test.x, rtol=1e-4, atol=1e-4)


def test_label_noise_replaces_a_share_of_the_train_labels_uniformly():
    y = np.tile(np.arange(4), 1000)
    arrays = (np.zeros((4000, 2), np.float32) + np.arange(4000)[:, None], y, np.ones((8, 2), np.float32), y[:8])
    levels = [noisy(arrays, "label", "0,0.4,1", noise_ind=index) for index in range(3)]
    np.testing.assert_array_equal(levels[0].train.y, y)
    for share, dataset in zip((0.4, 1.0), levels[1:], strict=True):
        wrong = dataset.train.y != y
        expected = share * 3 / 4  # a class may be drawn again
        assert abs(wrong.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)
        counts = np.bincount(dataset.train.y, minlength=4)
        assert np.abs(counts - 1000).max() < 5 * np.sqrt(4000 * 3 / 16)
        np.testing.assert_array_equal(dataset.test.y, y[:8])
    held = noisy(arrays, "label", "0,0.4,1", noise_ind=2, validation=0.5)  # what chooses the ridge is right
    np.testing.assert_array_equal(held.validation.y, y[2000:])
    np.testing.assert_array_equal(held.train.y, levels[2].train.y[:2000])
    assert (held.noise, noisy(arrays, "", "0").noise) == ("label noise = 1", "")
    with pytest.raises(UserError, match=r"has one noise level, --noise_ind=0. Received: 1. Give others with --noise"):
        noisy(arrays, "", "0", noise_ind=1)
    part = noisy(arrays, "label", "0,0.4,1", noise_ind=1, num_train=50)
    np.testing.assert_array_equal(part.train.y, levels[1].train.y[:50])


def test_gaussian_noise_has_its_deviation_and_belongs_to_the_row():
    x = np.random.default_rng(0).normal(size=(3000, 5)).astype(np.float32) * 7
    y = np.arange(3000) % 2
    arrays = x[:2500], y[:2500], x[2500:], y[2500:]
    clean, dataset = (noisy(arrays, "gaussian", "0,0.5", noise_ind=index) for index in (0, 1))
    np.testing.assert_array_equal(clean.train.x, arrays[0])
    scale = 0.5 * np.sqrt(arrays[0].var(axis=0).mean())
    for name in ("train", "test"):
        drawn = (dataset.splits()[name].x - clean.splits()[name].x) / scale
        assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)
        assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / drawn.size)
    rows = noisy(arrays, "gaussian", "0,0.5", noise_ind=1, num_train=1500).train.x - arrays[0][:1500]
    whole = dataset.train.x[:1500] - arrays[0][:1500]
    assert np.corrcoef(rows.ravel(), whole.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("kind, levels, words", [
    ("label", "0,1.5", "share of the labels, from 0 to 1"), ("gaussian", "-1", "numbers from 0 on"),
    ("gaussian", "0,x", "numbers from 0 on"), ("gaussian", "nan", "numbers from 0 on"),
    ("low_frequency", "2.5", r"k = 0..8"), ("low_frequency", "9", r"k = 0..8"),
])  # fmt: skip
def test_levels_that_a_noise_does_not_have_are_refused(kind, levels, words):
    with pytest.raises(UserError, match=words):
        noisy(four(8), kind, levels)


@pytest.mark.parametrize("kind, side, levels", [
    ("high_frequency", 12, FMNIST.noise_levels), ("low_frequency", 28, NFMNIST.noise_levels),
    ("low_frequency", 32, CIFAR10.noise_levels), ("low_frequency", 8, NDIGITS.noise_levels),
    ("low_frequency", 64, tuple(2 * one for one in CIFAR10.noise_levels)), ("low_frequency", 5, (0, 1, 2, 3, 4)),
])  # fmt: skip
def test_published_levels_are_the_default_of_published_noises(kind, side, levels):
    arrays = four(side)
    default, given = (TrainSettings(data=register(*arrays), noise=kind, noise_ind="3", **more)
                      for more in ({}, {"noise_levels": ",".join(map(str, levels))}))  # fmt: skip
    assert default.described().noise_levels == tuple(levels)
    np.testing.assert_array_equal(load_rows(default, 3).train.x, load_rows(given, 3).train.x)


@pytest.mark.parametrize("kind", ["gaussian", "label"])
def test_a_noise_without_published_levels_needs_levels(kind):
    with pytest.raises(UserError, match=f"--noise={kind} has no published levels: give --noise_levels"):
        TrainSettings(data=register(*four(8)), noise=kind)


def test_keys_of_levels_that_are_given_are_those_of_the_version_before():
    """The keys were computed by a version whose default level was 0, the fingerprints with RECIPE = 3 of the rows."""
    x = (np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8) * 37) % 251
    text = register(x, np.arange(40) % 2)
    found = {}
    for name, flags in KEYED.items():
        settings = TrainSettings(data=text, **flags)
        found[name] = settings.key(), load_rows(settings, 0).fingerprint
    assert found == KEYS
    default = TrainSettings(data=text, noise="low_frequency")
    assert default.key() not in {key for key, _fingerprint in found.values()}


@pytest.mark.parametrize("cls", [TrainSettings, KernelFitSettings, GramJobSettings, EmbedSettings])
def test_noise_and_its_levels_name_the_run(cls):
    text = register(*four(8))
    flags = [{}, {"noise": "low_frequency"}, {"noise": "high_frequency"}, {"noise": "gaussian", "noise_levels": "0,1"},
             {"noise": "gaussian", "noise_levels": "0,2"}, {"noise": "label", "noise_levels": "0,1"}]  # fmt: skip
    assert len({cls(data=text, **one).key() for one in flags}) == len(flags)
    with pytest.raises(UserError, match="--noise_levels is read with --noise"):
        cls(data=text, noise_levels="0,1")
    with pytest.raises(UserError, match="--noise is read with --data"):
        cls(noise="low_frequency")


def test_noise_is_refused_where_it_does_not_apply():
    x, y = images(12, 8)[:, :, :6], np.arange(12) % 2
    with pytest.raises(UserError, match="needs square images, and arrays has images of 8x6"):
        noisy((np.ascontiguousarray(x), y), "high_frequency", "1")
    vectors = np.random.default_rng(0).normal(size=(12, 3))
    with pytest.raises(UserError, match=r"has vectors. --noise=gaussian"):
        noisy((vectors, y), "low_frequency", "1")
    with pytest.raises(UserError, match="needs classes"):
        noisy((vectors, vectors[:, 0]), "label", "0.5")
    with pytest.raises(UserError, match="--noise_levels is read with --noise"):
        TrainSettings(data=register(vectors, y), noise_levels="1")
    with pytest.raises(UserError, match="noise"):
        TrainSettings(dataset="DIGITS", noise="gaussian")
    assert from_arrays(vectors, y).train.x.dtype == np.float32
