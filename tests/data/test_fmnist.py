"""Fashion-MNIST: the idx reader, where the files are sought, what is said when they are missing or damaged."""

import gzip
import shutil

import numpy as np
import pytest

import data
from data import fmnist, keras_cache
from data.errors import UserError
from data.fmnist import FILES, read_idx


def zipped(content):
    """gzip without the time of day: test names that hold it would differ between the workers of a run."""
    return gzip.compress(content, mtime=0)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def alone(directories, monkeypatch, tmp_path):
    """Neither Debian's package nor a network; tells how often a download was tried."""
    tried = []

    def download(name):
        tried.append(name)
        raise UserError("Keras could not download it (no network).")

    monkeypatch.setattr(fmnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(keras_cache, "download", download)
    return tried


@pytest.fixture
def files(small_directories, tmp_path):
    """A folder with the four files, out of the way of the search."""
    shutil.move(small_directories / "data_dir" / "fashion-mnist", tmp_path / "files")
    return tmp_path / "files"


@pytest.mark.parametrize("shape", [(5,), (4, 3, 2), (0, 2)])
def test_idx_reads_what_was_written(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (tmp_path / "a.gz").write_bytes(zipped(idx(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), array)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(4, 3, 2))


@pytest.mark.parametrize(
    "content, message",
    [
        (zipped(GOOD)[:-12], "damaged or truncated"),
        (b"<html>not found</html>", "damaged or truncated"),
        (b"", "no idx file"),
        (zipped(b"\0\0\x0d" + GOOD[3:]), "no idx file"),
        (zipped(GOOD[:7]), "no idx file"),
        (zipped(GOOD[:-1]), r"says it holds an array of \(4, 3, 2\), but holds 23 bytes"),
        (zipped(GOOD + b"x"), "but holds 25 bytes"),
        (zipped(b"\0\0\x08\x03" + b"\xff" * 12 + b"123"), "but holds 3 bytes"),
    ],
)
def test_idx_refuses(tmp_path, content, message):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_idx(tmp_path / "a.gz")
    assert str(tmp_path / "a.gz") in str(caught.value)


def test_sought_in_this_order(directories, alone, files, tmp_path):
    places = [tmp_path / "keras" / "datasets" / "fashion-mnist", tmp_path / "debian", directories / "data_dir"]
    places += [directories / "data_dir" / "fashion-mnist"]
    prints = set()
    for place in places:  # the later ones come first in the search
        shutil.copytree(files, place, dirs_exist_ok=True)
        assert data.DATASETS.load("FMNIST").find().place == place
        prints.add(data.load("FMNIST", 1).fingerprint)
    assert alone == []
    assert len(prints) == 1  # the same images, wherever they lie


def test_download_is_tried_and_found(alone, files, tmp_path, monkeypatch):
    def download(name):
        assert name == "fashion_mnist"
        shutil.copytree(files, tmp_path / "keras" / "datasets" / "fashion-mnist")

    monkeypatch.setattr(keras_cache, "download", download)
    assert len(data.load("NFMNIST", 1).train) == 100


def test_missing_files_say_where_they_were_sought_and_how_to_get_them(directories, alone, tmp_path):
    with pytest.raises(UserError) as caught:
        data.load("NFMNIST", 1)
    said = str(caught.value)
    sought = [directories / "data_dir" / "fashion-mnist", tmp_path / "debian", tmp_path / "keras" / "datasets"]
    for words in (*map(str, sought), "no network", "apt-get install", "python -m data --fetch FMNIST", *FILES):
        assert words in said
    assert alone == ["fashion_mnist"]
    assert not (directories / "data_dir").exists()


def test_an_incomplete_folder_does_not_count(small_directories, alone):
    (small_directories / "data_dir" / "fashion-mnist" / FILES[3]).unlink()
    with pytest.raises(UserError, match="not here"):
        data.load("FMNIST")


@pytest.mark.parametrize(
    "name, array, message",
    [
        (FILES[0], np.zeros((100, 27, 28), np.uint8), r"images \(100, 27, 28\)"),
        (FILES[1], np.zeros(99, np.uint8), r"labels \(99,\)"),
        (FILES[3], np.full(50, 10, np.uint8), r"labels must be 0\.\.9"),
        (FILES[2], np.zeros((50, 28, 28), np.uint8), "one colour"),
    ],
)
def test_wrong_arrays(small_directories, name, array, message):
    (small_directories / "data_dir" / "fashion-mnist" / name).write_bytes(zipped(idx(array)))
    with pytest.raises(UserError, match=message):
        data.load("FMNIST")


def test_download_tells_keras_last_word(monkeypatch):
    monkeypatch.setattr(keras_cache, "_CHILD", "raise SystemExit('first\\nno route to {name}')")
    with pytest.raises(UserError, match=r"could not download cifar10 \(no route to cifar10\)"):
        keras_cache.download("cifar10")


def test_keras_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert keras_cache.folders() == [tmp_path / "datasets"]
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keras_cache.folders() == [tmp_path / ".keras" / "datasets"]


@pytest.mark.skipif(not (fmnist.DEBIAN_FOLDER / FILES[0]).is_file(), reason="needs Debian's dataset-fashion-mnist")
def test_the_real_images():
    raw = fmnist.FashionFiles().read(fmnist.DEBIAN_FOLDER)
    assert raw.train.shape == (60000, 28, 28, 1) and raw.test.shape == (10000, 28, 28, 1)
    assert np.bincount(raw.train_labels).tolist() == [6000] * 10
    assert np.bincount(raw.test_labels).tolist() == [1000] * 10
    assert abs(raw.train.mean() - 72.94) < 0.01  # the mean pixel, as often quoted: 0.2860 of 255
