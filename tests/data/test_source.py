"""What every image source does: levels, cache, parts, validation, fingerprint. Run on small real sets."""

import json

import numpy as np
import pytest
from absl import logging

from linearized import data
from linearized.base.errors import UserError
from linearized.data.transforms import noise
from linearized.settings.data_settings import DataSettings

LEVELS = {"DIGITS": 15, "NDIGITS": 8, "FMNIST": 15, "NFMNIST": 14, "CIFAR2": 15, "CIFAR10": 15, "PATCHES": 15,
          "NPATCHES": 15, "SYNTH": 10, "STAIRCASE": 5, "SPHERE": 11}  # fmt: skip


@pytest.fixture
def calls(monkeypatch):
    """Counts how often noise is made."""
    made = []
    for name in ("high_frequency", "low_frequency", "low_frequency_colour"):
        function = getattr(noise, name)
        monkeypatch.setattr(noise, name, lambda *args, function=function: made.append(1) or function(*args))
    return made


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    return said


def same(one, other):
    for kind in ("train", "test"):
        np.testing.assert_array_equal(getattr(one, kind).x, getattr(other, kind).x)
        np.testing.assert_array_equal(getattr(one, kind).y, getattr(other, kind).y)
    return one.fingerprint == other.fingerprint


@pytest.mark.parametrize("name", list(data.DATASETS))
def test_levels(name):
    source = data.DATASETS.load(name)
    assert len(source.noise_levels) == LEVELS[name]
    last = LEVELS[name] - 1
    assert source.level(np.int64(last)) == source.noise_levels[-1]
    for bad in (-1, last + 1, True):
        with pytest.raises(UserError, match=rf"{name} has {last + 1} noise levels, --noise_ind 0\.\.{last} \("):
            source.level(bad)


@pytest.mark.parametrize("name", list(data.DATASETS))
def test_settings_know_the_length_of_a_row_before_anything_is_loaded(name):
    source, settings = data.DATASETS.load(name), DataSettings(dataset=name)
    assert settings.dim() == (np.prod(source.image_shape) if source.image_shape else source.row_length())
    for field in {"synth_dim", "index_dim"} & set(source.settings):
        assert DataSettings(dataset=name, **{field: 77}).dim() == 77


def test_published_levels():
    levels = {name: data.DATASETS.load(name).noise_levels for name in data.DATASETS}
    assert levels["NFMNIST"] == (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27)
    assert levels["CIFAR10"] == (0, 4, 8, 12, 14, 17, 19, 20, 22, 24, 25, 27, 28, 29, 30) == levels["NPATCHES"]
    np.testing.assert_allclose(levels["FMNIST"], [3 * i / 14 for i in range(15)])
    np.testing.assert_allclose(levels["SYNTH"], [i / 10 for i in range(10)])
    np.testing.assert_allclose(levels["SPHERE"], [i / 10 for i in range(11)])


@pytest.mark.parametrize("name", ["DIGITS", "NDIGITS", "FMNIST", "NFMNIST", "CIFAR2", "CIFAR10"])
def test_small_sets_load(small_directories, name):
    loaded = data.load(name, 2, validation=0.2)
    source = data.DATASETS.load(name)
    assert (loaded.task, loaded.num_classes, loaded.image_shape) == (
        source.task,
        source.num_classes,
        source.image_shape,
    )
    assert loaded.dim == np.prod(source.image_shape)
    assert loaded.family == {"D": "FMNIST", "N": "FMNIST", "F": "FMNIST", "C": name}[name[0]]
    assert set(np.unique(loaded.train.y)) == set(range(loaded.num_classes))
    assert all(split.x.dtype == np.float32 and split.y.dtype == np.int64 for split in loaded.splits().values())


def test_cache_gives_the_same_and_makes_no_noise(directories, calls):
    first = data.load("DIGITS", 3)
    assert len(calls) == 1
    again = data.load("DIGITS", 3)
    assert len(calls) == 1
    assert same(first, again)
    assert same(first, data.load("DIGITS", 3, cache=False))
    assert len(calls) == 2
    data.load("DIGITS", 4)
    assert len(calls) == 3
    assert len(list((directories / "data_dir" / "cache").iterdir())) == 2


def test_without_cache_nothing_is_written(directories):
    data.load("DIGITS", cache=False)
    assert not (directories / "data_dir").exists()


