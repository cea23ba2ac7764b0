"""Photo patches: CIFAR's format, learnable, train and test apart; and digits, the other set that needs no download."""

import shutil

import numpy as np
import pytest

from linearized import data
from linearized.base.errors import UserError
from linearized.data.sources import patches
from linearized.data.sources.cifar10 import CifarFiles
from linearized.data.sources.digits import DIGITS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return patches.make(tmp_path_factory.mktemp("patches") / patches.FOLDER)


def test_sizes_classes_and_format(made):
    raw = CifarFiles().read(made)
    assert raw.train.shape == (1500, 32, 32, 3) and raw.test.shape == (500, 32, 32, 3)
    assert np.bincount(raw.train_labels).tolist() == [150] * 10
    assert np.bincount(raw.test_labels).tolist() == [50] * 10
    assert raw.train.reshape(1500, -1).std(axis=1).min() >= patches.LEAST_DEVIATION
    assert sorted(path.name for path in made.iterdir()) == [
        "batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"
    ]  # fmt: skip
    assert np.abs(np.diff(raw.train_labels.astype(int))).max() > 0 and len(set(raw.train_labels[:50])) > 5  # shuffled


def test_any_size_from_the_same_seed(tmp_path):
    for name in "ab":
        patches.make(tmp_path / name, num_train=23, num_test=7)
    one, other = (CifarFiles().read(tmp_path / name) for name in "ab")
    assert len(one.train) == 23 and len(one.test) == 7
    np.testing.assert_array_equal(one.train, other.train)
    with pytest.raises(UserError, match="Received: 4, 7"):
        patches.make(tmp_path / "c", num_train=4, num_test=7)


def test_train_and_test_share_no_pixel(tmp_path, monkeypatch):
    """Photos whose pixels say where they are: red and green the column, blue noise."""
    random = np.random.default_rng(0)

    def photo(path):
        columns = np.broadcast_to(np.arange(400), (50, 400))
        return np.stack([columns // 256, columns % 256, random.integers(0, 256, (50, 400))], axis=2).astype(np.uint8)

    monkeypatch.setattr(patches, "_photo", photo)
    raw = CifarFiles().read(patches.make(tmp_path / "p", 500, 200))
    train, test = (256 * images[..., 0].astype(int) + images[..., 1] for images in (raw.train, raw.test))
    assert train.max() < test.min() - patches.GAP
    assert train.min() < 10 and test.max() > 390  # the whole width is used


def test_learnable(made, tmp_path):
    shutil.copytree(made, tmp_path / patches.FOLDER)
    loaded = data.load("NPATCHES", 0, directory=tmp_path)
    x, z = loaded.train.x.astype(float), loaded.test.x.astype(float)

    def kernel(a, b):  # two-layer NTK, written out
        norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
        cos = np.clip(a @ b.T / norms, -1, 1)
        return norms * ((1 - np.arccos(cos) / np.pi) * cos + np.sqrt(1 - cos**2) / (2 * np.pi))

    alpha = np.linalg.solve(kernel(x, x) + np.eye(len(x)), loaded.targets(loaded.train, centred=True))
    accuracy = ((kernel(z, x) @ alpha).argmax(axis=1) == loaded.test.y).mean()
    assert accuracy > 0.45  # chance is 0.1


@pytest.mark.parametrize("name, dim", [("CIFAR10", 3072), ("CIFAR2", 1024), ("PATCHES", 3072)])
def test_patches_under_cifar_s_names(tmp_path, name, dim):
    folder = tmp_path / (patches.FOLDER if name == "PATCHES" else "cifar-10-batches-py")
    patches.make(folder, num_train=200, num_test=50)
    loaded = data.load(name, 5, directory=tmp_path)
    assert loaded.dim == dim
    assert len(loaded.train) == (40 if name == "CIFAR2" else 200)
    assert len(loaded.test) == (10 if name == "CIFAR2" else 50)


def test_loading_makes_them_once(directories):
    source = data.DATASETS.load("PATCHES")
    assert source.find().place is None and source.find().made_on_load
    data.load("PATCHES", 2, cache=False)
    place = source.find().place
    assert place == directories / "data_dir" / patches.FOLDER
    before = (place / "test_batch").stat().st_mtime_ns
    data.load("PATCHES", 2, cache=False)
    assert (place / "test_batch").stat().st_mtime_ns == before


@pytest.mark.parametrize("blocked", ["", patches.FOLDER])
def test_unwritable_folder(tmp_path, blocked):
    target = tmp_path / "data" / blocked if blocked else tmp_path / "data"
    target.parent.mkdir(exist_ok=True)
    target.write_text("a file where a folder should be")
    with pytest.raises(UserError, match="Cannot write photo patches"):
        data.load("PATCHES", directory=tmp_path / "data")


def test_missing_photo(monkeypatch, tmp_path):
    monkeypatch.setitem(patches.PHOTOS, "coffee", "skimage/data/tea.png")
    with pytest.raises(UserError, match=r"Cannot read the photo .*tea\.png"):
        patches.make(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_digits_are_scikit_learn_s(tmp_path):
    from sklearn.datasets import load_digits

    raw = DIGITS.raw.read(DIGITS.find(tmp_path).place)
    assert len(raw.train) == 1437 and len(raw.test) == 360
    ours = np.concatenate([raw.train, raw.test]).reshape(1797, 64)
    labels = np.concatenate([raw.train_labels, raw.test_labels])
    theirs = load_digits()
    order, their_order = np.lexsort(ours.T), np.lexsort(theirs.data.T)
    np.testing.assert_array_equal(ours[order], theirs.data[their_order])
    np.testing.assert_array_equal(labels[order], theirs.target[their_order])
    assert np.bincount(raw.test_labels).min() > 20


def test_digits_without_scikit_learn(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        DIGITS.fetch(tmp_path)
