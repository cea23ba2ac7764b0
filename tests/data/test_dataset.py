"""Dataset, its label coding, fingerprints, parts and checks."""

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.base.lists import count_or_share
from linearized.data.dataset import Dataset, Split, check, chosen_rows, fingerprint, part


def split(n, d=3, classes=10):
    return Split(np.arange(n * d, dtype=np.float32).reshape(n, d), (np.arange(n) % classes).astype(np.float32)[:, None])


def dataset(task, num_classes, rows):
    return Dataset("X", 0, rows, None, rows, task, num_classes, None, "FMNIST", "0" * 16)


def test_targets_of_classes_are_one_hot_and_centre_to_zero_sum():
    rows = split(25)
    data = dataset("classes", 10, rows)
    plain, centred = data.targets(rows), data.targets(rows, centred=True)
    assert data.num_outputs == 10
    for row, label in zip(plain, rows.y[:, 0], strict=True):
        assert row.tolist() == [float(k == label) for k in range(10)]
    np.testing.assert_allclose(centred, plain - 0.1, rtol=1e-6)
    assert centred.dtype == np.float32


def test_targets_of_one_output_are_the_labels():
    rows = split(4, classes=2)
    binary, regression = dataset("binary", 2, rows), dataset("regression", 0, rows)
    assert binary.num_outputs == regression.num_outputs == 1
    np.testing.assert_array_equal(binary.targets(rows), rows.y)
    np.testing.assert_array_equal(binary.targets(rows, centred=True), rows.y - 0.5)
    np.testing.assert_array_equal(regression.targets(rows, centred=True), rows.y)
    assert list(binary.splits()) == ["train", "test"]
    assert binary.dim == 3


@pytest.mark.parametrize("task, num_classes", [("classes", 10), ("binary", 2)])
def test_labels_of_classes_are_a_vector_of_integers(task, num_classes):
    """Stored columns (n, 1) become (n,): the argmax of a column is 0 in every row, which read as an accuracy of 1."""
    data = dataset(task, num_classes, split(25, classes=num_classes))
    for rows in data.splits().values():
        assert rows.y.shape == (25,) and rows.y.dtype == np.int64
        np.testing.assert_array_equal(rows.y, np.arange(25) % num_classes)
        with pytest.raises(ValueError, match="axis 1"):
            rows.y.argmax(axis=1)
    np.testing.assert_array_equal(data.targets(data.test), data.targets(split(25, classes=num_classes)))


def test_targets_of_regression_keep_their_columns():
    y = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    data = dataset("regression", 0, Split(np.ones((6, 3), np.float32), y))
    assert data.train.y is y
    np.testing.assert_array_equal(data.targets(data.train), y)


@pytest.mark.parametrize("labels", [np.eye(4), np.array([[0.0], [1.5], [2.0], [3.0]])])
def test_labels_that_are_no_class_numbers_are_refused(labels):
    with pytest.raises(ValueError, match="Class labels must"):
        dataset("classes", 4, Split(np.ones((4, 3), np.float32), labels.astype(np.float32)))


def test_score_is_the_metric_of_the_results():
    data = dataset("classes", 3, split(30, classes=3))
    outputs = np.random.default_rng(0).standard_normal((30, 3))
    scores = data.score("test", outputs)
    right = np.mean([row.argmax() == label for row, label in zip(outputs, data.test.y, strict=True)])
    assert scores["accuracy"] == pytest.approx(right)
    assert scores["loss"] == pytest.approx(np.square(np.eye(3)[data.test.y] - outputs).sum(axis=1).mean())
    assert scores == data.score(data.test, outputs)
    entropy = data.score("test", outputs, loss="cross_entropy")
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert entropy["loss"] == pytest.approx(-np.log(chances[np.arange(30), data.test.y]).mean())
    with pytest.raises(UserError, match="Received: 'validation'"):
        data.score("validation", outputs)
    with pytest.raises(ValueError, match=r"Received: \(30,\)"):
        data.score("test", outputs.argmax(axis=1).astype(float))  # class numbers are no outputs
    with pytest.raises(ValueError, match=r"Received: \(30, 1\)"):
        data.score("test", data.test.y[:, None].astype(float))


