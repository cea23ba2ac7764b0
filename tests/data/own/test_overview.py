"""`linearized data --data=`: what would be loaded, in words and as a picture."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from linearized.cli.data import command
from linearized.data.own.overview import overview
from linearized.settings.data_settings import DataSettings


def test_a_table_is_described_with_missing_values_and_repeated_rows(tmp_path, capsys):
    table = pd.DataFrame({"age": [30.0, 40.0] * 20, "town": ["Ulm", "Kiel"] * 20, "ill": ["no", "yes"] * 20})
    table.loc[4, "age"] = np.nan
    table.to_csv(tmp_path / "a.csv", index=False)
    assert command([f"--data={tmp_path}/a.csv", "--target=ill", f"--out={tmp_path}/a.png", "--test_fraction=0.25"]) == 0
    out = capsys.readouterr().out
    assert "a: 30 train, 10 test rows (divided by --seed)" in out and "2 classes (no: 20, yes: 20)" in out
    assert "missing values: 1 in" in out and "distinct test rows that are train rows too: 2" in out
    assert Image.open(tmp_path / "a.png").size[0] > 300


def test_images_become_a_contact_sheet(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.arange(40) % 4)
    assert command([f"--data={tmp_path}/a.npz", f"--out={tmp_path}/sheet.png"]) == 0
    assert "a row: 8 x 8 x 1 images" in capsys.readouterr().out
    width, height = Image.open(tmp_path / "sheet.png").size
    assert width > height > 300  # eight images beside each other, four classes


@pytest.mark.parametrize("noise, flags, expected", [
    ("gaussian", ["--noise_levels=0,5"], "Gaussian noise, σ = 5 (--noise_ind=1 of 0..1)"),
    ("high_frequency", [], "noise in high frequencies, τ = 0.214286 (--noise_ind=1 of 0..14)"),
    ("label", ["--noise_levels=0,1"], "wrong labels, label noise = 1 (--noise_ind=1 of 0..1): "),
])  # fmt: skip
def test_the_overview_shows_the_rows_after_the_noise(tmp_path, capsys, noise, flags, expected):
    images, y = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "a.npz", x=images, y=y)
    given = {"data": str(tmp_path / "a.npz"), "noise": noise}
    if flags:
        given["noise_levels"] = flags[0].partition("=")[2]
    source = DataSettings(**given).described()
    loaded, seen = source.load(1), overview(source, noise_ind=1)
    for label in range(3):
        rows = loaded.train.x[loaded.train.y == label][:8]
        np.testing.assert_allclose(seen.images[label, : len(rows)], rows, rtol=1e-6)
    plain = overview(DataSettings(data=given["data"]).described())
    assert not np.array_equal(plain.images, seen.images)
    words = [f"--data={tmp_path}/a.npz", f"--noise={noise}", *flags, f"--out={tmp_path}/a.png"]
    pictures = []
    for level in (0, 1):
        assert command([*words, f"--noise_ind={level}"]) == 0
        pictures.append((tmp_path / "a.png").read_bytes())
    assert f"noise: {expected}" in capsys.readouterr().out and pictures[0] != pictures[1]
    assert command([*words, "--noise_ind=99"]) == 2 and "Received: 99" in capsys.readouterr().err
    assert command([f"--data={tmp_path}/a.npz", "--noise_ind=1"]) == 2
    assert "--noise_ind is read with --noise" in capsys.readouterr().err


def test_the_overview_of_a_table_has_its_columns_after_the_noise(tmp_path):
    frame = pd.DataFrame({"age": np.arange(60.0), "size": np.arange(60.0) ** 2, "ill": ["no", "yes"] * 30})
    frame.to_csv(tmp_path / "a.csv", index=False)
    given = {"data": str(tmp_path / "a.csv"), "target": "ill", "noise": "gaussian", "noise_levels": "0,100"}
    source = DataSettings(**given).described()
    clean, noisy = (overview(source, noise_ind=level).columns for level in (0, 1))
    assert [one.name for one in noisy] == ["age", "size"] and clean[0].values != noisy[0].values
    low, high = source.load(1).train.x[:, 0].min(), source.load(1).train.x[:, 0].max()
    assert noisy[0].values.startswith(f"{low:.4g} to {high:.4g}")


def test_flags_of_own_data_are_refused_without_it(capsys):
    assert command(["--out=a.png"]) == 2 and command(["--data=fmnist"]) == 2
    assert "--dataset=FMNIST" in capsys.readouterr().err
