"""`linearized data --data=`: what would be loaded, in words and as a picture."""

import numpy as np
import pandas as pd
from PIL import Image

from linearized.cli.data import command


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


def test_flags_of_own_data_are_refused_without_it(capsys):
    assert command(["--out=a.png"]) == 2 and command(["--data=fmnist"]) == 2
    assert "--dataset=FMNIST" in capsys.readouterr().err
