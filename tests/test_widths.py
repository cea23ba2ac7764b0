"""Every table and progress line at four widths of the terminal: nothing is wider, no number is cut, time left stays."""

import dataclasses
import re
import shlex
import types

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from kernel_gen import status
from kernel_gen.jobs.gram_job import GramJobSettings as GramConfig
from kernel_gen.jobs.pair_progress import pairs_line
from kernel_gen.jobs.runner import run as make_gram
from linearized.base.terminal import Column, layout, shell_lines
from linearized.cli import report
from linearized.cli.data import listing
from linearized.experiments import compare, finetune
from linearized.experiments.step_progress import progress_line
from linearized.experiments.table import print_levels, print_table
from linearized.launch import sweep_progress as launching
from linearized.launch.commands import CommandResult as Ended
from linearized.launch.table import print_table as print_commands
from linearized.launch.task import ProcessOutcome
from linearized.report import reproduce
from linearized.report.runs import Runs

WIDTHS = (60, 80, 100, 200)
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONG = "KERV_CNN:kervolution_kernel=gaussian:kervolution_learn=true"


@pytest.fixture(params=WIDTHS)
def width(request, monkeypatch):
    """A terminal of so many columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


class Plain:
    """What was captured, without the codes of colours."""

    def __init__(self, capsys):
        self._capsys = capsys

    def readouterr(self):
        return type(captured := self._capsys.readouterr())(*(CODES.sub("", text) for text in captured))


@pytest.fixture
def capsys(capsys):
    return Plain(capsys)


def test_a_file_has_every_column_whatever_the_width(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    print_table(record(kernel=True))
    text = capsys.readouterr().out
    assert "left out" not in text and "1235" in text and "validation accuracy" in text


def assert_fits(text, width):
    """No line is wider than the terminal, unless it is one word (a path, an address); nothing was cut."""
    assert "…" not in text
    wide = [line for line in re.split(r"[\n\r]", text) if cell_len(line.rstrip()) > width and len(line.split()) > 1]
    assert not wide


def entries(task, *, kernel):
    for index in range(20):
        entry = {"index": index, "ridge": 10.0 ** (index - 12), "diverged": index == 1, "converged": index > 2,
                 "iterations": 750 if index else 4, "residual": 1.234e-5 if index else None,
                 "message": "float32 does not hold this ridge; " * 4 if index == 3 else ""}  # fmt: skip
        for split in ("train", "validation", "test"):
            entry[f"{split}_loss"] = 1.2345e6 if index == 19 else 0.1234 + index
            entry[f"{split}_accuracy"] = None if task == "regression" else 0.9876
        if kernel:
            entry |= {"leave_one_out_loss": 0.25, "leave_one_out_accuracy": entry["test_accuracy"], "gcv": 4.2e-3,
                      "degrees_of_freedom": 1234.5678, "test_r2": 0.5, "test_relative_risk": 0.75}  # fmt: skip
        yield entry


def record(task="classes", *, kernel=False):
    made = {
        "title": "RF, N = 4096, on NFMNIST, threshold = 13, n = 60000, by lanczos and with a title that is rather long",
        "ridges": list(entries(task, kernel=kernel)), "chosen": {"position": 12, "by": "validation accuracy"},
        "seconds": 3.2, "peak_memory_gib": 1.0,
    }  # fmt: skip
    if kernel:
        made |= {
            "chosen_published": {"position": 11, "by": "test accuracy (published protocol)"}, "ridge_symbol": "ρ",
            "linear": {"test_loss": 0.31, "test_accuracy": None if task == "regression" else 0.8, "by": "gcv"},
            "data": {"name": "NFMNIST", "noise": "threshold = 13", "n_train": 50_000},
            "solver": {"name": "band", "reason": "a factor of K fits in the memory that is free, 12.3 GiB of 16 GiB"},
            "model": {"name": "NTK kernel"}, "settings": {"noise_ind": 14},
        }  # fmt: skip
    return made


@pytest.mark.parametrize("task", ["classes", "regression"])
@pytest.mark.parametrize("kernel", [False, True])
def test_table_of_ridges(task, kernel, width, capsys):
    print_table(record(task, kernel=kernel))
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert "best 12" in text and "1.000e+00" in text and "a title that is rather long" in " ".join(text.split())
    assert ("0.9876" if task == "classes" else "1.234e+06") in text
    assert ("left out" in text) is {60: True, 200: False}.get(width, "left out" in text)


def test_table_of_levels(width, capsys):
    for task in ("classes", "regression"):
        print_levels([record(task, kernel=True)] * 3)
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert "0.9876" in text and "14" in text and ("12.1234" in text)


def test_comparison(width, capsys):
    row = dict.fromkeys(compare.COLUMNS, 12345678) | {"test_accuracy": 0.9876, "memory_gib": 1.234}
    rows = [row | {"label": label} for label in ("CNN", LONG)]
    compare.print_comparison({"title": "DIGITS, noise level 0", "columns": compare.COLUMNS, "rows": rows})
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert text.count("0.9876") == 2 and "12,345,678" in text
    assert re.sub(r"[│┃\s]", "", text).count("gaussian") == 1 or LONG in text


def test_report(width, capsys, monkeypatch, tmp_path):
    command = "python -m linearized train " + " ".join(f"--a_long_flag_{i}=value_{i}" for i in range(12))
    records = [{"title": record()["title"], "command": command}, {"title": "NT", "command": "an old 'record"}]
    table = pd.DataFrame({"test_accuracy": [0.98765, np.nan], "path": ["a", "b"]})
    found = Runs(table, records, {}, [])
    monkeypatch.setattr("linearized.report.runs.find", lambda folders: found)
    monkeypatch.setattr("linearized.report.page.write_page", lambda runs, path, **about: path)
    report.main(report.ReportSettings(directory=(str(tmp_path),)))
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert "test accuracy 0.9877:" in " ".join(text.split()) and "NT:" in text
    assert shlex.split(text.replace("\\\n", " ").split("0.9877:")[1].split("NT:")[0]) == shlex.split(command)


def test_finetuning(width, capsys, monkeypatch, tmp_path):
    chosen = {f"{split}_{name}": 0.123456 for split in ("train", "validation", "test")
              for name in ("loss", "accuracy", "normalised_loss", "matthews", "f1", "pearson", "spearman")}  # fmt: skip
    counts = dict.fromkeys(("trained_parameters", "num_parameters", "original_parameters"), 123_456_789)
    kept = {"settings": {}, "model": counts, "data": {"test_rows_unlabelled": 1_234}}
    done = types.SimpleNamespace(chosen=chosen, record=kept, folder=tmp_path / "run")
    monkeypatch.setattr(finetune, "run", lambda config: done)
    monkeypatch.setattr(finetune, "draw", lambda folder: None)
    finetune.main(types.SimpleNamespace(no_model=False))
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert "123,456,789" in text and text.count("0.1235") == len(chosen) and str(tmp_path / "run") in text


def test_status(width, capsys, directories):
    settings = GramConfig(num_train=12, num_test=4, num_shards=2, shard=0)
    make_gram(settings)
    capsys.readouterr()
    shared = {field.name: getattr(settings, field.name) for field in dataclasses.fields(status.StatusSettings)
              if hasattr(settings, field.name)}  # fmt: skip
    status.main(status.StatusSettings(**shared))
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert "shard 1: missing" in text and "1 finished, 1 missing" in " ".join(text.split())


def test_listing_of_datasets(width, directories):
    text = listing(width)
    assert_fits(text, width)
    assert all(f"\n{name}" in text for name in ("DIGITS", "NFMNIST", "SYNTH"))
    assert ("what it is" in text) == (width >= 80)


def test_table_of_commands(width, capsys):
    words = ("python", "-m", "kernel_gen", f"--models={LONG}", "--num_shards=250", "--shard=7")
    print_commands(
        [Ended(words, ProcessOutcome(code, 12_345.6, ""), 3, f"storage/logs/{LONG}.log") for code in (0, 2)], 3661.0
    )
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert "code 2" in text and "1 of 2 done in 1:01:01" in text


def test_dry_run_of_a_figure(width, capsys):
    reproduce.main(reproduce.ReproduceSettings(figure="synth_samples", scale="paper", dry_run=True))
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert "python -m linearized train" in text.replace("\\\n", "") and " runs, about " in " ".join(text.split())


def test_means_of_a_figure(width, capsys):
    labels = ("NN, N = 1024", "RF, N = 4096", "NT", "NTK KRR", "RF KRR", "polynomial")
    points = [{"label": label, "value": value, "test_accuracy": np.nan if value == 3 else 0.12345 * value}
              for label in labels for value in range(8)]  # fmt: skip
    reproduce.print_means("test_accuracy", pd.DataFrame(points))
    text = capsys.readouterr().out
    assert_fits(text, width)
    assert text.count("0.864") == len(labels)


def shown(capsys):
    return capsys.readouterr().err


def test_progress_of_a_fit(width, capsys):
    with progress_line("LAMBDA_RESNET on NFMNIST, λ = 1.2e-03, by block_lanczos", 123_456) as report:
        for done in range(1, 4):
            report(done, "20 ridges left, worst residual 1.2e-03, validation accuracy 0.9876")
    text = shown(capsys)
    assert_fits(text, width)
    assert "3/123456" in text and re.search(r"(\d+:\d\d:\d\d|unknown) left", text)


def test_progress_of_a_matrix(width, capsys):
    with pairs_line("CNTK of Myrtle-10 with a long name on NPATCHES", 1_750_000_000) as rate:
        rate.found(1_000_000_000)
        rate.add(10_000)
    text = shown(capsys)
    assert_fits(text, width)
    assert "57.1%" in text and re.search(r"\d+:\d\d:\d\d left", text)


def test_progress_of_a_launch(width, capsys):
    with launching.progress_line(123_456) as show:
        show(launching.Report(done=100_000, failed=1_234, running=256, workers=256))
    text = shown(capsys)
    assert_fits(text, width)
    assert "100000 of 123456 done" in text and "1234 failed" in text and re.search(r"\d+:\d\d:\d\d left", text)


def test_columns_of_higher_rank_are_left_out_first():
    columns = [Column("a", ["1" * 10]), Column("b", ["2" * 10], 2), Column("c", ["3" * 10], 1), Column("d", ["4" * 10])]
    for width, left in ((53, {0, 1, 2, 3}), (52, {0, 2, 3}), (39, {0, 3}), (27, {0, 3}), (26, None)):
        found = layout(columns, width)
        assert found is None if left is None else set(found) == left
    assert all(widths >= 10 for widths in layout(columns, 53).values())


def test_a_command_broken_into_lines_is_the_same_command(tmp_path):
    words = ["python", "train.py", "--title=two words", *(f"--flag_{i}={'x' * i}" for i in range(30))]
    text = shell_lines(words, 60)
    assert max(map(len, text.splitlines())) <= 60
    assert shlex.split(text.replace("\\\n", "")) == words
    assert shell_lines(words[:2], 60) == "python train.py"
