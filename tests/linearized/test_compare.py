"""Several models on one data set, side by side: settings of each, the table, the picture, errors of a child process."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from linearized.base.errors import UserError
from linearized.experiments import compare_models
from linearized.experiments.compare import COLUMNS
from linearized.experiments.compare import CompareSettings as Config
from linearized.experiments.compare_table import notes, summary
from linearized.experiments.train import TrainSettings
from linearized.report.comparison_page import write_comparison_page
from linearized.report.comparison_plots import NOTE, comparison_bars
from linearized.settings.config import parse
from linearized.storage import results

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ["--num_units=4", "--num_train=60", "--num_test=30", "--max_cg_iters=3", "--loss=cross_entropy"]


def named(*models, **values):
    """Rows of a comparison with these labels, trained to their end unless `values` says else."""
    row = dict.fromkeys(COLUMNS) | {"seconds": 2.0, "trained_to_end": "yes", "flaw": "", "folder": None}
    return [row | {"label": label} | values for label in models]


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
    assert path.with_name("comparison.html").read_text().count("<details id=") == 2
    axes = comparison_bars(record).axes
    names = ("test_accuracy", "seconds", "memory_gib", "trained_parameters", "examples_per_second")
    assert [axis.get_title() for axis in axes] == [COLUMNS[name] for name in names]
    for axis, name in zip(axes[1:4], names[1:4], strict=True):
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
    ({"models": "CNN,RF", "validation": 0.0}, "validation rows"),
])  # fmt: skip
def test_bad_settings_are_refused_at_once(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**settings)


def test_a_flag_given_with_its_default_value_reaches_the_networks():
    given = parse(Config, ["--models=NN,CNN", "--learning_rate=0.001", "--schedule=published", "--max_cg_iters=750"])
    for run in given.runs().values():
        assert (run.learning_rate, run.schedule, run.max_cg_iters) == (0.001, "published", 750)
    budget = Config(models="NN,CNN").runs()
    assert (budget["NN"].learning_rate, budget["CNN"].learning_rate, budget["CNN"].schedule) == (0.01, 0.003, "cosine")


@pytest.mark.parametrize("ridges, chosen", [((1e-3,), "0"), ((1e-3, 1.0), "0"), ((1e-3, 1e-2, 0.1), "0,1")])
def test_ridges_are_those_of_the_models_own_grid(ridges, chosen, monkeypatch):
    own = dataclasses.replace(compare_models.declared(TrainSettings.draft(model="NN")), ridges=ridges)
    monkeypatch.setattr(compare_models, "declared", lambda config: own)
    assert compare_models.budget(TrainSettings.draft(model="NN"))["reg_index"] == chosen


def test_ridges_of_published_grids():
    runs = Config(models="NN,CNN").runs()
    assert (runs["NN"].reg_index, runs["CNN"].reg_index) == ("0,9", "0,4")  # of 20 and of 10


@pytest.mark.parametrize("flags, epochs, batch", [
    ({}, 60, 64), ({"num_train": 320}, 250, 64), ({"dataset": "FMNIST"}, 30, 256),
    ({"dataset": "FMNIST", "num_train": 5000}, 60, 64), ({"dataset": "FMNIST", "validation": 100.0}, 30, 256),
])  # fmt: skip
def test_the_budget_follows_the_number_of_rows(flags, epochs, batch):
    run = Config(models="NN,RF", **flags).runs()["NN"]
    assert (run.max_cg_iters, run.max_batch_size) == (epochs, batch)
    if flags.get("num_train") == 320:  # 256 rows to train on are 4 batches
        assert epochs * 4 >= compare_models.LEAST_STEPS


def test_tables_of_ones_own_are_standardised_unless_asked_otherwise():
    own = {"models": "RF,krr:NTK,linear", "data": "sklearn:wine"}
    config = Config(**own)
    assert {run.preprocess for run in config.runs().values() if run} == {"standard"} == {config.rows(0).preprocess}
    assert {run.preprocess for run in Config(**own, preprocess="none").runs().values() if run} == {"none"}
    assert Config(models="RF,NN").runs()["RF"].preprocess == "none"
    assert Config(models="RF,NN", data="sklearn:digits").runs()["RF"].preprocess == "none"  # images


def test_the_key_is_that_of_all_runs():
    def key(**values):
        return Config(**{"models": "KERV_CNN,NN", **values}).key()

    assert len({key(), key(kervolution_degree=2), key(seeds=2), key(models="KERV_CNN,CNN"), key(num_train=99)}) == 5
    assert key(exp_name="other") == key()


def test_one_dot_per_seed_and_open_dots_for_what_is_not_trained_to_its_end():
    rows = [*named("RF", test_accuracy=0.9), *named("RF", test_accuracy=0.92)]
    rows += named("NN", test_accuracy=0.95, trained_to_end="NO")
    axis = comparison_bars({"title": "", "columns": COLUMNS, "rows": rows}).axes[0]
    full, opened = [line for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert full.get_xydata().tolist() == [[0.9, 0.0], [0.92, 0.0]] and full.get_markerfacecolor() != "none"
    assert opened.get_xydata().tolist() == [[0.95, 1.0]] and opened.get_markerfacecolor() == "none"
    assert axis.get_xlabel() == NOTE and [text.get_text() for text in axis.texts] == ["0.91 ± 0.014", "0.95"]
    assert axis.get_xlim()[0] > 0.85  # differences are seen


def test_regression_is_compared_by_its_r2():
    rows = named("RF", "linear", test_loss=3000.0, test_r2=0.45)
    record = {"title": "", "columns": COLUMNS, "rows": rows}
    assert comparison_bars(record).axes[0].get_title() == "test R²"
    assert [column.title for column in summary(record)] == [
        "model", "test R²", "test loss", "trained to its end", "seconds"]  # fmt: skip


def test_a_kernel_that_was_there_is_told():
    [note] = notes(named("krr:NTK", kernel_found=True))
    assert "without those of the kernel's matrix" in note and "krr:NTK" in note
    assert notes(named("krr:NTK", kernel_found=False)) == []


def test_ridges_at_an_end_of_their_grid_are_marked_and_named_with_their_seeds():
    rows = named("RF", ridge=1e-8, test_accuracy=0.9, seed=0, edge="smallest")
    rows += named("RF", ridge=2e-8, test_accuracy=0.9, seed=1, edge="") + named("NN", ridge=3.0, seed=0, edge="largest")
    rows += named("NT", ridge=4.0, seed=0, edge="")
    [note] = notes(rows)
    assert note.startswith("* The ridge is at an end of its grid")
    assert "RF (the smallest for seed 0), NN (the largest). " in note and "NT" not in note
    [ridges] = [column for column in summary({"columns": COLUMNS, "rows": rows}) if column.title == "ridge"]
    assert ridges.cells == ["1.5e-08 *", "3 *", "4"]
    assert notes(named("RF", ridge=1.0)) == []  # of a comparison that was made before ends were kept


def test_the_page_holds_every_model_and_run(tmp_path):
    rows = named("RF<b>", test_accuracy=0.9, seed=0) + named("RF<b>", test_accuracy=0.92, seed=1)
    rows += named("NN", test_accuracy=0.95, seed=0, trained_to_end="NO", loss_change=5.0, ridge=1.0, edge="largest")
    record = {
        "title": "patients",
        "columns": COLUMNS,
        "rows": rows,
        "command": "linearized compare --data=patients.csv",
    }
    text = write_comparison_page(record, tmp_path / "page.html").read_text()
    assert text.count("RF&lt;b&gt;") >= 3 and "<b>" not in text
    assert "0.91 ± 0.014" in text and "Not trained to their end: NN" in text and record["command"] in text
    assert "1 *" in text and "an end of its grid, and a better one may lie beyond: NN (the largest)" in text
    assert "default-src 'none'" in text and "<svg" in text
