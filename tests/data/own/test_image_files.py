"""idx files, CIFAR-10 and SVHN by path: equal to the same arrays, whatever version of the format they are in."""

import gzip
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from linearized import from_arrays
from linearized.base.errors import UserError
from linearized.data.loading import load_rows
from linearized.data.own.formats import content_digest
from linearized.data.sources import cifar10
from linearized.experiments.train import TrainSettings
from linearized.settings.own_settings import OwnDataSettings

SHARED_CIFAR = Path(__file__).resolve().parents[4] / "shared" / "cifar10" / "write_batches.py"


def loaded(path, **settings):
    return load_rows(TrainSettings(data=str(path), **settings), 0)


def assert_same(one, two):
    for name, split in one.splits().items():
        np.testing.assert_array_equal(split.x, two.splits()[name].x)
        np.testing.assert_array_equal(split.y, two.splits()[name].y)
    assert (one.task, one.image_shape) == (two.task, two.image_shape)


def grey(count, seed, side=9):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side), dtype=np.uint8), (np.arange(count) % 3).astype(np.uint8)


def write_idx(path, array, zipped):
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)
    return str(path)


@pytest.mark.parametrize("prefix, test, zipped", [("", "t10k", True), ("", "t10k", False), ("emnist-x-", "test", True)])
def test_idx_folder_and_files_are_the_same_as_arrays(tmp_path, prefix, test, zipped):
    arrays = *grey(20, 0), *grey(6, 1)
    suffix = ".gz" if zipped else ""
    names = [f"{prefix}{kind}-{what}-ubyte{suffix}" for kind in ("train", test) for what in
             ("images-idx3", "labels-idx1")]  # fmt: skip
    paths = [write_idx(tmp_path / name, array, zipped) for name, array in zip(names, arrays, strict=True)]
    direct = from_arrays(*arrays, images=True)
    assert_same(loaded(tmp_path), direct)
    assert_same(loaded(",".join(paths)), direct)
    assert_same(loaded(",".join(paths[:2]), seed=2), from_arrays(*arrays[:2], images=True, seed=2))
    with pytest.raises(UserError, match="come in pairs"):
        loaded(paths[0])
    with pytest.raises(UserError, match="images,labels in this order"):
        loaded(f"{paths[1]},{paths[0]}")
    Path(paths[3]).unlink()
    with pytest.raises(UserError, match="lacks the idx files test-labels"):
        loaded(tmp_path)


def test_folder_with_two_sets_of_idx_files_is_refused(tmp_path):
    for prefix in ("emnist-a-", "emnist-b-"):
        write_idx(tmp_path / f"{prefix}train-images-idx3-ubyte", grey(4, 0)[0], False)
    with pytest.raises(UserError, match=r"several sets of idx files .emnist-a-, emnist-b-."):
        loaded(tmp_path)


def write_mnist(folder, seed):
    arrays = *grey(20, seed), *grey(6, seed + 1)
    folder.mkdir(parents=True)
    names = [f"{kind}-{what}-ubyte" for kind in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    for name, array in zip(names, arrays, strict=True):
        write_idx(folder / name, array, False)
        write_idx(folder / f"{name}.gz", array, True)  # torchvision keeps both
    return from_arrays(*arrays, images=True)


def test_the_root_of_torchvision_and_the_folder_below_it_are_the_same_as_arrays(tmp_path):
    direct = write_mnist(tmp_path / "MNIST" / "raw", 0)
    for place in (".", "MNIST", "MNIST/raw"):
        assert_same(loaded(tmp_path / place), direct)
    digest = OwnDataSettings.draft(data=str(tmp_path))
    before = content_digest(digest)
    write_idx(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte", grey(20, 5)[0], False)
    assert content_digest(digest) != before
    other = write_mnist(tmp_path / "FashionMNIST" / "raw", 7)
    with pytest.raises(UserError, match=r"holds several data sets: FashionMNIST/raw, MNIST/raw. Give one of them"):
        loaded(tmp_path)
    assert_same(loaded(tmp_path / "FashionMNIST"), other)


def colour(count, seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), np.arange(count) % 10


def write_batch(folder, name, images, labels, version):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    if version == "python":
        (folder / name).write_bytes(pickle.dumps({b"data": planes, b"labels": labels.tolist()}))
    elif version == "binary":
        (folder / f"{name}.bin").write_bytes(np.column_stack([labels.astype(np.uint8), planes]).tobytes())
    else:
        scipy.io.savemat(folder / f"{name}.mat", {"data": planes, "labels": labels.astype(np.uint8)[:, None]})


@pytest.mark.parametrize("version", ["python", "binary", "matlab"])
def test_cifar_of_every_version_is_the_same_as_arrays(tmp_path, version):
    (x, y), (x_test, y_test) = colour(20, 0), colour(10, 1)
    write_batch(tmp_path, "data_batch_1", x[:10], y[:10], version)
    write_batch(tmp_path, "data_batch_2", x[10:], y[10:], version)
    write_batch(tmp_path, "test_batch", x_test, y_test, version)
    direct = from_arrays(x, y, x_test, y_test, images=True)
    dataset = loaded(tmp_path)
    assert_same(dataset, direct)
    assert dataset.class_names == cifar10.CLASSES
    with tarfile.open(tmp_path / "cifar-10-any.tar.gz", "w:gz") as tar:
        for path in sorted(tmp_path.glob("*_batch*")):
            tar.add(path, f"cifar/{path.name}")
    assert_same(loaded(tmp_path / "cifar-10-any.tar.gz"), direct)


def test_a_folder_that_cifar_lies_in_is_the_same_as_arrays(tmp_path):
    (x, y), (x_test, y_test) = colour(20, 0), colour(10, 1)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    write_batch(folder, "data_batch_1", x, y, "python")
    write_batch(folder, "test_batch", x_test, y_test, "python")
    assert_same(loaded(tmp_path), from_arrays(x, y, x_test, y_test, images=True))
    write_mnist(tmp_path / "MNIST" / "raw", 0)
    with pytest.raises(UserError, match=r"holds several data sets: cifar-10-batches-py, MNIST/raw"):
        loaded(tmp_path)


FINE = tuple(f"kind {number:02d}" for number in range(100))


def write_cifar100(folder, shape=(-1, 3072)):
    (x, _), (x_test, _) = colour(100, 0), colour(100, 1)
    y, y_test = np.arange(100), np.arange(100)[::-1]
    folder.mkdir(parents=True)
    for name, images, labels in (("train", x, y), ("test", x_test, y_test)):
        planes = images.transpose(0, 3, 1, 2).reshape(shape)
        values = {b"data": planes, b"fine_labels": labels.tolist(), b"coarse_labels": [0] * 100}
        (folder / name).write_bytes(pickle.dumps(values))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [one.encode() for one in FINE]}))
    return from_arrays(x, y, x_test, y_test, images=True, task="classes")


