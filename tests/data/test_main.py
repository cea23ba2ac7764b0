"""`linearized data`: the list, and fetching."""

import subprocess
import sys

import pytest

from linearized import data
from linearized.base.errors import UserError
from linearized.cli.data import ShowDataSettings as Config
from linearized.cli.data import listing, main
from linearized.data import DATASETS
from linearized.data.sources import keras_cache
from linearized.settings.command import run_command


def test_list_tells_every_dataset(small_directories):
    text = listing()
    for name in data.DATASETS:
        source = data.DATASETS.load(name)
        (row,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        assert f"0..{len(source.noise_levels) - 1}" in row and source.noise_name in row and source.title in row
        assert all(f"sought: {place}" in text for place in source.find().sought)
    assert f"CIFAR10: {small_directories / 'data_dir' / 'cifar-10-batches-py'}" in text
    assert not list(small_directories.rglob("cache"))


def test_list_tells_how_to_get_what_is_missing(directories, monkeypatch, tmp_path):
    monkeypatch.setattr("linearized.data.sources.fmnist.DEBIAN_FOLDER", tmp_path / "nowhere")
    rows = {line.split()[0]: line.split()[1] for line in listing().splitlines()[1 : 1 + len(DATASETS)]}
    assert rows["FMNIST"] == rows["CIFAR2"] == "no"
    assert rows["DIGITS"] == "yes"
    assert rows["PATCHES"] == rows["SYNTH"] == "made"
    assert "apt-get install dataset-fashion-mnist" in listing()


def test_listing_imports_nothing_heavy():
    code = "import sys; from linearized.cli.data import listing; listing(); print([m for m in sys.modules if m in %r])"
    heavy = ["scipy", "sklearn", "skimage", "pandas", "h5py", "keras", "tensorflow", "PIL"]
    done = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fetch(directories, capsys):
    main(Config(fetch="PATCHES"))
    assert str(directories / "data_dir" / "photo-patches-py") in capsys.readouterr().out
    assert (directories / "data_dir" / "photo-patches-py" / "test_batch").is_file()
    main(Config(fetch="synth"))
    assert "SYNTH needs no files" in capsys.readouterr().out


def test_fetch_that_fails(directories, capsys, monkeypatch):
    def download(name):
        raise UserError(f"Keras could not download {name} (no network).")

    monkeypatch.setattr(keras_cache, "download", download)
    assert run_command(Config, "Doc.", main, ["--fetch=CIFAR2"]) == 2
    err = capsys.readouterr().err
    assert "no network" in err and "It was sought in" in err and err.count("\n") == 1


@pytest.mark.parametrize("flag, words", [("--fetch=FMNITS", "Did you mean FMNIST"), ("--get=FMNIST", "'--get'")])
def test_bad_flag(capsys, flag, words):
    assert run_command(Config, "Doc.", main, [flag]) == 2
    assert words in capsys.readouterr().err
