"""Arrays and data frames from Python: the same dataset as from a file, in this process and in another."""

import pickle

import numpy as np
import pandas as pd
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.data.own import memory
from linearized.experiments.krr import KernelFitSettings, run


def frame(count=80):
    random = np.random.default_rng(0)
    return pd.DataFrame({"age": random.integers(20, 60, count), "town": random.choice(["Bonn", "Ulm", "Kiel"], count),
                         "height": random.normal(size=count), "married": random.random(count) < 0.5})  # fmt: skip


def test_arrays_equal_the_same_arrays_in_a_file(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 3)), random.choice(["no", "yes"], 50)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    config = KernelFitSettings(data=str(tmp_path / "a.npz"), seed=4)
    one, other = linearized.from_arrays(x, y, seed=4), config.described().load(0, seed=4)
    for name, split in one.splits().items():
        np.testing.assert_array_equal(split.x, other.splits()[name].x)
        np.testing.assert_array_equal(split.y, other.splits()[name].y)
    assert (one.task, one.class_names) == ("binary", ("no", "yes"))


def test_a_table_is_coded_by_its_train_rows():
    table = frame()
    dataset = linearized.from_arrays(table, np.arange(80) % 2, test_fraction=0.25)
    assert dataset.dim == 2 + 3 + 2  # age and height, towns, married
    codes = dataset.train.x[:, 2:]
    assert set(np.unique(codes)) == {0, 1} and (codes[:, :3].sum(axis=1) == 1).all()
    again = dataset.preparation.inputs(table)
    row = int(np.flatnonzero((again == dataset.test.x[0]).all(axis=1))[0])
    np.testing.assert_allclose(again[row, :2], table.loc[row, ["age", "height"]].astype(float), rtol=1e-6)
    assert again[row, 2 + ["Bonn", "Kiel", "Ulm"].index(table.town[row])] == 1
    assert again[row, 5 + int(table.married[row])] == 1
    elsewhere = dataset.preparation.inputs(table[:2].assign(town="Rome"))
    assert not elsewhere[:, 2:5].any()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset.preparation)).inputs(table), again)


def test_outputs_become_labels_as_they_were_given():
    x = np.random.default_rng(0).normal(size=(60, 2))
    three = linearized.from_arrays(x, np.arange(60) % 3 * 10)
    assert three.preparation.labels(np.eye(3)).tolist() == [0, 10, 20]
    two = linearized.from_arrays(x, np.where(np.arange(60) % 2, "b", "a"))
    assert two.preparation.labels(np.array([[0.2], [0.7]])).tolist() == ["a", "b"]
    flat, columns = (linearized.from_arrays(x, target) for target in (x[:, 0], x))
    assert flat.preparation.labels(np.ones((4, 1))).shape == (4,)
    assert columns.preparation.labels(np.ones((4, 2))).shape == (4, 2)


@pytest.mark.parametrize("policy, rows", [("drop", 77), ("mean", 80)])
def test_missing_values_are_refused_dropped_or_filled_in(policy, rows):
    table, y = frame(), np.arange(80) % 2
    table.loc[[3, 40], "height"], table.loc[[7], "town"] = np.nan, None
    with pytest.raises(UserError, match=r"rows? \(.*counted from 0\), columns .*--missing=drop"):
        linearized.from_arrays(table, y)
    dataset = linearized.from_arrays(table, y, missing=policy)
    assert len(dataset.train) + len(dataset.test) == rows
    assert dataset.notes == ({"rows_dropped_missing": 3} if policy == "drop" else {})
    arrays = linearized.from_arrays(table[["age", "height"]].to_numpy(float), y, missing="mean")
    if policy == "mean":
        np.testing.assert_allclose(arrays.test.x, dataset.test.x[:, :2], rtol=1e-6)


def test_the_mean_is_that_of_the_train_rows():
    x = np.arange(40, dtype=float)[:, None].repeat(2, axis=1)
    x[5, 1] = x[35, 1] = np.nan
    dataset = linearized.from_arrays(
        x[:30], np.arange(30) % 2, x[30:], np.arange(10) % 2, missing="mean", validation=10
    )
    expected = np.delete(np.arange(20.0), 5).mean()
    assert dataset.train.x[5, 1] == dataset.test.x[5, 1] == np.float32(expected)


@pytest.mark.parametrize("y, words", [
    (np.zeros(60), "Two classes are needed"), (np.r_[np.nan, np.arange(59.0)], "labels are missing in 1 row (0;"),
    (np.arange(30), "labels of shape"), (None, "no labels"),
])  # fmt: skip
def test_labels_from_which_nothing_is_learned_are_refused(y, words):
    with pytest.raises(UserError) as caught:
        linearized.from_arrays(np.ones((60, 2)), y)
    assert words in str(caught.value)


@pytest.mark.parametrize("column, words", [
    ([f"name {row}" for row in range(80)], "no categories.*--drop_columns=extra"),
    (pd.date_range("2020-01-01", periods=80), "holds dates.*--drop_columns=extra"),
])  # fmt: skip
def test_columns_of_text_and_dates_are_refused_by_name(column, words):
    with pytest.raises(UserError, match=words):
        linearized.from_arrays(frame().assign(extra=column), np.arange(80) % 2)


def test_another_process_finds_what_was_kept(directories):
    """The Gram matrix is made by a child process, from a table with text."""
    table = frame(30)
    text = memory.register(table, np.arange(30) % 2)
    (result,) = run(KernelFitSettings(data=text, ridges="1"))
    assert result.record["data"]["n_train"] == 24
    memory._registered.clear()
    found = memory._found(text)
    pd.testing.assert_frame_equal(found.x.astype(str), table.astype(str), check_dtype=False)
    with pytest.raises(UserError, match="of another Python process"):
        memory._found("arrays:00")
