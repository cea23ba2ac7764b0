import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset, Split


def dataset_of(task, labels, classes):
    split = Split(np.zeros((len(labels), 2), np.float32), np.asarray(labels, np.float32)[:, None])
    return Dataset("X", 0, split, None, split, task, classes, None, "FMNIST", "0" * 16)


def test_classes_against_loops():
    random = np.random.default_rng(0)
    labels, outputs = random.integers(0, 3, 40), random.normal(size=(40, 3))
    dataset = dataset_of("classes", labels, 3)
    square = dataset.score(dataset.test, outputs)
    entropy = dataset.score(dataset.test, outputs, loss="cross_entropy")
    one_hot = np.eye(3)[labels]
    assert square["loss"] == pytest.approx(
        np.mean([((y - f) ** 2).sum() for y, f in zip(one_hot, outputs, strict=True)])
    )
    assert entropy["loss"] == pytest.approx(
        -np.mean([np.log(np.exp(f[y]) / np.exp(f).sum()) for y, f in zip(labels, outputs, strict=True)])
    )
    right = np.mean([f.argmax() == y for y, f in zip(labels, outputs, strict=True)])
    assert square["accuracy"] == entropy["accuracy"] == pytest.approx(right)


def test_binary_thresholds_at_a_half_and_logits_at_zero():
    dataset = dataset_of("binary", [0, 0, 1, 1], 2)
    outputs = np.array([[0.2], [0.7], [0.4], [0.9]])
    assert dataset.score(dataset.test, outputs)["accuracy"] == 0.5
    entropy = dataset.score(dataset.test, outputs, loss="cross_entropy")
    chance = 1 / (1 + np.exp(-outputs[:, 0]))
    assert entropy["accuracy"] == 0.5
    assert entropy["loss"] == pytest.approx(-np.mean(np.log([1 - chance[0], 1 - chance[1], chance[2], chance[3]])))


def test_the_best_constant_has_normalised_loss_one():
    labels = np.array([1.0, 2.0, 6.0])
    dataset = dataset_of("regression", labels, 0)
    scores = dataset.score(dataset.test, np.full((3, 1), labels.mean()))
    assert scores["normalised_loss"] == pytest.approx(1.0)
    assert scores["accuracy"] is None


def test_nan_is_refused():
    dataset = dataset_of("regression", [0.0, 1.0], 0)
    with pytest.raises(UserError, match="not finite"):
        dataset.score(dataset.test, np.array([[0.0], [np.nan]]))
