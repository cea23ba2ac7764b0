"""Data sets by name: scikit-learn's, Keras' cache, and one line for each that cannot be fetched."""

import io
import pickle
import sys
import types

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from PIL import Image

from linearized import from_arrays
from linearized.base.errors import UserError
from linearized.data.loading import load_rows
from linearized.data.own.readers import fetched
from linearized.data.own.readers.hub import HF
from linearized.data.sources import keras_cache
from linearized.experiments.train import TrainSettings


@pytest.fixture(autouse=True)
def forget():
    yield
    fetched._arrays.cache_clear()
    fetched._digest.cache_clear()


def loaded(text, **settings):
    return load_rows(TrainSettings(data=text, **settings), 0)


def stand_in(name, **entries):
    """A module in the place of a package that is not installed."""
    module = types.ModuleType(name)
    vars(module).update(entries)
    return module


def assert_same(one, two):
    for name, split in one.splits().items():
        np.testing.assert_array_equal(split.x, two.splits()[name].x)
        np.testing.assert_array_equal(split.y, two.splits()[name].y)
    assert (one.task, one.image_shape, one.num_outputs) == (two.task, two.image_shape, two.num_outputs)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "linnerud", "digits"])
def test_sklearn_sets_are_the_same_as_their_arrays(name):
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    x = bunch.images if name == "digits" else bunch.data
    dataset = loaded(f"sklearn:{name}", seed=1)
    assert_same(dataset, from_arrays(x, bunch.target, seed=1))
    if name in ("iris", "wine", "breast_cancer"):
        assert dataset.class_names == tuple(bunch.target_names)


def write_keras_cache(folder):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    np.savez(folder / "mnist.npz", x_train=images[:30], y_train=labels[:30], x_test=images[30:], y_test=labels[30:])
    houses = random.normal(size=(50, 8)), random.uniform(size=50)
    np.savez(folder / "california_housing.npz", x=houses[0], y=houses[1])
    cifar = folder / "cifar-100-python-target" / "cifar-100-python"
    cifar.mkdir(parents=True)
    planes = random.integers(0, 256, (200, 3072), dtype=np.uint8)
    for name, rows in (("train", slice(0, 100)), ("test", slice(100, 200))):
        values = {b"data": planes[rows], b"fine_labels": list(range(100))}
        (cifar / name).write_bytes(pickle.dumps(values))
    (cifar / "meta").write_bytes(pickle.dumps({b"fine_label_names": [f"n{one:02d}".encode() for one in range(100)]}))
    return images, labels, houses, planes


def test_keras_sets_are_read_from_its_cache_without_a_framework(tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    images, labels, houses, planes = write_keras_cache(tmp_path / "datasets")
    before = "tensorflow" in sys.modules
    assert_same(loaded("keras:mnist"), from_arrays(images[:30], labels[:30], images[30:], labels[30:], images=True))
    assert_same(loaded("keras:california_housing"), from_arrays(*houses))
    hundred = loaded("keras:cifar100", task="classes")
    pixels = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(hundred.test.x, pixels[100:].reshape(100, -1) / np.float32(255))
    assert hundred.class_names[:2] == ("n00", "n01") and hundred.num_classes == 100
    assert ("tensorflow" in sys.modules) == before


def test_keras_images_are_found_in_its_cache(tmp_path, monkeypatch):
    folder = tmp_path / "datasets" / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    rows = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    for name, part in (("data_batch_1", slice(0, 10)), ("test_batch", slice(10, 20))):
        (folder / name).write_bytes(pickle.dumps({b"data": rows[part], b"labels": list(range(10))}))
    found = loaded("keras:cifar10")
    np.testing.assert_array_equal(found.test.x.reshape(10, 32, 32, 3)[..., 1], rows[10:, 1024:2048].reshape(10, 32, 32)
                                  / np.float32(255))  # fmt: skip


def test_keras_sets_that_are_not_here_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras_cache, "_CHILD", "raise SystemExit('no route to {name}')")
    with pytest.raises(UserError, match=r"could not download mnist \(no route to mnist\).*Put mnist.npz into"):
        loaded("keras:mnist")
    with pytest.raises(UserError, match=r"download cifar10 \(no route to cifar10\). Put cifar-10-batches") as caught:
        loaded("keras:cifar10")
    assert "none/" not in str(caught.value) and len(str(caught.value)) < 150 + len(str(tmp_path))
    with pytest.raises(UserError, match=r"Unknown data set keras:imdb. The choices are: mnist"):
        loaded("keras:imdb")