def test_fingerprint_sees_bytes_dtype_shape_order_and_settings():
    a = np.arange(6, dtype=np.int32)
    prints = [
        fingerprint(a),
        fingerprint(a.astype(np.int64)),
        fingerprint(a.reshape(2, 3)),
        fingerprint(a.reshape(3, 2)),
        fingerprint(a, 1),
        fingerprint(1, a),
        fingerprint(a, {"x": 1}),
        fingerprint(a + 1),
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)
    assert fingerprint(a[::2]) == fingerprint(a[::2].copy())
    assert fingerprint({"x": 1, "y": 2}) == fingerprint({"y": 2, "x": 1})


@pytest.mark.parametrize(
    "value, total, count", [(0, 10, 0), (0.0, 10, 0), (0.1, 50, 5), (0.26, 10, 3), (1, 10, 1), (9, 10, 9), (5.0, 10, 5)]
)
def test_count_or_share(value, total, count):
    assert count_or_share(value, total, "validation") == count


@pytest.mark.parametrize("value", [-1, -0.1, 1.5, float("nan"), float("inf"), 10, 11, 0.99, 0.01])
def test_count_or_share_refuses(value):
    with pytest.raises(UserError, match="--validation"):
        count_or_share(value, 10, "validation")


def test_part_takes_first_rows_or_a_seeded_random_part():
    rows = split(20)
    assert part(rows, 0).x is not None and len(part(rows, 0)) == 20
    np.testing.assert_array_equal(part(rows, 5).x, rows.x[:5])
    drawn = part(rows, 8, subset="random", seed=1)
    again, other = part(rows, 8, subset="random", seed=1), part(rows, 8, subset="random", seed=2)
    np.testing.assert_array_equal(drawn.x, again.x)
    assert not np.array_equal(drawn.x, other.x)
    chosen = (drawn.x[:, 0] / 3).astype(int)
    assert len(set(chosen)) == 8
    np.testing.assert_array_equal(drawn.y, rows.y[chosen])


def test_random_rows_are_uniform():
    counts = np.zeros(10)
    for seed in range(2000):
        counts[chosen_rows(10, 3, subset="random", seed=seed)] += 1
    assert np.all(np.abs(counts - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7))


@pytest.mark.parametrize("count, subset", [(-1, "first"), (21, "first"), (21, "random"), (3, "last")])
def test_part_refuses(count, subset):
    with pytest.raises(UserError):
        part(split(20), count, subset=subset)


def test_check_names_the_first_row_that_is_not_finite():
    rows = split(20_000)
    check(rows.x, rows.y, "file", num_classes=10)
    x = rows.x.copy()
    x[[9001, 15_000], 1] = np.nan
    with pytest.raises(UserError, match=r"file: the inputs are not finite, first in row 9001"):
        check(x, rows.y, "file")
    y = rows.y.copy()
    y[12_345] = np.inf
    with pytest.raises(UserError, match=r"labels are not finite, first in row 12345"):
        check(rows.x, y, "file")


@pytest.mark.parametrize("x, y", [((0, 3), (0, 1)), ((4,), (4, 1)), ((4, 3), (4,)), ((4, 3), (5, 1))])
def test_check_refuses_shapes(x, y):
    with pytest.raises(UserError, match="expected x of shape"):
        check(np.zeros(x), np.zeros(y), "file")


@pytest.mark.parametrize("label", [-1, 10, 0.5])
def test_check_refuses_labels_that_are_no_class(label):
    with pytest.raises(UserError, match=r"labels must be 0\.\.9"):
        check(np.zeros((2, 3)), np.array([[1], [label]]), "file", num_classes=10)
