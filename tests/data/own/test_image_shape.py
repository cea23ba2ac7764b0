"""Flat rows that --image_shape declares to be images: the same data set as the images themselves."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import linearized
from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings
from linearized.settings.data_settings import DataSettings
from linearized.settings.own_settings import FORMATS, OwnDataSettings


def images(*shape, count=40):
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8), np.arange(count) % 2


def same(found, expected):
    assert found.image_shape == expected.image_shape is not None
    for name, split in expected.splits().items():
        np.testing.assert_array_equal(found.splits()[name].x, split.x)
        np.testing.assert_array_equal(found.splits()[name].y, split.y)


@pytest.mark.parametrize("shape, declared", [
    ((6, 5, 3), "6,5,3"), ((6, 5, 3), "6x5x3"), ((8, 8), "8,8"), ((3, 8, 9), "3,8,9"), ((8, 9, 2), " 8, 9, 2 "),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "parts"])
def test_flat_rows_become_the_images_that_they_flatten(tmp_path, shape, declared, kind):
    x, y = images(*shape)
    expected = linearized.from_arrays(x, y, images=True)
    flat, text = x.reshape(len(x), -1), str(tmp_path / f"a.{kind}")
    if kind == "csv":
        pd.DataFrame(flat).assign(label=y).to_csv(text, index=False)
    elif kind == "npz":
        np.savez(text, x=flat, y=y)
    elif kind == "npy":
        np.save(tmp_path / "x.npy", flat)
        np.save(tmp_path / "y.npy", y)
        text = f"{tmp_path}/x.npy,{tmp_path}/y.npy"
    else:
        text = str(tmp_path / "parts.npz")
        np.savez(text, x_train=flat[:30], y_train=y[:30], x_test=flat[30:], y_test=y[30:])
        expected = linearized.from_arrays(x[:30], y[:30], x[30:], y[30:], images=True)
    found = linearized.load(text, image_shape=declared)
    same(found, expected)
    assert found.fingerprint != linearized.load(text).fingerprint
    assert linearized.load(text).image_shape is None and linearized.load(text).dim == found.dim
    again = found.preparation.inputs(pd.DataFrame(flat) if kind == "csv" else flat)
    np.testing.assert_array_equal(again, expected.preparation.inputs(x))


def test_declared_images_of_python_are_those_of_the_command_line():
    x, y = images(6, 5, 3)
    expected = linearized.from_arrays(x, y, images=True)
    for shape in ((6, 5, 3), [6, 5, 3], "6,5,3"):
        same(linearized.from_arrays(x.reshape(40, -1), y, image_shape=shape), expected)


def test_only_declared_rows_are_taken_by_models_of_images(tmp_path):
    x, y = images(16, 16)
    np.savez(tmp_path / "a.npz", x=x.reshape(40, -1), y=y)
    given = {"data": str(tmp_path / "a.npz"), "model": "CNN"}
    with pytest.raises(UserError, match="CNN needs images"):
        TrainSettings(**given)
    declared = TrainSettings(**given, image_shape="16,16")
    assert declared.described().image_shape == (16, 16, 1)
    assert declared.key() != TrainSettings(**given, image_shape="8,32").key()


def test_numbers_of_a_table_that_are_no_bytes_are_not_scaled():
    x, y = images(4, 4)
    frame = pd.DataFrame(x.reshape(40, -1) / 7)
    found = linearized.from_arrays(frame, y, image_shape=(4, 4))
    np.testing.assert_allclose(found.preparation.inputs(frame), frame, rtol=1e-6)
    in_bytes = linearized.from_arrays(pd.DataFrame(x.reshape(40, -1)), y, image_shape=(4, 4)).preparation
    with pytest.raises(UserError, match="whole numbers from 0 to 255"):
        in_bytes.inputs(frame)


@pytest.mark.parametrize("shape, declared, words", [
    ((12,), "4,4", "has rows of 12 numbers, and images of 4x4 have 16"), ((12,), "12", "takes height,width"),
    ((12,), "4,3,1,1", "takes height,width"), ((12,), "a,b", "takes height,width"), ((12,), "0,12", "takes height"),
    ((12,), "4,-3", "takes height"), ((4, 4), "4,4", "rows of shape 4x4 already: leave out --image_shape"),
    ((2, 3, 2), "4,3", "already"),
])  # fmt: skip
def test_rows_that_do_not_fit_are_refused(shape, declared, words):
    with pytest.raises(UserError, match=words):
        linearized.from_arrays(*images(*shape), image_shape=declared)


def test_text_is_no_pixel_and_further_rows_have_the_same_columns():
    x, y = images(2, 2)
    frame = pd.DataFrame(x.reshape(40, -1), columns=list("abcd"))
    with pytest.raises(UserError, match="column d is no number, and so no pixel"):
        linearized.from_arrays(frame.assign(d="x"), y, image_shape=(2, 2))
    found = linearized.from_arrays(frame, y, image_shape=(2, 2)).preparation
    np.testing.assert_array_equal(found.inputs(frame[list("dcba")]), found.inputs(frame))
    with pytest.raises(UserError, match="The train rows had the columns a, b, c, d"):
        found.inputs(frame.rename(columns={"a": "e"}))


def test_the_flag_is_read_with_data_alone(tmp_path):
    with pytest.raises(UserError, match="--image_shape is read with --data"):
        DataSettings(image_shape="8,8")
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        Image.new("L", (4, 4)).save(tmp_path / f"{name}.png")
    options = OwnDataSettings.draft(data=str(tmp_path), image_shape="4,4")
    assert FORMATS.load("image_folder").read(options.data, options).images
    with pytest.raises(UserError, match="leave out --image_shape"):
        DataSettings(data=str(tmp_path), image_shape="4,4").described()


def test_columns_that_are_counted_beside_a_named_one_are_a_header(tmp_path):
    path = tmp_path / "a.csv"
    for first in (0, 1):
        frame = pd.DataFrame(np.arange(60.0).reshape(20, 3), columns=range(first, first + 3))
        frame.assign(label=np.arange(20) % 2).to_csv(path, index=False)
        np.testing.assert_array_equal(np.sort(linearized.load(str(path)).train.x[:, 0]) % 3, 0)
    for line in ("0,1,2", "5,6,7,cat", "0,1,cat", "0,1,1,label"):
        path.write_text(f"{line}\n{line}\n")
        with pytest.raises(UserError, match="has no header"):
            linearized.load(str(path))