@pytest.mark.parametrize("shape", [(-1, 3072), (-1, 3, 32, 32)])
def test_cifar_100_in_a_folder_and_an_archive_is_the_same_as_arrays(tmp_path, shape):
    folder = tmp_path / "root" / "cifar-100-python"
    direct = write_cifar100(folder, shape)
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(folder, "cifar-100-python")
    for place in (folder, folder.parent, tmp_path / "cifar-100-python.tar.gz"):
        dataset = loaded(place, task="classes")
        assert_same(dataset, direct)
        assert dataset.class_names == FINE
    other = tmp_path / "any name"
    folder.rename(other)
    assert_same(loaded(other, task="classes"), direct)


@pytest.mark.parametrize("name, change, message", [
    ("train", {b"fine_labels": [100] * 100}, r"train is damaged or not a part of CIFAR-100 .expected bytes"),
    ("test", {b"fine_labels": [1]}, r"test is damaged or not a part of CIFAR-100"),
    ("test", {b"data": np.zeros((100, 3071), np.uint8)}, r"test is damaged or not a part of CIFAR-100"),
    ("meta", {b"fine_label_names": []}, r"meta is damaged or not CIFAR-100's names .it has 0 names"),
])  # fmt: skip
def test_damaged_files_of_cifar_100_are_refused_by_name(tmp_path, name, change, message):
    write_cifar100(tmp_path / "cifar-100-python")
    path = tmp_path / "cifar-100-python" / name
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | change))
    with pytest.raises(UserError, match=message):
        loaded(path.parent)
    path.unlink()
    with pytest.raises(UserError, match=rf"{name} does not exist"):
        loaded(path.parent)
    with tarfile.open(tmp_path / "cifar-100-python.tar", "w") as tar:
        tar.add(path.parent, "cifar-100-python")
    with pytest.raises(UserError, match=rf"cifar-100-python.tar is damaged .*it lacks {name}"):
        loaded(tmp_path / "cifar-100-python.tar")


def test_cifar_as_png_folders_is_the_same_as_its_arrays(tmp_path):
    (x, y), (x_test, y_test) = colour(20, 0), colour(10, 1)
    for part, images, labels in (("train", x, y), ("test", x_test, y_test)):
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / part / cifar10.CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{row:04d}.png")
    orders = [np.argsort(labels, kind="stable") for labels in (y, y_test)]
    direct = from_arrays(x[orders[0]], y[orders[0]], x_test[orders[1]], y_test[orders[1]], images=True)
    dataset = loaded(tmp_path)
    assert_same(dataset, direct)
    assert dataset.class_names == cifar10.CLASSES


def test_svhn_is_the_same_as_arrays_with_its_class_10_as_digit_0(tmp_path):
    (x, y), (x_test, y_test) = colour(20, 0), colour(10, 1)
    for name, images, labels in (("train", x, y), ("test", x_test, y_test)):
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        scipy.io.savemat(tmp_path / f"{name}_32x32.mat", {"X": np.moveaxis(images, 0, -1), "y": stored})
    assert_same(loaded(tmp_path), from_arrays(x, y, x_test, y_test, images=True))
    (tmp_path / "test_32x32.mat").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"test_32x32.mat is damaged"):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(30), b"no archive", b""])
def test_a_damaged_archive_of_cifar_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz is damaged or not a tar archive"):
        loaded(tmp_path / "cifar-10-python.tar.gz")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_CIFAR.is_file(), reason="CIFAR-10 is not on this machine")
def test_cifar_on_this_machine_is_read_by_path(tmp_path):
    subprocess.run([sys.executable, str(SHARED_CIFAR), str(tmp_path)], check=True, capture_output=True)
    dataset = loaded(tmp_path / "cifar-10-batches-py")
    assert (len(dataset.train), len(dataset.test), dataset.image_shape) == (50_000, 10_000, (32, 32, 3))
    assert np.bincount(dataset.train.y).tolist() == [5000] * 10
