"""Marks of missing values in columns of numbers are missing values; categories that look like them are none."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.data.own.marks import MARKS


def table(folder, mark, *, rows=60, column="age"):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.integers(20, 60, rows), "height": random.normal(size=rows).round(3)})
    frame = frame.assign(town=random.choice(["Ulm", "Bonn"], rows), ill=random.choice(["no", "yes"], rows))
    text = frame.astype(str)
    text.loc[[3, 40], column] = mark
    text.to_csv(folder / "a.csv", index=False)
    return str(folder / "a.csv"), frame


@pytest.mark.parametrize("mark", ["?", " ? ", "-", "NA", "N/A", "n/a", "null", "None", "", ".", "--"])
@pytest.mark.parametrize("column", ["age", "height"])
def test_a_mark_among_numbers_is_a_missing_value(tmp_path, mark, column):
    text, frame = table(tmp_path, mark, column=column)
    with pytest.raises(UserError, match=rf"values are missing in .*columns {column}\. --missing=drop leaves"):
        linearized.load(text, target="ill")
    dropped = linearized.load(text, target="ill", missing="drop")
    assert len(dropped.train) + len(dropped.test) == 58 and dropped.dim == 4
    filled = linearized.load(text, target="ill", missing="mean")
    assert len(filled.train) + len(filled.test) == 60 and filled.dim == 4
    known = frame.assign(**{column: frame[column].astype(float).mask(frame.index.isin([3, 40]))})
    expected = linearized.from_arrays(known.drop(columns="ill"), frame["ill"].to_numpy(), missing="mean")
    np.testing.assert_allclose(filled.train.x, expected.train.x, rtol=1e-6)


def test_what_was_taken_for_missing_is_told(tmp_path):
    text, _frame = table(tmp_path, "?")
    notes = linearized.load(text, target="ill", missing="mean").notes
    assert notes["taken_for_missing"] == "age: '?' 2 times"


@pytest.mark.parametrize("mark", ["?", "-", "."])
def test_a_category_that_looks_like_a_mark_stays_one(tmp_path, mark):
    text, _frame = table(tmp_path, mark, column="town")
    found = linearized.load(text, target="ill")
    assert found.dim == 2 + 3 and "taken_for_missing" not in found.notes


def test_marks_among_numeric_targets_are_missing_labels(tmp_path):
    text, _frame = table(tmp_path, "?", column="height")
    with pytest.raises(UserError, match=r"labels are missing in 2 rows \(3, 40; counted from 0\)"):
        linearized.load(text, target="height")
    found = linearized.load(text, target="height", missing="drop")
    assert found.task == "regression" and len(found.train) + len(found.test) == 58


def test_further_rows_and_test_tables_follow_the_train_rows(tmp_path):
    text, frame = table(tmp_path, "?")
    found = linearized.load(text, target="ill", missing="mean").preparation
    further = frame.drop(columns="ill")[:2].assign(age=["?", "30"])
    rows = found.inputs(further)
    assert rows[1, 0] == 30 and 20 < rows[0, 0] < 60
    codes = pd.DataFrame({"code": ["3", "a", "?"] * 20, "ill": ["no", "yes"] * 30})
    codes.to_csv(tmp_path / "train.csv", index=False)
    codes.replace("a", "3").to_csv(tmp_path / "test.csv", index=False)
    both = linearized.load(f"{tmp_path}/train.csv,{tmp_path}/test.csv", target="ill")
    np.testing.assert_array_equal(both.test.x[:3], [[1, 0, 0], [1, 0, 0], [0, 1, 0]])  # 3, 3 (was a), ?
    np.testing.assert_array_equal(both.preparation.inputs(pd.DataFrame({"code": [3.0, np.nan]}))[0], [1, 0, 0])


def test_columns_without_numbers_and_frames_that_are_given_stay_as_they_are():
    frame = pd.DataFrame({"a": ["?"] * 20, "b": np.arange(20.0), "c": [1, "?"] * 10})
    before = frame.copy()
    found = linearized.from_arrays(frame, np.arange(20) % 2, missing="mean")
    pd.testing.assert_frame_equal(frame, before)
    assert found.dim == 3 and "?" in MARKS  # b, c, and the one category of a


def test_objects_that_are_all_numbers_are_numbers_and_lists_are_refused():
    y, values = np.arange(40) % 2, np.arange(40) / 4
    expected = linearized.from_arrays(pd.DataFrame({"a": values}), y)
    for kind in (float, Decimal):
        frame = pd.DataFrame({"a": np.array([kind(value) for value in values], object)})
        np.testing.assert_array_equal(linearized.from_arrays(frame, y).train.x, expected.train.x)
    codes = linearized.from_arrays(pd.DataFrame({"a": ["1", "2"] * 20}), y)  # text stays text
    assert codes.dim == 2
    with pytest.raises(UserError, match="column a holds several values per row"):
        linearized.from_arrays(pd.DataFrame({"a": [[1, 2]] * 40}), y)