def truncated(folder):
    content = (folder / "x_train.npy").read_bytes()
    (folder / "x_train.npy").write_bytes(content[:-100])


def flipped(folder):
    content = bytearray((folder / "x_test.npy").read_bytes())
    content[-1] ^= 1
    (folder / "x_test.npy").write_bytes(content)


def other_shape(folder):
    array = np.load(folder / "x_test.npy")
    np.save(folder / "x_test.npy", array.reshape(2 * len(array), -1))


def pickled(folder):
    np.save(folder / "y_test.npy", np.array([{}], object))


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        flipped,
        other_shape,
        pickled,
        lambda folder: (folder / "y_train.npy").unlink(),
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "meta.json").write_text(json.dumps({"about": {}})),
        lambda folder: (folder / "meta.json").write_text("[]"),
    ],
)
def test_damaged_cache_is_told_and_made_anew(directories, calls, warnings, damage):
    first = data.load("NDIGITS", 3)
    (folder,) = (directories / "data_dir" / "cache").iterdir()
    damage(folder)
    assert same(first, data.load("NDIGITS", 3))
    assert len(calls) == 2
    assert len(warnings) == 1 and str(folder) in warnings[0] and "damaged" in warnings[0]
    assert same(first, data.load("NDIGITS", 3))
    assert len(calls) == 2


def test_unwritable_cache_is_told_and_training_goes_on(directories, calls, warnings):
    (directories / "data_dir").mkdir(parents=True)
    (directories / "data_dir" / "cache").write_text("a file where a folder should be")
    first = data.load("DIGITS", 3)
    assert len(warnings) == 1 and "Cannot keep" in warnings[0]
    assert same(first, data.load("DIGITS", 3))
    assert [path.name for path in (directories / "data_dir").iterdir()] == ["cache"]


def test_full_disk_leaves_no_trace(directories, monkeypatch, warnings):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    data.load("DIGITS", 3)
    assert "No space left" in warnings[0]
    assert not (directories / "data_dir" / "cache").exists()


def test_validation_is_the_last_rows_of_the_part(directories):
    whole = data.load("DIGITS", 1)
    part = data.load("DIGITS", 1, num_train=100, num_test=7, validation=0.25)
    np.testing.assert_array_equal(part.train.x, whole.train.x[:75])
    np.testing.assert_array_equal(part.validation.x, whole.train.x[75:100])
    np.testing.assert_array_equal(part.validation.y, whole.train.y[75:100])
    np.testing.assert_array_equal(part.test.x, whole.test.x[:7])
    assert whole.validation is None
    assert len(data.load("DIGITS", 1, validation=30).validation) == 30


def test_random_part_is_a_part(directories):
    whole = data.load("DIGITS", 1)
    part = data.load("DIGITS", 1, num_train=50, subset="random", seed=3)
    rows = [int(np.flatnonzero((whole.train.x == row).all(axis=1))[0]) for row in part.train.x]
    assert rows != sorted(rows)
    np.testing.assert_array_equal(part.train.y, whole.train.y[rows])


def test_fingerprint_tells_what_differs(directories):
    settings = [
        {}, {"noise_ind": 2}, {"num_train": 100}, {"num_test": 100}, {"validation": 5}, {"validation": 6},
        {"num_train": 100, "subset": "random"}, {"num_train": 100, "subset": "random", "seed": 1},
    ]  # fmt: skip
    prints = [data.load("DIGITS", **{"noise_ind": 1, **one}).fingerprint for one in settings]
    prints += [data.load("NDIGITS", 1).fingerprint]
    assert len(set(prints)) == len(prints)
    assert data.load("DIGITS", 1, seed=5).fingerprint == prints[0]  # a seed that draws nothing
    assert data.load("DIGITS", 1, num_train=1437).fingerprint == prints[0]  # all the rows, said in numbers


@pytest.mark.parametrize("settings", [{"num_train": 1438}, {"num_test": 361}, {"num_train": -1}, {"validation": 1437}])
def test_too_many_rows(directories, settings):
    with pytest.raises(UserError, match=f"--{next(iter(settings))}"):
        data.load("DIGITS", **settings)


def test_unknown_dataset(directories):
    with pytest.raises(UserError, match="Did you mean DIGITS"):
        data.load("DIGIT")
