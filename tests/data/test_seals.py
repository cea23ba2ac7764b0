"""Every changed bit and every cut is noticed before a file is used, in each format that the suite writes."""

import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest

from linearized.base import seals
from linearized.base.reading import Unreadable, read_json
from linearized.storage.array_files import open_hdf5, read_npy, read_npz, seal_npy
from linearized.storage.files import whole_file, whole_hdf5
from linearized.storage.pickles import read_pickle

VALUES = np.arange(12.0).reshape(3, 4)


def write_json(path):
    with whole_file(path) as aside:
        seals.write_json(aside, {"b": [1.5, None], "a": {"ü": "x"}}, sort_keys=True)


def write_hdf5(path):
    with whole_hdf5(path) as file:
        file["x"] = VALUES
        file.attrs["key"] = "f00d"


def write_npz(path):
    with whole_file(path, sealed=True) as aside:
        np.savez(aside, x=VALUES)


def write_npy(path):
    with whole_file(path) as aside:
        np.save(aside, VALUES)
        seal_npy(aside)


def write_pickle(path):
    with whole_file(path, sealed=True) as aside:
        aside.write_bytes(pickle.dumps({"x": VALUES.tolist()}, protocol=2))


def read_hdf5(path):
    with open_hdf5(path) as file:
        return file["x"][()].tolist(), file.attrs["key"]


FORMATS = {
    "json": (write_json, read_json, {"format": 2, "b": [1.5, None], "a": {"ü": "x"}}),
    "h5": (write_hdf5, read_hdf5, (VALUES.tolist(), "f00d")),
    "npz": (write_npz, lambda path: read_npz(path)["x"].tolist(), VALUES.tolist()),
    "npy": (write_npy, lambda path: read_npy(path, mapped=True).tolist(), VALUES.tolist()),
    "pickle": (write_pickle, lambda path: read_pickle(path.read_bytes(), str(path)), {"x": VALUES.tolist()}),
}


@pytest.fixture(params=FORMATS)
def written(request, tmp_path):
    """A sealed file of each format, what reads it, and what is read."""
    write, read, value = FORMATS[request.param]
    path = tmp_path / f"file.{request.param}"
    write(path)
    return path, read, value


def test_a_sealed_file_is_read(written):
    path, read, value = written
    assert read(path) == value


def test_every_flipped_bit_is_noticed(written):
    path, read, _ = written
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(len(whole), size=150).tolist()
    for place in [*places, *range(len(whole) - 120, len(whole))]:
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        with pytest.raises((Unreadable, ValueError), match=path.name):
            read(path)


def test_every_cut_is_noticed_or_leaves_the_whole_content(written):
    path, read, value = written
    whole, noticed = path.read_bytes(), 0
    lengths = [*np.random.default_rng(1).integers(len(whole), size=60), *range(len(whole) - 80, len(whole))]
    for length in map(int, lengths):
        path.write_bytes(whole[:length])
        try:
            assert read(path) == value
        except (Unreadable, ValueError) as error:
            assert path.name in str(error)
            noticed += 1
    assert noticed >= 60


def test_other_programs_read_sealed_files(tmp_path):
    for name, (write, _, _) in FORMATS.items():
        write(tmp_path / f"a.{name}")
    assert json.loads((tmp_path / "a.json").read_text())["b"] == [1.5, None]
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["x"], VALUES)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["x"], VALUES)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), VALUES)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None and b"digest" in archive.comment
    assert pickle.loads((tmp_path / "a.pickle").read_bytes()) == {"x": VALUES.tolist()}


def test_files_without_a_seal_are_read_as_version_0_1_wrote_them(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"format": 1, "a": 2}))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file.attrs["key"] = VALUES, "f00d"
    np.savez(tmp_path / "a.npz", x=VALUES)
    np.save(tmp_path / "a.npy", VALUES)
    assert read_json(tmp_path / "a.json") == {"format": 1, "a": 2}
    assert read_hdf5(tmp_path / "a.h5") == (VALUES.tolist(), "f00d")
    assert read_npz(tmp_path / "a.npz")["x"].tolist() == read_npy(tmp_path / "a.npy").tolist() == VALUES.tolist()


def test_a_record_of_format_2_needs_its_digest(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"format": 2, "a": 2}))
    with pytest.raises(Unreadable, match="digest is missing"):
        read_json(tmp_path / "a.json")


def test_parts_are_left_out_of_the_digest_and_found_again(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(100)))
    parts = [seals.SealedPart(10, 20), seals.SealedPart(50, 30)]
    seals.write_index(path, 100, parts, {"owner": "me"})
    with pytest.raises(seals.Damaged):
        seals.read_index(path)
    assert seals.read_index(path, finished=False).about == {"owner": "me"}
    seals.seal_parts(path)
    index = seals.read_index(path)
    assert index.parts == parts and list(seals.gaps(index)) == [(0, 10), (30, 50), (80, 100)]
    content = bytearray(path.read_bytes())
    content[15] ^= 1
    path.write_bytes(content)
    assert seals.read_index(path).parts == parts
    content[35] ^= 1
    path.write_bytes(content)
    with pytest.raises(seals.Damaged):
        seals.read_index(path)
