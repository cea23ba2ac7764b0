"""CIFAR-10's pickles, in a folder or archive, and a reader that runs none of their code; CIFAR2 from the same files."""

import contextlib
import io
import os
import pickle
import shutil
import struct
import tarfile

import numpy as np
import pytest
from scipy.io import savemat

from linearized import data
from linearized.base.errors import UserError
from linearized.data.dataset import fingerprint
from linearized.data.sources import keras_cache
from linearized.data.sources.cifar2 import CatsAndAirplanes
from linearized.data.sources.cifar10 import CifarFiles
from linearized.storage.pickles import read_pickle


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2's `str`, as CIFAR-10's own files have them."""

    def save_python2(self, text):
        content = text if isinstance(text, bytes) else text.encode()
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch = pickle._Pickler.dispatch | {bytes: save_python2, str: save_python2}


def batch(n=4, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 3, 32, 32)).astype(np.uint8)
    return {b"data": images.reshape(n, -1), b"labels": [int(label) for label in random.integers(0, 10, n)]}


def python2(value):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue()


@pytest.fixture
def folder(small_directories):
    return small_directories / "data_dir" / "cifar-10-batches-py"


@pytest.fixture
def alone(directories, monkeypatch):
    def download(name):
        raise UserError("Keras could not download it (no network).")

    monkeypatch.setattr(keras_cache, "download", download)


@pytest.mark.parametrize("dump", [python2, *(lambda v, p=p: pickle.dumps(v, protocol=p) for p in (0, 2, 3, 4, 5))])
def test_plain_pickles_of_every_protocol(dump):
    value = batch()
    read = read_pickle(dump(value), "file")
    np.testing.assert_array_equal(read[b"data"], value[b"data"])
    assert read[b"labels"] == value[b"labels"]


def test_numpy_1_names_and_scalars():
    content = pickle.dumps({"a": np.arange(3), "b": np.int64(7)}, protocol=2)
    read = read_pickle(content.replace(b"numpy._core", b"numpy.core"), "file")
    assert read["a"].tolist() == [0, 1, 2] and read["b"] == 7


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_bytes_that_python_3_wrote_in_old_protocols(protocol):
    value = {"raw": bytes(range(256)), "empty": b"", "array": bytearray(b"\x00\xffz"), "none": bytearray(), "text": "é"}
    content = pickle.dumps(value, protocol=protocol)
    assert b"__builtin__" in content and b"_codecs" in content
    assert read_pickle(content, "file") == value
    assert read_pickle(content.replace(b"__builtin__", b"builtins"), "file") == value


@pytest.mark.parametrize(
    "content",
    [
        b"c__builtin__\nbytes\n(I99999999999\ntR.",  # as much memory as it says
        b"c__builtin__\nbytearray\n(I99999999999\ntR.",
        b"c_codecs\nencode\n(Vabc\nVzip\ntR.",
        b"\x80\x02]r\xff\xff\xff\xffaK\x01a.",  # the last place of 2**32 in the memo
        b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\x00\x00abc.",  # a bytearray of 2**48 bytes
    ],
)
def test_pickles_that_ask_for_much_memory_are_refused(content):
    with pytest.raises(UserError, match="file is damaged or not a pickle"):
        read_pickle(content, "file")


def test_a_pickle_changes_nothing_of_the_reader():
    content = b"c_codecs\nencode\n(N}V__defaults__\n(Vzip\ntstb."
    read_pickle(content, "file")
    assert read_pickle(pickle.dumps(b"abc", protocol=0), "file") == b"abc"


class Code:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, np.load, np.fromfile, getattr, shutil.rmtree])
def test_code_is_refused_and_not_run(tmp_path, function):
    trap = tmp_path / "trap"
    content = pickle.dumps({b"data": Code(function, f"touch {trap}"), b"labels": []}, protocol=2)
    with pytest.raises(UserError, match=r"evil carries code \(.*\) and was not run"):
        read_pickle(content, "evil")
    assert not trap.exists()


def test_code_in_a_dotted_name_is_refused():
    content = b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93."
    with pytest.raises(UserError, match="carries code"):
        read_pickle(content, "evil")


def test_damaged_pickles():
    content = pickle.dumps(batch(), protocol=2)
    random = np.random.default_rng(0)
    for length in (0, 1, 50, len(content) - 1):
        with pytest.raises(UserError, match="file is damaged"):
            read_pickle(content[:length], "file")
    for _ in range(300):  # any garbage reads or is refused; nothing else comes out
        garbled = bytearray(content[:400] + content[-200:])
        garbled[random.integers(0, 400)] = random.integers(0, 256)
        with contextlib.suppress(UserError):
            read_pickle(bytes(garbled), "file")


def test_images_are_turned_to_height_width_channel(tmp_path):
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        (tmp_path / name).write_bytes(python2(batch(seed=len(name))))
    raw = CifarFiles().read(tmp_path)
    assert raw.train.shape == (8, 32, 32, 3)
    flat = batch(seed=len("test_batch"))[b"data"]
    for row, column, channel in ((0, 0, 0), (3, 30, 1), (31, 5, 2)):
        assert raw.test[2, row, column, channel] == flat[2, 1024 * channel + 32 * row + column]


@pytest.mark.parametrize("shape", [
    lambda rows: rows.reshape(-1, 3, 32, 32), lambda rows: rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
], ids=["planes", "images"])  # fmt: skip
def test_batches_of_images_in_their_shape_are_the_same(tmp_path, folder, shape):
    first = CifarFiles().read(folder)
    for path in sorted(folder.iterdir()):
        values = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps(values | {b"data": shape(values[b"data"])}))
    assert fingerprint(*CifarFiles().read(folder)) == fingerprint(*first)


def test_folder_archive_and_keras_cache_give_the_same(folder, tmp_path):
    first = data.load("CIFAR10", 2)
    archive = folder.parent / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="cifar-10-batches-py")
    keras = tmp_path / "keras" / "datasets" / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    shutil.copytree(folder, keras)
    shutil.rmtree(folder)
    for place in (archive, keras):
        assert data.DATASETS.load("CIFAR10").find().place == place
        again = data.load("CIFAR10", 2)
        assert again.fingerprint == first.fingerprint
        np.testing.assert_array_equal(again.train.x, first.train.x)
        if place == archive:
            place.unlink()


def other_version(folder, version):
    """Writes the batches of `folder` in another version beside it, and removes them."""
    target = folder.parent / f"cifar-10-batches-{version}"
    target.mkdir()
    for path in sorted(folder.iterdir()):
        values = pickle.loads(path.read_bytes())
        rows, labels = values[b"data"], np.array(values[b"labels"], np.uint8)
        if version == "bin":
            content = np.concatenate([labels[:, None], rows], axis=1).tobytes()
            (target / f"{path.name}.bin").write_bytes(content)
        else:
            savemat(target / f"{path.name}.mat", {"data": rows, "labels": labels[:, None], "batch_label": path.name})
    shutil.rmtree(folder)
    return target


@pytest.mark.parametrize("place", [".", "cifar10"])
@pytest.mark.parametrize("version", ["bin", "mat"])
@pytest.mark.parametrize("packed", [False, "tar.gz", "tar"])
def test_binary_and_matlab_versions_give_the_same(folder, place, version, packed):
    first = CifarFiles().read(folder)
    there = other_version(folder, version)
    parent = there.parent / place
    parent.mkdir(exist_ok=True)
    if packed:
        archive = parent / f"cifar-10-{'binary' if version == 'bin' else 'matlab'}.{packed}"
        with tarfile.open(archive, "w:gz" if packed == "tar.gz" else "w") as tar:
            tar.add(there, arcname=there.name)
        shutil.rmtree(there)
    elif place != ".":
        shutil.move(there, parent)
    again = CifarFiles().read(data.DATASETS.load("CIFAR10").find().place)
    assert fingerprint(*again) == fingerprint(*first)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("test_batch.bin", bytes(3072), "rows of 3073 bytes. Received: 3,072 bytes"),
        ("test_batch.bin", b"", "Received: 0 bytes"),
        ("test_batch.bin", b"\x0a" + bytes(3072), "expected 1 labels of 0..9"),
        ("test_batch.mat", b"MATLAB 5.0", "is damaged or not a Matlab file"),
    ],
)
def test_damaged_batches_of_other_versions_are_named(folder, name, content, message):
    there = other_version(folder, name[-3:])
    (there / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{there}/{name}.*{message}"):
        data.load("CIFAR10")


def test_archive_never_writes_outside(tmp_path, directories):
    (directories / "data_dir").mkdir(parents=True)
    archive = directories / "data_dir" / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("../../evil/data_batch_1", "/test_batch"):
            content = pickle.dumps(batch(), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("data_batch_2")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert len(CifarFiles().read(archive).train) == 4
    assert sorted(path.name for path in directories.rglob("*")) == ["cifar-10-python.tar.gz", "data_dir"]


@pytest.mark.parametrize("content", [b"no archive", "truncated"])
def test_damaged_archive(folder, content):
    archive = folder.parent / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="cifar-10-batches-py")
    archive.write_bytes(archive.read_bytes()[:-5000] if content == "truncated" else content)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"tar\.gz is damaged or not a tar archive"):
        data.load("CIFAR10")


@pytest.mark.parametrize(
    "change, message",
    [
        ({b"data": np.zeros((4, 3071), np.uint8)}, r"uint8 of shape \(n, 3072\). Received: uint8 \(4, 3071\)"),
        ({b"data": np.zeros((4, 3072))}, "Received: float64"),
        ({b"data": np.zeros((4, 3, 32, 31), np.uint8)}, r"Received: uint8 \(4, 3, 32, 31\)"),
        ({b"data": [1, 2]}, "Received: list"),
        ({b"labels": [0, 1, 2, 10]}, r"4 labels of 0\.\.9"),
        ({b"labels": [0, 1, 2, -1]}, r"4 labels of 0\.\.9"),
        ({b"labels": [0, 1, 2]}, r"4 labels of 0\.\.9"),
        ({b"labels": [0, 1, 2, 0.5]}, r"4 labels of 0\.\.9"),
        ({b"labels": None}, r"4 labels of 0\.\.9"),
    ],
)
def test_wrong_arrays_name_the_file(folder, change, message):
    (folder / "data_batch_3").write_bytes(pickle.dumps(batch() | change, protocol=2))
    with pytest.raises(UserError, match=rf"{folder}/data_batch_3: .*{message}"):
        data.load("CIFAR10")


@pytest.mark.parametrize("value", [{b"data": 1}, [1], None])
def test_no_dict(folder, value):
    (folder / "test_batch").write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match="expected a dict with `data` and `labels`"):
        data.load("CIFAR10")


def test_a_batch_left_out(folder):
    (folder / "data_batch_2").unlink()
    with pytest.raises(UserError, match=r"none left out\. Received: data_batch_1, data_batch_3"):
        data.load("CIFAR10")


def test_code_in_the_folder(folder):
    (folder / "data_batch_1").write_bytes(pickle.dumps(Code(os.system, "true")))
    with pytest.raises(UserError, match=r"data_batch_1 carries code \(posix\.system\)"):
        data.load("CIFAR10")


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR2"])
def test_missing(directories, alone, name):
    with pytest.raises(UserError) as caught:
        data.load(name)
    for words in ("cifar-10-batches-py", "cifar-10-python.tar.gz", "no network", "--fetch CIFAR10", str(directories)):
        assert words in str(caught.value)


def test_cats_and_airplanes(folder):
    all_ten, two = CifarFiles().read(folder), CatsAndAirplanes().read(folder)
    expected = [
        (image, label) for image, label in zip(all_ten.train, all_ten.train_labels, strict=True) if label in (0, 3)
    ]
    assert len(two.train) == len(expected) == 20
    for ours, label, (image, old) in zip(two.train, two.train_labels, expected, strict=True):
        assert label == {3: 0, 0: 1}[old]
        grey = 0.2125 * image[..., 0] + 0.7154 * image[..., 1] + 0.0721 * image[..., 2]
        np.testing.assert_allclose(ours[..., 0], grey / 255, rtol=1e-12)
    loaded = data.load("CIFAR2", 0)
    assert loaded.num_outputs == 1
    rows = loaded.train.x.astype(float)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 32, rtol=1e-6)


def test_no_cat_and_no_airplane(folder):
    (folder / "test_batch").write_bytes(pickle.dumps(batch() | {b"labels": [1, 2, 4, 5]}, protocol=2))
    with pytest.raises(UserError, match="no image of class 3 or 0"):
        data.load("CIFAR2")
