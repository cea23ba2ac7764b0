"""Fashion-MNIST: the idx reader, where the files are sought, what is said when they are missing or damaged."""

import gzip
import hashlib
import shutil

import numpy as np
import pytest

from linearized import data
from linearized.base.errors import UserError
from linearized.base.reading import Unreadable
from linearized.data.sources import fmnist, keras_cache
from linearized.data.sources.fmnist import FILES
from linearized.storage.array_files import read_idx


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


@pytest.mark.parametrize("shape", [(5,), (4, 3, 2), (1, 1, 1, 2)])
@pytest.mark.parametrize("pack", [zipped, bytes], ids=["gzip", "plain"])
def test_idx_reads_what_was_written(tmp_path, shape, pack):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (tmp_path / "a").write_bytes(pack(idx(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(4, 3, 2))


@pytest.mark.parametrize(
    "content, message",
    [
        (zipped(GOOD)[:-12], "end-of-stream"),
        (zipped(GOOD)[:-6] + b"123456", "CRC"),
        (b"<html>not found</html>", "starts with 3c68746d"),
        (b"", "starts with nothing"),
        (zipped(b""), "starts with nothing"),
        (zipped(b"\0\0\x0d" + GOOD[3:]), "starts with 00000d03"),
        (zipped(GOOD[:7]), "ends within its header"),
        (zipped(GOOD[:-1]), r"says an array of \(4, 3, 2\), and 23 bytes follow"),
        (GOOD[:-1], r"says an array of \(4, 3, 2\), and 23 bytes follow"),
        (zipped(GOOD + b"x"), "and more bytes follow"),
        (zipped(b"\0\0\x08\x03" + b"\xff" * 12 + b"123"), "empty or too large"),
        (idx(np.zeros((0, 28, 28))), r"an array of \(0, 28, 28\), which is empty"),
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"1", "255 dimensions"),
        (b"\0\0\x08\x00" + b"1", "0 dimensions"),
    ],
)
def test_idx_refuses(tmp_path, content, message):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(Unreadable, match=message) as caught:
        read_idx(tmp_path / "a.gz")
    assert str(caught.value).startswith(f"{tmp_path}/a.gz is damaged or not an idx file (")


def test_a_gzip_file_that_expands_without_end_takes_no_memory(tmp_path):
    (tmp_path / "a.gz").write_bytes(zipped(idx(np.zeros(10)) + bytes(10**8)))
    with pytest.raises(Unreadable, match="more bytes follow"):
        read_idx(tmp_path / "a.gz")


def unpacked(folder, rename=lambda name: name):
    """Replaces gzipped files by plain ones of other names."""
    for name in FILES:
        path = folder / rename(name.removesuffix(".gz"))
        path.parent.mkdir(exist_ok=True)
        content = gzip.decompress((folder / name).read_bytes())
        (folder / name).unlink()
        path.write_bytes(content)


@pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw", "."])
@pytest.mark.parametrize(
    "rename",
    [
        None,
        lambda name: name,
        lambda name: name.replace("-idx", ".idx"),
        lambda name: f"{name}/{name}",
        lambda name: name + ".gz" if "images" in name else name,
    ],
    ids=["gzipped", "plain", "dots", "folders", "plain under the name of gzip"],
)
def test_every_layout_reads_the_same(directories, files, alone, place, rename):
    if rename:
        unpacked(files, rename)
    folder = directories / "data_dir" / place
    shutil.copytree(files, folder, dirs_exist_ok=True)
    raw = fmnist.FashionFiles().read(data.DATASETS.load("FMNIST").find().place)
    assert raw.train.shape == (100, 28, 28, 1) and np.bincount(raw.test_labels).tolist() == [5] * 10
    digest = hashlib.blake2b(b"".join(np.ascontiguousarray(part).tobytes() for part in raw), digest_size=8).hexdigest()
    assert digest == digest_of(files, rename)


@pytest.mark.parametrize("place", [
    "fashion-mnist/raw", "fmnist", "FMNIST/raw", "fashionmnist", "Fashion MNIST", "FashionMNIST/FashionMNIST/raw",
    "fashion-mnist-master/data/fashion", "fashion_mnist/raw",
])  # fmt: skip
def test_further_folders_are_read_before_the_systems_copy(directories, files, alone, caplog, tmp_path, place):
    shutil.copytree(files, directories / "data_dir" / place)
    shutil.copytree(files, tmp_path / "debian")
    with caplog.at_level("WARNING", logger="absl"):
        found = data.DATASETS.load("FMNIST").find()
    assert found.place == directories / "data_dir" / place and not caplog.text
    assert len(fmnist.FashionFiles().read(found.place).train) == 100


def test_a_copy_elsewhere_is_named_where_a_folder_of_ones_own_looks_like_the_data_set(
    directories, files, alone, caplog, tmp_path
):
    ours, system = directories / "data_dir" / "fashion-mnist", tmp_path / "debian"
    shutil.copytree(files, system)
    with caplog.at_level("WARNING", logger="absl"):
        (directories / "data_dir" / "mnist").mkdir(parents=True)
        assert data.DATASETS.load("FMNIST").find().place == system and not caplog.text
        shutil.copytree(files, ours)
        (ours / FILES[3]).unlink()
        for _ in range(2):
            assert len(data.load("FMNIST").train) == 100
    assert caplog.text.count(f"Fashion-MNIST is read from {system}, because {ours} lacks one of train-images") == 1


def digest_of(files, rename):
    """The digest of the arrays as a reader written for this test finds them in the first layout."""
    parts = []
    for name in FILES:
        plain = name.removesuffix(".gz")
        content = (files / (rename(plain) if rename else name)).read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        parts.append(content[4 + 4 * content[3] :])
    return hashlib.blake2b(b"".join(parts), digest_size=8).hexdigest()


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
    for words in (*map(str, sought), "no network", "apt-get install", "linearized data --fetch FMNIST", *FILES):
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
