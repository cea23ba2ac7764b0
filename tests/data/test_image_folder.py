"""Folders of pictures: what the folders at the top mean, what is passed over, and which classes there are."""

import os

import numpy as np
import pytest
from PIL import Image

from linearized.base.errors import UserError
from linearized.data.sources import image_folder
from linearized.data.sources.image_folder import load

SHAPE = (4, 4, 1)


def pictures(folder, classes="abc", count=4, first=0):
    """`count` grey pictures a class; no two pictures of a test are alike."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            value = (first + 40 * label + number) % 256
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(folder / name / f"{number:02d}.png")
    return folder


def sizes(dataset):
    return {name: len(split) for name, split in dataset.splits().items()}


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("test", ["test", "testing", "TEST", "val", "valid", "validation", "dev"])
def test_split_folders_of_every_name(tmp_path, train, test):
    pictures(tmp_path / train)
    pictures(tmp_path / test, count=2, first=10)
    dataset = load(tmp_path, SHAPE)
    assert dataset.num_classes == 3 and sizes(dataset) == {"train": 12, "test": 6}
    np.testing.assert_array_equal(dataset.test.y, [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(dataset.test.x[:, 0] * 255, [10, 11, 50, 51, 90, 91], atol=1e-3)


def test_three_splits_give_validation_rows(tmp_path):
    for count, name in ((4, "train"), (1, "valid"), (2, "test")):
        pictures(tmp_path / name, count=count)
    assert sizes(load(tmp_path, SHAPE)) == {"train": 12, "validation": 3, "test": 6}


@pytest.mark.parametrize("names", [("training_set", "test_set"), ("seg_train", "seg_test"), ("TrainSet", "val-data")])
def test_longer_names_are_splits_if_all_of_them_are(tmp_path, names):
    pictures(tmp_path / names[0])
    pictures(tmp_path / names[1], count=2)
    assert sizes(load(tmp_path, SHAPE)) == {"train": 12, "test": 6}
    pictures(tmp_path / "other", ("test_tube", "train_car", "beaker"), count=5)  # these are classes
    assert load(tmp_path / "other", SHAPE).num_classes == 3


@pytest.mark.parametrize("names", [
    ("train", "eval"), ("train_images", "eval"), ("training_data", "evaluation_data"), ("Train Images", "Eval Images"),
    ("TrainingSet", "EvalSet"), ("traindata", "testdata"), ("trainimages", "testimages"), ("1_train", "2_val"),
    ("DataTrain", "DataTest"), ("train2017", "val2017"), ("TRAIN-IMGS", "TEST-IMGS"), ("cats train", "catsTest"),
])  # fmt: skip
def test_names_that_speak_of_splits_are_splits(tmp_path, names):
    pictures(tmp_path / names[0])
    pictures(tmp_path / names[1], count=2)
    dataset = load(tmp_path, SHAPE)
    assert dataset.num_classes == 3 and sizes(dataset) == {"train": 12, "test": 6}


@pytest.mark.parametrize(
    "names, message",
    [
        (("holdout", "train_x"), "has holdout beside train_x, which share their folders and so are splits"),
        (("part one", "part two"), "has part one, part two, which share their folders and so are splits"),
        (("train_x", "train_y", "test_x"), "has both train_x and train_y, which mean the same"),
        (("eval_a", "test_a"), "has eval_a, test_a and no train folder"),
        (("trainA", "trainB", "testA", "testB"), "has testA, testB, trainA, trainB, which are splits and classes"),
    ],
)
def test_folders_that_share_their_classes_are_splits_or_refused(tmp_path, names, message):
    for name in names:
        pictures(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, SHAPE)
    said = str(caught.value)
    assert "Splits are called train, training, val" in said and "eval, evaluation" in said and "\n" not in said


@pytest.mark.parametrize("names", [("trainA", "trainB", "testA", "testB"), ("a_train", "b_train", "a_val", "b_val"),
                                   ("traina", "trainb", "testa", "testb")])  # fmt: skip
def test_pictures_in_folders_of_a_split_and_a_class_are_refused(tmp_path, names):
    pictures(tmp_path, names)
    with pytest.raises(UserError, match=r"which are splits and classes in one name.*such as trainA to train/A"):
        load(tmp_path, SHAPE)


def test_a_folder_beside_splits_that_is_none_is_refused(tmp_path):
    for name in ("train_images", "eval_images"):
        pictures(tmp_path / name)
    (tmp_path / "docs").mkdir()
    with pytest.raises(UserError, match="has docs beside eval_images, train_images, which share"):
        load(tmp_path, SHAPE)


def test_folders_in_classes_that_are_not_in_all_of_them_are_no_evidence_of_splits(tmp_path):
    pictures(tmp_path / "cat", ("left", "right"), count=5)
    pictures(tmp_path / "dog", ("left", "behind"), count=5)
    assert load(tmp_path, SHAPE).num_classes == 2
    pictures(tmp_path / "dog", ("right",), count=5)
    Image.new("L", (4, 4)).save(tmp_path / "dog" / "of its own.png")
    assert load(tmp_path, SHAPE).num_classes == 2
    pictures(tmp_path / "words", ("trainer", "testament", "eval", "device"))
    assert load(tmp_path / "words", SHAPE).num_classes == 4


@pytest.mark.parametrize(
    "names, message",
    [
        (("training", "holdout"), "has holdout beside training"),
        (("test", "car", "truck"), "has car, truck beside test"),
        (("train", "training", "test"), "has both train and training"),
        (("train", "val", "validation"), "has both val and validation"),
        (("test", "val"), "has test, val and no train folder"),
    ],
)
def test_folders_that_are_not_understood_are_refused_by_name(tmp_path, names, message):
    for name in names:
        pictures(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, SHAPE)
    assert "Splits are called train, training, val" in str(caught.value)


def test_splits_without_classes_are_no_classes(tmp_path):
    pictures(tmp_path, ("train", "test"))
    with pytest.raises(UserError, match=r"train holds pictures of 0 classes"):
        load(tmp_path, SHAPE)


def test_a_fifth_is_held_out_without_a_test_part(tmp_path):
    pictures(tmp_path / "one", "ab", count=5)
    pictures(tmp_path / "two" / "train", "ab", count=5)
    one, two, other = (
        load(tmp_path / "one", SHAPE),
        load(tmp_path / "two", SHAPE),
        load(tmp_path / "one", SHAPE, seed=1),
    )
    assert sizes(one) == sizes(two) == {"train": 8, "test": 2}
    assert one.fingerprint == two.fingerprint != other.fingerprint
    rows = {row.tobytes() for split in one.splits().values() for row in split.x}
    assert len(rows) == 10


def test_test_pictures_of_one_class_are_scored(tmp_path):
    pictures(tmp_path / "train")
    pictures(tmp_path / "test", "b", count=2)
    (tmp_path / "test" / "empty").mkdir()  # a folder without a picture is no class
    dataset = load(tmp_path, SHAPE)
    assert dataset.num_classes == 3 and dataset.test.y.tolist() == [1, 1]


def test_a_test_class_that_train_lacks_is_refused_by_name(tmp_path):
    pictures(tmp_path / "train")
    pictures(tmp_path / "test", "bdz", count=1)
    with pytest.raises(UserError, match=rf"{tmp_path}/test has classes that {tmp_path}/train lacks: d, z\."):
        load(tmp_path, SHAPE)


def test_hidden_and_system_files_are_passed_over(tmp_path):
    pictures(tmp_path / "train")
    pictures(tmp_path / "test")
    before = load(tmp_path, SHAPE)
    pictures(tmp_path / "train" / "a", (".ipynb_checkpoints", "@eaDir"))
    pictures(tmp_path / "train", (".thumbnails", "__MACOSX"))
    pictures(tmp_path, (".git", "__MACOSX"))
    for name in ("._00.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / "train" / "a" / name).write_bytes(b"no picture")
    (tmp_path / "train" / "none").mkdir()
    after = load(tmp_path, SHAPE)
    assert after.fingerprint == before.fingerprint and after.num_classes == 3
    assert sizes(after) == {"train": 12, "test": 12}


def test_what_is_passed_over_is_logged(tmp_path, caplog):
    pictures(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "loose.png")
    (tmp_path / "a" / "photo.heic").write_bytes(b"")
    with caplog.at_level("WARNING", logger="absl"):
        load(tmp_path, SHAPE)
    assert "passed over 1 pictures outside of class folders and 1 files that are no pictures" in caplog.text


def test_the_order_of_classes_and_rows_is_that_of_their_names(tmp_path, monkeypatch):
    pictures(tmp_path / "train", ("b", "a", "B", "10", "9"))
    pictures(tmp_path / "test", ("9", "a"), count=1)
    (tmp_path / "train" / "a" / "inner").mkdir()
    (tmp_path / "train" / "a" / "00.png").rename(tmp_path / "train" / "a" / "inner" / "00.png")
    first = load(tmp_path, SHAPE)
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top: ((p, d, f[::-1]) for p, d, f in walk(top)))
    assert load(tmp_path, SHAPE).fingerprint == first.fingerprint
    assert first.test.y.tolist() == [1, 3]  # of 10, 9, B, a, b


def test_class_names_agree_however_their_accents_are_stored(tmp_path):
    pictures(tmp_path / "train", ("caf\u00e9", "tea"))
    pictures(tmp_path / "test", ("cafe\u0301",))
    assert load(tmp_path, SHAPE).test.y.tolist() == [0] * 4


def test_scalings(tmp_path):
    pictures(tmp_path, "ab", count=5)
    unit, symmetric, plain = (load(tmp_path, SHAPE, scaling=name).train.x for name in image_folder.SCALINGS)
    np.testing.assert_array_equal(plain, plain.round())
    np.testing.assert_allclose(unit, plain / 255, atol=1e-6)
    np.testing.assert_allclose(symmetric, 2 * unit - 1, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: None, "has pictures of 0 classes|holds pictures of 0 classes"),
        (lambda folder: pictures(folder, "a"), "holds pictures of 1 classes"),
        (lambda folder: folder.rmdir(), "is no folder"),
        (lambda folder: (pictures(folder / "train"), (folder / "test").mkdir()), "test holds no picture"),
    ],
)
def test_folders_without_enough_pictures(tmp_path, make, message):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "data", SHAPE)


def test_a_damaged_picture_and_an_odd_model_are_named(tmp_path):
    pictures(tmp_path)
    with pytest.raises(UserError, match=r"1, 3 or 4 channels\. Received: a model of 2"):
        load(tmp_path, (4, 4, 2))
    (tmp_path / "b" / "99.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"b/99\.png is damaged or not a picture .*Remove it or replace it"):
        load(tmp_path, SHAPE)
