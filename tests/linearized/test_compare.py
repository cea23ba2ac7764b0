"""Several models on one data set, side by side: settings of each, the table, the picture, errors of a child process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from linearized.base.errors import UserError
from linearized.experiments.compare import COLUMNS
from linearized.experiments.compare import CompareSettings as Config
from linearized.report.comparison import comparison_bars
from linearized.storage import results

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ["--num_units=4", "--num_train=60", "--num_test=30", "--max_cg_iters=3", "--loss=cross_entropy"]


def command(*flags):
    words = [sys.executable, "-m", "linearized", "compare", *flags]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=500)


def test_compare_trains_prints_and_draws(directories):
    models = ["KERV_CNN:kervolution_kernel=gaussian", "RF"]
    done = command(f"--models={','.join(models)}", *SMALL)
    assert done.returncode == 0, done.stderr
    [path] = (directories / "nn_dir").rglob("comparison.json")
    record = json.loads(path.read_text())
    assert [row["label"] for row in record["rows"]] == models
    for row in record["rows"]:
        assert row["label"] in done.stdout
        own = results.load(row["folder"])
        assert row["test_accuracy"] == own["ridges"][own["chosen"]["position"]]["test_accuracy"]
        assert f"{row['trained_parameters']:,}" in done.stdout
        assert row["examples_per_second"] > 0
        assert 0.1 < row["memory_gib"] < 20
    assert path.with_name("comparison.png").stat().st_size > 1000
    axes = comparison_bars(record).axes
    assert [axis.get_title() for axis in axes] == [COLUMNS[axis] for axis in
            ("trained_parameters", "examples_per_second", "memory_gib", "test_accuracy")]  # fmt: skip
    for axis, name in zip(axes[3:], ["test_accuracy"], strict=True):
        assert [bar.get_width() for bar in axis.patches] == [row[name] for row in record["rows"]]


@pytest.mark.slow
def test_an_error_within_a_run_is_one_line(directories):
    done = command("--models=RF,KERV_CNN:kervolution_kernel=l1:kervolution_degree=2", *SMALL)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def test_flags_for_all_reach_those_that_read_them():
    runs = Config(models="CNN,KERV_CNN,LAMBDA_RESNET:lambda_keys=8", num_units=8, kervolution_degree=2).runs()
    assert {label: run.model for label, run in runs.items()} == {
        "CNN": "CNN", "KERV_CNN": "KERV_CNN", "LAMBDA_RESNET:lambda_keys=8": "LAMBDA_RESNET"}  # fmt: skip
    cnn, kervolution, residual = runs.values()
    assert (cnn.num_units, kervolution.num_units, residual.num_units) == (8, 8, 8)
    assert (kervolution.kervolution_degree, residual.lambda_keys) == (2, 8)


@pytest.mark.parametrize("settings, word", [
    ({"models": "CNN"}, "at least two"), ({"models": "CNN,XNN"}, "Unknown"), ({"model": "NN"}, "--models"),
    ({"models": "CNN,RF:kervolution_degree=2"}, "KERV_CNN"), ({"models": "CNN,RF:nothing=2"}, "nothing"),
])  # fmt: skip
def test_bad_settings_are_refused_at_once(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**settings)
