"""Data of the user's own in an .npz file: names, labels, division, key."""

import zipfile

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.data.loading import load_rows
from linearized.experiments.krr import KernelFitSettings
from linearized.experiments.train import TrainSettings
from linearized.storage import array_files
from linearized.storage.array_files import read_npz


def rows(count=60, dim=4):
    random = np.random.default_rng(0)
    return random.normal(size=(count, dim)).astype(np.float32), np.arange(count) % 3


def loaded(path, **settings):
    return load_rows(TrainSettings(data=str(path), **settings), 0)


def test_rows_are_divided_by_the_seed_with_every_class_in_its_share(tmp_path):
    x, y = rows()
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["b", "a", "c"])[y])
    dataset = loaded(tmp_path / "a.npz", test_fraction=0.25)
    assert (dataset.task, dataset.class_names, dataset.num_outputs) == ("classes", ("a", "b", "c"), 3)
    assert np.bincount(dataset.test.y).tolist() == [5, 5, 5]
    everything = np.concatenate([dataset.train.x, dataset.test.x])
    np.testing.assert_array_equal(everything[np.lexsort(everything.T)], x[np.lexsort(x.T)])
    row = int(np.flatnonzero((x == dataset.test.x[0]).all(axis=1))[0])
    assert dataset.class_names[dataset.test.y[0]] == "bac"[y[row]]
    assert not np.array_equal(dataset.test.x, loaded(tmp_path / "a.npz", test_fraction=0.25, seed=1).test.x)


def test_classes_of_one_row_each_leave_no_test_row(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=["a", "b", "c"])
    with pytest.raises(UserError, match="each of the 3 rows is of another class"):
        loaded(tmp_path / "a.npz")


@pytest.mark.parametrize("names", [
    ("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"),
    ("X", "y", "X_test", "y_test"),
])  # fmt: skip
def test_usual_names_are_understood_and_rows_of_a_test_part_keep_their_order(tmp_path, names):
    x, y = rows()
    np.savez_compressed(tmp_path / "a.npz", **dict(zip(names, (x[:40], y[:40], x[40:], y[40:]), strict=True)))
    dataset = loaded(tmp_path / "a.npz")
    np.testing.assert_array_equal(dataset.train.x, x[:40])
    np.testing.assert_array_equal(dataset.test.y, y[40:])
    with pytest.raises(UserError, match="test rows of its own"):
        loaded(tmp_path / "a.npz", test_fraction=0.5)


def test_content_names_the_run_wherever_the_file_lies(tmp_path):
    x, y = rows()
    for folder, values in (("one", x), ("two", x), ("three", x + 1)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "a.npz", x=values, y=y)
    names = [TrainSettings(data=str(tmp_path / folder / "a.npz")).run_name() for folder in ("one", "two", "three")]
    assert names[0] == names[1] != names[2]


def test_several_targets_are_several_outputs(tmp_path):
    x, _ = rows()
    np.savez(tmp_path / "a.npz", x=x, y=x[:, :2] * 2)
    dataset = loaded(tmp_path / "a.npz")
    assert (dataset.task, dataset.num_outputs, dataset.num_classes) == ("regression", 2, 0)
    np.testing.assert_array_equal(dataset.train.y, dataset.train.x[:, :2] * 2)


@pytest.mark.parametrize("text, words", [
    ("FMnist", "--dataset=FMNIST"), ("absent.npz", "does not exist"), ("table.xyz", "no known format"),
])  # fmt: skip
def test_what_is_no_data_is_refused_in_one_line(text, words):
    with pytest.raises(UserError, match=words):
        TrainSettings(data=text)


def test_a_file_may_bear_the_name_of_the_synthetic_data_set(tmp_path):
    x, y = rows()
    np.savez(tmp_path / "SYNTH.npz", x=x, y=y)
    assert KernelFitSettings(data=str(tmp_path / "SYNTH.npz")).row_counts()["train"] == 48
    assert KernelFitSettings(dataset="SYNTH", num_train=500).row_counts()["train"] == 500
    assert KernelFitSettings(dataset="SYNTH", synth_n=700).row_counts()["train"] == 700


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_large_archives_are_mapped_where_they_are_not_compressed(tmp_path, monkeypatch, save):
    x, y = rows()
    more = {
        "text": np.array([["a", "b"]]),
        "fortran": np.asfortranarray(x),
        "none": np.ones((0, 3)),
        "one": np.ones((5, 1)),
    }
    save(tmp_path / "a.npz", x=x, y=y, **more)
    whole = read_npz(tmp_path / "a.npz", compressed=True, mapped=True)
    assert not any(isinstance(array, np.memmap) for array in whole.values())
    expected = loaded(tmp_path / "a.npz", seed=3)
    monkeypatch.setattr(array_files, "MAPPED", 1)
    found = read_npz(tmp_path / "a.npz", compressed=True, mapped=True)
    mapped = {name for name, array in found.items() if isinstance(array, np.memmap)}
    assert mapped == ({"x", "one"} if save is np.savez else set()) and set(found) == {"x", "y", *more}
    for name, array in whole.items():
        np.testing.assert_array_equal(found[name], array)
    again = loaded(tmp_path / "a.npz", seed=3)
    np.testing.assert_array_equal(again.train.x, expected.train.x)
    np.testing.assert_array_equal(again.test.y, expected.test.y)


@pytest.mark.parametrize("damage", ["cut", "header", "shape", "objects"])
def test_damaged_archives_are_refused_when_they_are_mapped(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(array_files, "MAPPED", 1)
    x, y = rows()
    path = tmp_path / "a.npz"
    np.savez(path, y=y, x=x.astype(object) if damage == "objects" else x)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("x.npy").header_offset
    if damage == "cut":
        del content[start + 300 : start + 400]
    if damage == "header":
        content[start] ^= 1
    if damage == "shape":
        content[content.index(b"(60, 4)", start) + 1] = ord("9")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz (is damaged|holds Python objects)"):
        read_npz(path, compressed=True, mapped=True)