def test_openml_tables_are_the_same_as_their_frames(monkeypatch):
    frame = pd.DataFrame({"a": np.arange(30.0), "b": pd.Categorical(["u", "v", "w"] * 10)})
    target = pd.Series(pd.Categorical(["yes", "no"] * 15))
    asked = []

    def fetch_openml(**settings):
        asked.append(settings)
        return sklearn.utils.Bunch(data=frame, target=target)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    assert_same(loaded("openml:some@2"), from_arrays(frame, target))
    loaded("openml:61", target="b")
    assert asked[0] == {"name": "some", "version": 2, "target_column": "default-target", "as_frame": True}
    assert asked[-1] == {"data_id": 61, "target_column": ["b"], "as_frame": True}


def refuse(*_args, **_settings):
    raise OSError("no route\nto host")


@pytest.mark.parametrize("text, function", [("openml:iris", "fetch_openml"), ("sklearn:olivetti_faces",
                                                                             "fetch_olivetti_faces")])  # fmt: skip
def test_failed_downloads_are_one_line_that_says_what_to_do(monkeypatch, text, function):
    monkeypatch.setattr(sklearn.datasets, function, refuse)
    with pytest.raises(UserError, match=rf"{text} could not be fetched \(OSError: no route to host\). Check") as caught:
        loaded(text)
    assert "\n" not in str(caught.value)


def test_unknown_sklearn_sets_list_the_known_ones():
    with pytest.raises(UserError, match=r"Unknown data set sklearn:iriss. The choices are: breast_cancer"):
        loaded("sklearn:iriss")
    with pytest.raises(UserError, match="names no data set"):
        loaded("sklearn:")


def test_tfds_parts_are_the_same_as_their_arrays(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(12) % 2
    parts = {"train": {"image": images[:8], "label": labels[:8]}, "test": {"image": images[8:], "label": labels[8:]}}
    about = types.SimpleNamespace(features={"label": types.SimpleNamespace(names=["cat", "dog"])})
    stub = stand_in(
        "tensorflow_datasets", load=lambda name, batch_size, with_info: (parts, about), as_numpy=lambda loaded: loaded
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", stub)
    dataset = loaded("tfds:pets")
    assert_same(dataset, from_arrays(images[:8], labels[:8], images[8:], labels[8:], images=True))
    assert dataset.class_names == ("cat", "dog")


class HubImage:
    """Stands for `datasets.Image`."""


class HubRows(dict):
    """Stands for `datasets.Dataset`: columns by name, their features, and images as Pillow opens them."""

    column_names = property(list)

    @property
    def features(self):
        return {name: HubImage() if name == "img" else types.SimpleNamespace(names=["cat", "dog"]) for name in self}


@pytest.fixture
def hub(monkeypatch):
    """A function that puts parts of (column, values) on a hub, and the list of what was asked of it."""
    asked = []

    def put(**parts):
        rows = {split: HubRows(columns) for split, columns in parts.items()}
        load = lambda *names: asked.append(names) or rows  # noqa: E731
        monkeypatch.setitem(sys.modules, "datasets", stand_in("datasets", load_dataset=load, Image=HubImage))
        return asked

    return put


def stored(image, suffix="PNG", **settings):
    """A picture as Pillow opens it from a file: lazily, with what the file says of it."""
    file = io.BytesIO()
    image.save(file, suffix, **settings)
    return Image.open(file)


def grey_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 8), dtype=np.uint8)


def test_hub_parts_are_the_same_as_their_arrays(hub):
    x, labels = grey_images(12), np.arange(12) % 2
    parts = {split: {"img": [stored(Image.fromarray(one)) for one in x[rows]], "label": labels[rows].tolist()}
             for split, rows in (("train", slice(8)), ("test", slice(8, 12)))}  # fmt: skip
    asked = hub(**parts, unsupervised={"img": [None], "label": [-1]})
    dataset = loaded("hf:owner/pets@small")
    assert_same(dataset, from_arrays(x[:8], labels[:8], x[8:], labels[8:], images=True))
    assert dataset.class_names == ("cat", "dog") and set(asked) == {("owner/pets", "small")}


def test_tables_of_the_hub_are_the_same_as_their_frames(hub):
    frame = pd.DataFrame({"a": np.arange(12.0), "b": ["u", "v", "w"] * 4})
    hub(train={**{name: frame[name].tolist() for name in frame}, "id": list(range(12)), "label": [0, 1] * 6})
    assert_same(loaded("hf:owner/table"), from_arrays(frame, np.array([0, 1] * 6)))
    with pytest.raises(UserError, match="has no column of images: leave out --image_size"):
        loaded("hf:owner/table", image_size="8")
    with pytest.raises(UserError, match=r"has no column c\. Give --target: it has a, b, id, label"):
        loaded("hf:owner/table", target="c")


