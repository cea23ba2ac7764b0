"""Results of `linearized theory` in the page of results and in what the command prints."""

import json

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.cli import report as command
from linearized.data.loading import load_preprocessed
from linearized.experiments import theory
from linearized.experiments.theory_lines import lines
from linearized.experiments.theory_record import PoolKernel, compared
from linearized.experiments.theory_settings import TheorySettings
from linearized.report.page import write_page
from linearized.report.runs import find
from linearized.report.theory_parts import summary
from linearized.settings.config import parse
from linearized.storage import results

METRICS = ("test_accuracy", "test_loss")


@pytest.fixture(scope="module")
def made():
    """The record and the arrays of a Laplace kernel on 90 digits, with every line."""
    config = parse(TheorySettings, ["--kernel=LAPLACE", "--pool=90", "--num_test=40", "--draws=2", "--bandwidth=20"])
    dataset = load_preprocessed(config, 0)
    train, test = dataset.train.x.astype(float), dataset.test.x.astype(float)

    def gram(one):
        return np.exp(-np.linalg.norm(one[:, None] - train[None], axis=-1) / 20)

    kernel = PoolKernel(gram(train), gram(test), "input")
    record, arrays = compared(config, dataset, kernel, config.listed_sizes(90), np.array([0.01, 1.0]),
                              lines(config.gram_settings(0), dataset, 1.0))  # fmt: skip
    about = {"settings": config.to_dict(), "command": "linearized theory --kernel=LAPLACE", "seconds": 1.0}
    return {**record, **about}, arrays


def test_theory_stands_in_the_page_with_its_picture_and_in_the_table(made, saved, tmp_path):
    theory._save(saved / "theory", *made)
    record = theory.load(saved / "theory")
    text = write_page(find([saved]), tmp_path / "report.html", folders=[saved], metrics=METRICS).read_text()
    point = summary(record)
    assert point["n"] == 30 and not point["beyond"]
    assert f"{point['predicted']:.4f}" in text and f"{point['fresh']:.4f}" in text
    assert '<a href="#theory-0">' in text and text.count('id="theory-0"') == 1 and "results of theory" in text
    picture = text[text.index('<figure id="theory-0">') :]
    assert "<svg" in picture[:200] and "Hermite eigenstructure" in picture and "--kernel=LAPLACE" in picture


def test_a_folder_of_theory_alone_has_a_page_and_its_commands(made, tmp_path, capsys):
    theory._save(tmp_path / "runs" / "theory", *made)
    out = tmp_path / "report.html"
    command.main(command.ReportSettings(directory=(str(tmp_path / "runs"),), out=str(out)))
    said = " ".join(capsys.readouterr().out.split())
    assert "theory: LAPLACE on DIGITS, τ = 0, n = 30, test loss" in said and "--kernel=LAPLACE" in said
    assert "Predicted learning curves" in out.read_text() and results.collect(tmp_path).empty


def test_a_predicted_loss_without_bound_is_told_and_not_formatted(made, tmp_path, capsys):
    record, arrays = made
    endless = [{**point, "predicted": None, "other": None} for point in record["points"]]
    theory._save(tmp_path / "runs" / "theory", {**record, "points": endless}, arrays)
    out = str(tmp_path / "report.html")
    command.main(command.ReportSettings(directory=(str(tmp_path / "runs"),), out=out))
    assert "n = 30, test loss infinite:" in " ".join(capsys.readouterr().out.split())


def test_lost_arrays_leave_the_numbers(made, tmp_path):
    theory._save(tmp_path / "runs" / "theory", *made)
    (tmp_path / "runs" / "theory" / theory.ARRAYS).unlink()
    page = write_page(find([tmp_path / "runs"]), tmp_path / "report.html", folders=[tmp_path], metrics=METRICS)
    text = page.read_text()
    assert "predicted / measured" in text and "<svg" not in text[text.index('id="theory-0"') :]


def test_an_empty_folder_is_refused_still(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        find([tmp_path])


def test_lines_are_in_the_record_and_near_what_is_measured(made):
    record, arrays = made
    assert set(record["lines"]) == {"sphere", "hermite"} and json.dumps(record["lines"])
    for name, line in record["lines"].items():
        assert 0.3 < line["explained"] <= 1 and 4 < line["dimension"] < 30
        ratios = [point[f"predicted_{name}"] / point["other"] for point in record["points"]]
        assert record["agreement"][name] == [min(ratios), max(ratios)] and 0.6 < min(ratios) <= max(ratios) < 1.6
        values = arrays[f"{name}_eigenvalues"]
        assert len(values) == 90 and (np.diff(values) <= 0).all() and values.sum() < 1.2
