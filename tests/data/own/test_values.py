"""Values that rows cannot have, and what inputs are taken for images."""

import numpy as np
import pandas as pd
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.cli.data import command
from linearized.data.own.overview import overview
from linearized.settings.data_settings import DataSettings


def stored(folder, kind, bad):
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    x[[7, 41], 2] = bad
    if kind == "csv":
        pd.DataFrame(x, columns=list("abcd")).assign(town="Ulm", target=y).to_csv(folder / "a.csv", index=False)
    else:
        np.savez(folder / "a.npz", x=x, y=y)
    return str(folder / f"a.{kind}")


@pytest.mark.parametrize("missing", ["refuse", "drop", "mean"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("kind, column", [("npz", "2"), ("csv", "c")])
def test_infinite_values_are_reported_by_row_and_column_of_the_file(tmp_path, kind, column, bad, missing):
    text = stored(tmp_path, kind, bad)
    rows = {}
    for name, value in (("infinite", bad), ("missing", np.nan)):
        source = DataSettings(data=stored(tmp_path, kind, value), seed=1, missing=missing if value == bad else "refuse")
        with pytest.raises(UserError, match=f"{name}.* in .*counted from 0.*, columns {column}\\.") as caught:
            source.described().load()
        rows[name] = str(caught.value).partition("(")[2]
        rows[name] = rows[name].partition("(")[2].partition(";")[0]
    assert rows["infinite"] == rows["missing"] and set(rows["missing"].split(", ")) <= {"7", "41"}
    assert text.endswith(kind)


def test_infinite_targets_are_reported_by_row_of_the_file():
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) / 7
    y[[7, 41]] = np.inf, -np.inf
    for labels in (y, y[:, None], y.astype(object)):
        with pytest.raises(UserError, match=r"labels are infinite.* in 2 rows \(7, 41; counted from 0\)"):
            linearized.from_arrays(x, labels)


def test_the_overview_counts_rows_with_infinite_values(tmp_path, capsys):
    for kind in ("npz", "csv"):
        assert command([f"--data={stored(tmp_path, kind, np.inf)}", f"--out={tmp_path}/a.png"]) == 0
        out = capsys.readouterr().out
        counts = [
            int(word) for line in out.splitlines() if "infinite" in line for word in line.split() if word.isdigit()
        ]
        assert sum(counts) == 2 and "missing values: none" in out
    whole = DataSettings(data=stored(tmp_path, "npz", 0)).described()
    assert "infinite values: none" in overview(whole).lines


@pytest.mark.parametrize("shape, dtype, images, expected", [
    ((8, 8, 2), float, None, (8, 8, 2)), ((8, 8, 5), float, None, (8, 8, 5)), ((4, 4, 5), float, None, (4, 4, 5)),
    ((3, 3, 1), float, None, (3, 3, 1)), ((3, 8, 8), float, None, (8, 8, 3)), ((1, 6, 6), float, None, (6, 6, 1)),
    ((8, 6, 3), float, None, (8, 6, 3)), ((3, 12, 9), float, None, (12, 9, 3)), ((4, 5, 6), float, None, None),
    ((2, 8, 8), float, None, None), ((5, 5), float, None, None), ((5, 5), np.uint8, None, (5, 5, 1)),
    ((5, 5), float, True, (5, 5, 1)), ((8, 6, 2), float, True, (8, 6, 2)), ((8, 8, 2), float, True, (8, 8, 2)),
    ((8, 8, 3), float, False, None),
])  # fmt: skip
def test_images_have_any_number_of_channels(shape, dtype, images, expected):
    x = np.random.default_rng(0).integers(0, 255, (20, *shape)).astype(dtype)
    dataset = linearized.from_arrays(x[:12], np.arange(12) % 2, x[12:], np.arange(8) % 2, images=images)
    assert dataset.image_shape == expected
    first = shape[0] in (1, 3, 4) and expected == (*shape[1:], shape[0])
    rows = (np.moveaxis(x, 1, -1) if first else x).reshape(20, -1) / (255 if expected and dtype == np.uint8 else 1)
    np.testing.assert_allclose(dataset.test.x, rows[12:], rtol=1e-6)


@pytest.mark.parametrize("x", [np.ones((12, 9)), np.ones((12, 2, 2, 2, 3)), pd.DataFrame({"a": np.arange(12.0)})])
def test_what_cannot_be_images_is_refused_as_images(x):
    with pytest.raises(UserError, match=r"images are arrays \(n, h, w\) or \(n, h, w, c\). Received: a"):
        linearized.from_arrays(x, np.arange(12) % 2, images=True)


@pytest.mark.parametrize("channels", [2, 5])
def test_images_of_unusual_channels_have_a_contact_sheet(tmp_path, channels):
    x = np.random.default_rng(0).normal(size=(20, 8, 8, channels))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2)
    assert command([f"--data={tmp_path}/a.npz", f"--out={tmp_path}/a.png"]) == 0
    assert (tmp_path / "a.png").stat().st_size > 1000
