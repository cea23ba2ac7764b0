"""Tables as other programs write them: separators, decimal commas, names of rows, encodings."""

import numpy as np
import pandas as pd
import pytest

import linearized
from linearized.base.errors import UserError


def table():
    random = np.random.default_rng(0)
    return pd.DataFrame({"a": random.normal(size=40).round(4), "b": random.integers(0, 9, 40),
                         "target": random.choice(["x", "y"], 40)})  # fmt: skip


def same(path, expected):
    found = linearized.load(str(path), target="target")
    for name, split in expected.splits().items():
        np.testing.assert_allclose(found.splits()[name].x, split.x, rtol=1e-6)
        np.testing.assert_array_equal(found.splits()[name].y, split.y)


@pytest.fixture
def expected():
    frame = table()
    return linearized.from_arrays(frame[["a", "b"]], frame["target"].to_numpy())


@pytest.mark.parametrize("given", [
    {"sep": ";"}, {"sep": "|"}, {"sep": "\t"}, {"sep": ";", "decimal": ","}, {"sep": "\t", "decimal": ","},
], ids=str)  # fmt: skip
def test_separators_and_decimal_commas(tmp_path, expected, given):
    table().to_csv(tmp_path / "a.csv", index=False, **given)
    same(tmp_path / "a.csv", expected)


@pytest.mark.parametrize("index", [
    range(40), range(1, 41), np.random.default_rng(0).permutation(1000)[:40], [f"row {place}" for place in range(40)],
], ids=["from 0", "from 1", "numbers", "text"])  # fmt: skip
def test_names_of_rows_are_no_inputs(tmp_path, expected, index):
    table().set_index(pd.Index(index)).to_csv(tmp_path / "a.csv")
    same(tmp_path / "a.csv", expected)


def test_a_separator_at_the_end_of_each_line_is_no_column(tmp_path, expected):
    (tmp_path / "a.csv").write_text(table().to_csv(index=False).replace("\n", ",\n"))
    same(tmp_path / "a.csv", expected)


@pytest.mark.parametrize("values", [np.arange(40) % 3, np.arange(40) / 7])
def test_other_columns_without_a_name_are_refused(tmp_path, values):
    table().assign(c=values).rename(columns={"c": ""}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match=r"column 4 has no name\. Name it in the first line"):
        linearized.load(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused_with_what_to_do(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(table().rename(columns={"a": "größe"}).to_csv(index=False).encode(encoding))
    with pytest.raises(UserError, match=r"not a table in UTF-8 .*Save it as CSV in UTF-8\."):
        linearized.load(str(tmp_path / "a.csv"))


def test_text_with_commas_in_tables_of_semicolons_stays_text(tmp_path):
    frame = table().assign(note=["1,5", "one, two"] * 20)
    frame.to_csv(tmp_path / "a.csv", index=False, sep=";")
    assert linearized.load(str(tmp_path / "a.csv")).dim == 2 + 2


def test_a_file_of_another_format_says_how_to_save_it(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"of no known format\. Save a table as \.csv, arrays as \.npz\."):
        linearized.load(str(tmp_path / "a.xlsx"))