def test_a_name_that_the_hub_has_not_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", stand_in("datasets", load_dataset=refuse, Image=HubImage))
    with pytest.raises(UserError, match=r"hf:owner/none could not be fetched \(OSError: no route to host\)"):
        loaded("hf:owner/none")


def turned(image):
    """The picture of `image`, stored a quarter turn off with a note that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees, clockwise
    return stored(Image.fromarray(np.rot90(image)), exif=exif.tobytes())


def clear(image):
    """The picture of `image` as colour and opacity: whatever is white is transparent black in the file."""
    pixels = np.dstack([image, image, image, np.where(image == 255, 0, 255)]).astype(np.uint8)
    pixels[image == 255, :3] = 0
    return stored(Image.fromarray(pixels))


@pytest.mark.parametrize("store, levels", [
    (lambda image: stored(Image.fromarray(image.astype(np.uint16) * 257)), 255),
    (lambda image: stored(Image.fromarray(image.astype(np.float32) / 255), "TIFF"), 255),
    (turned, 1), (clear, 1), (lambda image: stored(Image.fromarray(image).convert("P")), 1),
    (lambda image: stored(Image.fromarray(image).convert("CMYK"), "TIFF"), 1),
], ids=["16 bits", "floats", "turned", "transparent", "palette", "CMYK"])  # fmt: skip
def test_images_of_the_hub_are_what_a_viewer_shows(hub, store, levels):
    x, labels = grey_images(12), np.arange(12) % 2
    x[:, :2] = 255
    hub(train={"img": [store(one) for one in x], "label": labels.tolist()})
    arrays = hub_arrays(channels="grey")
    assert arrays.x.dtype == (np.float32 if levels == 255 else np.uint8)
    np.testing.assert_allclose(arrays.x[..., 0] * (255 if levels == 255 else 1), x, atol=1e-3 if levels == 255 else 1)


def hub_arrays(**settings):
    return HF.fetch("owner/name", **settings)


def test_deep_and_plain_images_of_the_hub_have_one_scale(hub):
    x = grey_images(4)
    deep = [stored(Image.fromarray(one.astype(np.uint16) * 257)) for one in x]
    plain = [stored(Image.fromarray(one)) for one in x]
    hub(train={"img": deep, "label": [0, 1, 0, 1]}, test={"img": plain, "label": [0, 1, 0, 1]})
    arrays = hub_arrays()
    np.testing.assert_allclose(arrays.x, arrays.x_test, atol=1e-6)
    np.testing.assert_allclose(arrays.x[..., 0] * 255, x, atol=1e-3)


def test_images_of_the_hub_that_are_not_alike_or_not_there_are_refused(hub):
    x = grey_images(4)
    images = [stored(Image.fromarray(one)) for one in x]
    labels = [0, 1, 0, 1]
    hub(train={"img": images, "label": labels}, test={"img": [Image.new("RGB", (3, 5))] * 4, "label": labels})
    with pytest.raises(UserError, match=r"has images of 2 kinds: 5x3 colour, 6x8 grey\. Give --image_size and --chan"):
        hub_arrays()
    arrays = hub_arrays(image_size="4x5", channels="colour")
    assert arrays.x.shape == arrays.x_test.shape == (4, 4, 5, 3)
    hub(train={"img": [*images[:2], None, images[3]], "label": labels})
    with pytest.raises(UserError, match="hf:owner/name has no image in row 2 of its train part"):
        hub_arrays()
    high = stored(Image.fromarray(np.full((6, 8), 300, np.float32)), "TIFF")
    hub(train={"img": [*images[:3], high], "label": labels})
    with pytest.raises(UserError, match=r"row 3 of its train part, is damaged or not a picture .*reach from 300 to"):
        hub_arrays()


@pytest.mark.parametrize("kind", ["images", "table"])
def test_a_local_hub_dataset_is_the_same_as_its_arrays(tmp_path, monkeypatch, kind):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    labels = [0, 1] * 6
    names = datasets.ClassLabel(names=["cat", "dog"])
    if kind == "images":
        x = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
        features = datasets.Features({"image": datasets.Image(), "label": names})
        columns = {"image": [Image.fromarray(one) for one in x], "label": labels}
    else:
        x = pd.DataFrame({"a": np.arange(12.0), "b": ["u", "v", "w"] * 4})
        features = datasets.Features({"a": datasets.Value("float64"), "b": datasets.Value("string"), "label": names})
        columns = {"a": x["a"].tolist(), "b": x["b"].tolist(), "label": labels}
    (tmp_path / "local").mkdir()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "local" / "train.parquet")
    dataset = loaded(f"hf:{tmp_path / 'local'}")
    assert_same(dataset, from_arrays(x, np.array(labels), images=True if kind == "images" else None))
    assert dataset.class_names == ("cat", "dog")
