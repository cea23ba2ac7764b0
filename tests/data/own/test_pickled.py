"""mnist.pkl.gz and its kin: the parts as they were written, by Python 2 too, and no code is run."""

import gzip
import io
import os
import pickle
import struct

import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.data.own.formats import content_digest, format_of
from linearized.data.own.readers import pickled
from linearized.settings.data_settings import DataSettings
from linearized.settings.own_settings import OwnDataSettings


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2's `str`, as the distributed mnist.pkl.gz has them."""

    def save_python2(self, text):
        content = text if isinstance(text, bytes) else text.encode()
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch = pickle._Pickler.dispatch | {bytes: save_python2, str: save_python2}


class Python2Bytes:
    """Pickles an array as NumPy did in Python 2: its content is a `str`, its functions lie in numpy.core."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        kind = np.dtype(self.array.dtype)
        state = (1, self.array.shape, kind, False, self.array.tobytes())
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state


def python2(value):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def parts(sizes=(40, 16, 12)):
    random = np.random.default_rng(0)
    return [(random.random((rows, 9), np.float32), np.arange(rows) % 4) for rows in sizes]


def load(path, **settings):
    return DataSettings(data=str(path), **settings).described().load(0)


def same(dataset, pairs, names):
    assert list(dataset.splits()) == [name for name in ("train", "validation", "test") if name in names]
    for name, (x, y) in zip(names, pairs, strict=True):
        split = dataset.splits()[name]
        order = [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in split.x]  # class by class is shuffled
        assert sorted(order) == list(range(len(x)))
        np.testing.assert_array_equal(split.y.ravel(), np.asarray(y)[order])


WRITTEN = {
    **{f"protocol {p}": lambda pairs, p=p: pickle.dumps(tuple(pairs), protocol=p) for p in range(6)},
    "lists": lambda pairs: pickle.dumps([[x, y.tolist()] for x, y in pairs]),
    "Python 2": lambda pairs: python2(tuple((Python2Bytes(x), Python2Bytes(y)) for x, y in pairs)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_three_pairs_are_train_validation_and_test_rows(tmp_path, name):
    pairs = parts()
    (tmp_path / "mnist.pkl.gz").write_bytes(gzip.compress(WRITTEN[name](pairs)))
    (tmp_path / "MNIST.PKL").write_bytes(WRITTEN[name](pairs))
    for file in ("mnist.pkl.gz", "MNIST.PKL"):
        assert format_of(str(tmp_path / file)) == "pickle"
        same(load(tmp_path / file), pairs, ["train", "validation", "test"])


def test_two_pairs_one_pair_and_names(tmp_path):
    (tmp_path / "two.pickle").write_bytes(pickle.dumps(tuple(parts((40, 12)))))
    same(load(tmp_path / "two.pickle"), parts((40, 12)), ["train", "test"])
    (pair,) = parts((40,))
    (tmp_path / "one.pkl").write_bytes(pickle.dumps(pair))
    found = load(tmp_path / "one.pkl")
    assert (len(found.train), len(found.test)) == (32, 8)
    for mine, theirs in zip(found.splits().values(), linearized.from_arrays(*pair).splits().values(), strict=True):
        np.testing.assert_array_equal(mine.x, theirs.x)
        np.testing.assert_array_equal(mine.y, theirs.y)
    (x, y), (x_test, y_test) = parts((40, 12))
    named = {b"train_images": x, b"train_labels": y.tolist(), b"x_test": x_test, b"y_test": y_test, b"about": "nothing"}
    (tmp_path / "named.pkl").write_bytes(pickle.dumps(named, protocol=2))
    same(load(tmp_path / "named.pkl"), parts((40, 12)), ["train", "test"])


def test_labels_may_be_text(tmp_path):
    (x, y), = parts((40,))  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(pickle.dumps((x, ["abcd"[label] for label in y])))
    assert load(tmp_path / "a.pkl").class_names == ("a", "b", "c", "d")


def test_the_digest_is_of_the_content(tmp_path):
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps(parts()), mtime=0))
    before = content_digest(OwnDataSettings.draft(data=str(path)))
    (tmp_path / "other.pkl.gz").write_bytes(path.read_bytes())
    assert content_digest(OwnDataSettings.draft(data=str(tmp_path / "other.pkl.gz"))) == before
    (tmp_path / "third.pkl.gz").write_bytes(gzip.compress(pickle.dumps(parts((41, 16, 12))), mtime=0))
    assert content_digest(OwnDataSettings.draft(data=str(tmp_path / "third.pkl.gz"))) != before


class Code:
    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return os.system, (f"touch {self.trap}",)


def test_code_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "trap"
    (tmp_path / "a.pkl.gz").write_bytes(gzip.compress(pickle.dumps((*parts((9, 9)), Code(trap)))))
    with pytest.raises(UserError, match=r"a\.pkl\.gz carries code \(.*system\) and was not run"):
        load(tmp_path / "a.pkl.gz")
    assert not trap.exists()


OTHER = [
    (7, "a int, and not pairs"), ("text", "a str"), ((), "a tuple of 0"), (parts() + parts(), "a list of 6"),
    (np.zeros((3, 4)), r"an array float64 \(3, 4\)"), ((np.zeros((3, 4)), np.zeros(2)), "a tuple of 2"),
    ((np.zeros(3), np.zeros(3)), "and not pairs"), ((np.zeros((3, 4)), np.float64(1)), "and not pairs"),
    ((np.zeros((3, 4)), [[1], 2, 3]), "and not pairs"), ((np.zeros((3, 4)), np.array(0)), "and not pairs"),
    ((np.array([[None, 1]]), np.zeros(1)), "and not pairs"), ({b"x": np.zeros((3, 4))}, "has no labels"),
    ({"x": 3, "y": np.zeros(3)}, "has no inputs"), ((np.zeros((3, 4), complex), np.zeros(3)), "real numbers"),
]  # fmt: skip


@pytest.mark.parametrize("value, words", OTHER)
def test_pickles_of_other_things_are_refused_in_one_line(tmp_path, value, words):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match=words) as caught:
        load(tmp_path / "a.pkl")
    assert "\n" not in str(caught.value) and str(caught.value).startswith((str(tmp_path), "a: "))


def test_damage_is_one_line(tmp_path, monkeypatch):
    whole = gzip.compress(pickle.dumps(tuple(parts())))
    path = tmp_path / "a.pkl.gz"
    for content in (b"", whole[:40], whole[:-9], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], b"x" * 99):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.pkl\.gz is damaged or not a"):
            load(path)
    path.write_bytes(whole)
    monkeypatch.setattr(pickled, "LIMIT", len(whole) + 9)
    with pytest.raises(UserError, match=r"it holds more than .* bytes"):
        pickled.PICKLE.read(str(path), OwnDataSettings.draft(data=str(path)))


def test_flat_rows_are_images_of_a_given_shape(tmp_path):
    (tmp_path / "mnist.pkl.gz").write_bytes(gzip.compress(pickle.dumps(parts())))
    dataset = load(tmp_path / "mnist.pkl.gz", image_shape="3,3")
    assert dataset.image_shape == (3, 3, 1)
    same(dataset, parts(), ["train", "validation", "test"])
