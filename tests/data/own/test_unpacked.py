"""Gzipped files of many pictures are unpacked once; plain files are memory-mapped."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.data.own import unpacked
from linearized.data.own.readers.idx import IDX
from linearized.settings.own_settings import OwnDataSettings


def write_idx(path, array, zipped):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    with (gzip.open if zipped else open)(path, "wb") as file:
        file.write(header + array.tobytes())


def files(folder, *, zipped, seed=0):
    random = np.random.default_rng(seed)
    images, labels = random.integers(0, 256, (60, 9, 8)).astype(np.uint8), (np.arange(60) % 3).astype(np.uint8)
    suffix = ".gz" if zipped else ""
    paths = [folder / f"train-images-idx3-ubyte{suffix}", folder / f"train-labels-idx1-ubyte{suffix}"]
    for path, array in zip(paths, (images, labels), strict=True):
        write_idx(path, array, zipped)
    return ",".join(map(str, paths)), images, labels


def read(text):
    return IDX.read(text, OwnDataSettings.draft(data=text))


def kept(directories):
    return sorted((directories / "data_dir" / "unpacked").glob("*.npy"))


@pytest.mark.parametrize("zipped", [True, False])
def test_images_are_those_of_the_file_and_mapped(directories, tmp_path, monkeypatch, zipped):
    monkeypatch.setattr(unpacked, "SMALLEST", 1)
    text, images, labels = files(tmp_path, zipped=zipped)
    expected = linearized.from_arrays(images, labels)
    for _ in range(2):
        np.testing.assert_array_equal(linearized.load(text).train.x, expected.train.x)
        arrays = read(text)
        np.testing.assert_array_equal(arrays.x, images)
        np.testing.assert_array_equal(arrays.y, labels)
    assert isinstance(arrays.x, np.memmap) and len(kept(directories)) == zipped


def test_a_changed_file_is_unpacked_again_and_a_damaged_copy_is_made_anew(directories, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(unpacked, "SMALLEST", 1)
    text, images, _labels = files(tmp_path, zipped=True)
    read(text)
    [copy] = kept(directories)
    content = bytearray(copy.read_bytes())
    content[200] ^= 1
    copy.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read(text).x, images)
    assert "unpacked again" in caplog.text
    np.testing.assert_array_equal(read(text).x, images)
    other = files(tmp_path, zipped=True, seed=1)[1]
    assert not np.array_equal(other, images)
    np.testing.assert_array_equal(read(text).x, other)
    assert len(kept(directories)) == 2


def test_small_files_and_folders_that_refuse_leave_no_copy(directories, tmp_path, monkeypatch):
    text, images, _labels = files(tmp_path, zipped=True)
    np.testing.assert_array_equal(read(text).x, images)
    assert not kept(directories)
    monkeypatch.setattr(unpacked, "SMALLEST", 1)
    (directories / "data_dir").mkdir(parents=True)
    (directories / "data_dir" / "unpacked").write_text("a file in the place of the folder")
    np.testing.assert_array_equal(read(text).x, images)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"1"])
def test_plain_files_of_another_length_are_refused(tmp_path, change):
    text, _images, _labels = files(tmp_path, zipped=False)
    path = Path(text.split(",")[0])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=r"its header says an array of \(60, 9, 8\), and .* bytes follow"):
        read(text)
