"""One helper per file format: a right value, or one line that names the file; nothing that blocks is opened."""

import os
import pickle
import socket
import time

import h5py
import numpy as np
import pytest

from linearized.base.reading import Absent, Unreadable, read_bytes, read_json, read_lines, split_lines
from linearized.storage.array_files import open_hdf5, read_idx, read_npy, read_npz


def read_hdf5(path):
    with open_hdf5(path) as file:
        return file["x"][()]


READERS = {"bytes": read_bytes, "lines": read_lines, "json": read_json, "npy": read_npy, "npz": read_npz,
           "hdf5": read_hdf5, "idx": read_idx}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "link to an endless device", "link to a pipe"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, name, kind):
    path = tmp_path / "file"
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind("file")
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    else:
        path.symlink_to("/dev/zero")
    start = time.monotonic()
    with pytest.raises(Unreadable, match=f"{path} is a .*, not a regular file"):
        READERS[name](path)
    assert time.monotonic() - start < 30  # an endless device would never end


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_absent_and_a_forbidden_one_says_why(tmp_path, name):
    with pytest.raises(Absent, match="file does not exist"):
        READERS[name](tmp_path / "file")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Unreadable, match=r"loop cannot be read \(Too many levels"):
        READERS[name](tmp_path / "loop")


@pytest.mark.parametrize("name", ["bytes", "lines", "json"])
def test_a_file_of_huge_size_is_refused_by_its_size(tmp_path, name):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)  # takes no space on disk
    with pytest.raises(Unreadable, match="file has 1,099,511,627,776 bytes"):
        READERS[name](tmp_path / "file")


def test_lines_end_at_line_feeds_alone(tmp_path):
    (tmp_path / "text").write_bytes("\ufeffa\u2028b\r\nc\x0b\x0c\x1c\x85d\r\n\ne\rf\n".encode())
    assert read_lines(tmp_path / "text") == ["a\u2028b", "c\x0b\x0c\x1c\x85d", "", "e\rf"]
    assert split_lines("") == [] and split_lines("\n") == [""] and split_lines("a") == ["a"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e400}', "1e400 is no number"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b"[1]", "holds a list, not a dict"),
        (b"null", "holds a NoneType, not a dict"),
        (b'{"a": 1', "delimiter"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_cannot_be_used_is_one_line(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(Unreadable, match=message) as caught:
        read_json(tmp_path / "a.json", "Make it again.")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/a.json is damaged or not a JSON file (") and said.endswith("). Make it again.")
    assert "\n" not in said and len(said) < 400


def header(text):
    """The start of a .npy file whose header is `text`."""
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,"),  # tokenize.TokenError in NumPy
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"),  # and no data
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999,), }") + bytes(12),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }") + bytes(12),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }") + bytes(24),
        header("{'descr': 'zz', 'fortran_order': False, 'shape': (3,), }") + bytes(12),
        header("(" * 100),
        header("\0"),
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x80\x04N.",
        b"",
    ],
)
@pytest.mark.parametrize("mapped", [True, False])
def test_damaged_npy_is_one_line(tmp_path, content, mapped):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(Unreadable, match=r"a\.npy (is damaged or not a \.npy file \(|holds Python objects)") as caught:
        read_npy(tmp_path / "a.npy", mapped=mapped)
    assert ("Python objects" in str(caught.value)) == (b"|O" in content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.float32(3), np.array("text")],
)
def test_arrays_are_read_as_they_were_written(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", first=array, second=np.zeros(3))
    for mapped in (False, True):
        np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", mapped=mapped), array)
    read = read_npz(tmp_path / "a.npz")
    assert sorted(read) == ["first", "second"] and read["first"].dtype == np.asarray(array).dtype
    np.testing.assert_array_equal(read["first"], array)
    assert read["first"].flags.writeable


def test_npz_refuses_changed_bytes_and_other_archives(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(100.0))
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="CRC"):
        read_npz(path)
    np.savez_compressed(path, x=np.zeros(10**6))
    with pytest.raises(Unreadable, match="not plain arrays"):
        read_npz(path)
    with pytest.raises(Unreadable, match="archive of arrays"):
        read_npy(path)


def test_hdf5_of_another_content_is_one_line(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(Unreadable, match="not an HDF5 file"):
        read_hdf5(path)
    with h5py.File(path, "w") as file:
        file.create_group("x")
    with pytest.raises(Unreadable, match="not an HDF5 file"):
        read_hdf5(path)
    with pytest.raises(Unreadable, match="x"), open_hdf5(path) as file:
        file.attrs["x"]


def test_errors_travel_between_processes_and_show_what_a_terminal_does_not(tmp_path):
    error = Absent(tmp_path / "a\x1b\u2028b\udcff", "does not exist", "Make it.", reason="gone")
    assert str(error) == f"{tmp_path}/a\\x1b\\u2028b\\udcff does not exist. Make it."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is Absent and str(again) == str(error) and again.reason == "gone" and again.path == error.path
