"""Saved models: whatever Keras cannot load is one line with the file's name."""

import json
import os
import zipfile

import keras
import numpy as np
import pytest

from linearized.base.reading import Absent, Unreadable
from linearized.models.common import load


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="readout")])
    path = tmp_path_factory.mktemp("model") / "good.keras"
    model.save(path)
    return model, path


def repacked(saved, path, change):
    """Writes the archive of a saved model with its members as `change` returns them."""
    with zipfile.ZipFile(saved[1]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)
    return path


def without(name):
    return lambda members: {key: value for key, value in members.items() if key != name}


def config(edit):
    def change(members):
        values = json.loads(members["config.json"])
        return {**members, "config.json": json.dumps(edit(values))}

    return change


def test_a_saved_model_is_loaded(saved, tmp_path):
    rows = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(load(saved[1])(rows), saved[0](rows))
    same = repacked(saved, tmp_path / "same.keras", lambda members: members)
    np.testing.assert_array_equal(load(same)(rows), saved[0](rows))


@pytest.mark.parametrize(
    "change",
    [
        without("config.json"),
        without("model.weights.h5"),
        lambda members: {**members, "config.json": b"[" * 100_000},
        lambda members: {**members, "config.json": b"\xff"},
        lambda members: {**members, "model.weights.h5": b"no HDF5"},
        config(lambda values: None),
        config(lambda values: []),
        config(lambda values: {**values, "class_name": "Nothing", "module": "nowhere", "registered_name": None}),
        config(lambda values: {**values, "config": {"name": "empty", "layers": "none"}}),
    ],
    ids=["config", "weights", "nested", "text", "HDF5", "null", "list", "class", "layers"],
)
def test_damaged_archives_are_one_line(saved, tmp_path, change):
    path = repacked(saved, tmp_path / "bad.keras", change)
    with pytest.raises(Unreadable, match=rf"{path} is damaged or not a model that Keras can load \(") as caught:
        load(path)
    assert str(caught.value).isprintable() and "Save a model with" in str(caught.value)


@pytest.mark.parametrize("name", ["bad.keras", "bad.h5", "bad.txt", "bad"])
@pytest.mark.parametrize("content", [b"", b"nothing", "truncated", "flipped"])
def test_other_bytes_are_one_line(saved, tmp_path, name, content):
    whole = bytearray(saved[1].read_bytes())
    if content == "flipped":
        whole[200:260] = bytes(60)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else whole[: len(whole) // 2] if content ==
                                  "truncated" else whole)  # fmt: skip
    with pytest.raises(Unreadable, match=name):
        load(tmp_path / name)


def test_missing_files_folders_and_pipes(tmp_path):
    with pytest.raises(Absent, match=r"none\.keras does not exist"):
        load(tmp_path / "none.keras")
    with pytest.raises(Unreadable, match="is a folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe.keras")
    with pytest.raises(Unreadable, match="is a pipe"):
        load(tmp_path / "pipe.keras")
