"""Recipes: every command is one that our programs accept; a small figure is run, drawn, and read back."""

import dataclasses
import itertools
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from linearized.base.errors import UserError
from linearized.data import DATASETS
from linearized.experiments import krr as kernel_fit
from linearized.experiments import train
from linearized.experiments.theory_settings import TheorySettings
from linearized.report import plots, reproduce
from linearized.report.recipes import RECIPES, SCALES, plot
from linearized.report.recipes.estimate import disk_bytes, seconds
from linearized.report.recipes.figure_recipe import Curve, FigureRecipe, Run, Scale, runs
from linearized.report.style import COLOURS, MARKERS
from linearized.settings.config import parse

ROOT = Path(__file__).parents[2]
CONFIGS = {"train": train.TrainSettings, "krr": kernel_fit.KernelFitSettings, "theory": TheorySettings}
SMALL = FigureRecipe(
    title="Digits", shows="nothing but a test", dataset="DIGITS", axis="noise_ind", metric="test_accuracy",
    curves=(
        Curve("RF", "train", {"model": "RF"}, {"laptop": {"num_units": 64}}),
        Curve("NT KRR", "krr", {"kernel": "NTK"}),
    ),
    scales={"laptop": Scale((0,), (0, 1), {"num_train": 100, "validation": 20, "num_test": 50})},
    references={"chance": 0.1},
)  # fmt: skip


@pytest.mark.parametrize("name, scale", list(itertools.product(RECIPES, SCALES)))
def test_every_command_is_accepted_and_none_is_there_twice(name, scale):
    recipe = RECIPES.load(name)
    found = runs(name, recipe, scale, recipe.dataset)
    assert len({run.command for run in found}) == len(found) > 0
    for run in found:
        made = parse(CONFIGS[run.program], run.command[4:])
        level = int(made.noise_ind)
        DATASETS.load(made.dataset).level(level)
        assert seconds(run) > 0 and disk_bytes(run) > 0
    assert {run.label for run in found} <= {curve.label for curve in recipe.curves}


def _dry(capsys, **settings) -> list[dict[str, str]]:
    """Return the flags of the commands of a dry run at laptop scale."""
    reproduce.main(reproduce.ReproduceSettings(dry_run=True, **settings))
    *commands, _ = capsys.readouterr().out.splitlines()
    return [dict(word[2:].split("=", 1) for word in shlex.split(command)[4:]) for command in commands]


def test_flags_change_the_data_of_every_run(capsys):
    before = _dry(capsys, figure="cifar2_noise", dataset="CIFAR2")
    after = _dry(
        capsys, figure="cifar2_noise", dataset="CIFAR10", values="3,14,3", seeds=2, num_train=900, num_test=70,
        validation=80,
    )  # fmt: skip
    curves = len(before) // 4  # the laptop scale has four levels and one seed
    assert len(after) == curves * 2 * 2
    same = {"dataset": "CIFAR10", "num_train": "900", "num_test": "70", "validation": "80"}
    assert all(same.items() <= flags.items() for flags in after)
    assert {(flags["noise_ind"], flags["seed"]) for flags in after} == {
        ("3", "0"),
        ("3", "1"),
        ("14", "0"),
        ("14", "1"),
    }
    models = [{key: flags.get(key) for key in ("model", "kernel", "degree")} for flags in (*before, *after)]
    assert models[:curves] == models[len(before) :][:curves]


def test_theory_measures_the_values_below_its_pool(capsys):
    found = _dry(
        capsys, figure="learning_curves", dataset="DIGITS", noise_ind=0, values="100,900,1400", seeds=1
    )  # fmt: skip
    kernels = [flags for flags in found if "sizes" in flags]
    assert len(kernels) == 3 and {(flags["num_train"], flags["sizes"]) for flags in kernels} == {
        ("1437", "100,900,1400")
    }
    assert sorted({int(flags["num_train"]) for flags in found if "sizes" not in flags}) == [100, 900, 1400]
    patches = _dry(capsys, figure="learning_curves", dataset="PATCHES", noise_ind=0, values="750,1500", seeds=1)
    assert {flags["sizes"] for flags in patches if "sizes" in flags} == {"750"}


@pytest.mark.parametrize("settings, words", [
    ({"figure": "learning_curves", "num_train": 50}, "--num_train is the axis of this figure: give --values"),
    ({"figure": "synth_kappa", "dataset": "CIFAR10"}, "This figure is of SYNTH alone: leave out --dataset"),
    ({"figure": "lazy_to_rich", "dataset": "CIFAR10"}, "leave out --dataset"),
    ({"figure": "lazy_to_rich", "num_train": 50}, "--num_train changes nothing: CNN on patches, ntk has its own"),
    ({"figure": "learning_curves", "validation": 50}, "--validation changes nothing: RFM has its own"),
    ({"figure": "fmnist_noise", "noise_ind": 3}, "--noise_ind is the axis of this figure"),
    ({"figure": "fmnist_noise", "values": "15"}, "--noise_ind 0..14"),
    ({"figure": "learning_curves", "dataset": "CIFAR10", "values": "60000", "noise_ind": 0}, "50000 train rows"),
    ({"figure": "cifar2_noise", "dataset": "PATCHES", "num_train": 2000, "values": "0"}, "PATCHES has 1500 train rows"),
    ({"figure": "double_descent", "values": "0"}, "at least 1. Received: 0"),
    ({"figure": "double_descent", "values": "1.5"}, "whole numbers"),
    ({"figure": "double_descent", "seeds": 0}, "--seeds must be"),
])  # fmt: skip
def test_changes_that_a_figure_cannot_have_are_refused(settings, words):
    with pytest.raises(UserError, match=re.escape(words)):
        reproduce.main(reproduce.ReproduceSettings(dry_run=True, **settings))


@pytest.mark.parametrize("name", RECIPES)
def test_a_stand_in_is_run_where_the_data_is_not_here(name, monkeypatch):
    recipe = RECIPES.load(name)
    if recipe.stand_in:
        found = runs(name, recipe, "paper", recipe.stand_in)
        assert {run.flags["dataset"] for run in found} == {recipe.stand_in}
        for run in runs(name, recipe, "workstation", recipe.stand_in):
            assert run.flags["num_train"] <= 1500 and run.flags.get("num_test", 0) <= 500


def test_rf_has_as_many_parameters_as_the_network():
    recipe = RECIPES.load("fmnist_noise")
    units = {run.label: run.flags.get("num_units") for run in runs("", recipe, "paper", "FMNIST")}
    assert units["NN"] == 4096 and units["RF"] == 321126


def test_what_a_figure_shows_is_said_of_its_own_dataset(monkeypatch, capsys, tmp_path):
    recipe, points = dataclasses.replace(SMALL, published=False), pd.DataFrame({"label": ["a"], "path": ["x"]})
    monkeypatch.setattr("linearized.report.recipes.plot.figure", lambda *_: plots.new_figure(2, 2)[0])
    monkeypatch.setattr(reproduce, "print_means", lambda *_: None)
    for dataset, words in (("DIGITS", "the figure shows"), ("CIFAR10", "the figure on DIGITS shows")):
        reproduce.draw(recipe, dataset, points, tmp_path, "small")
        assert f"{words}: nothing but a test" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "label"), [
    ("feature_learning_kappa", "anisotropy κ = 0.3"), ("synth_kappa", "anisotropy κ = 0.3"),
    ("synth_samples", "train rows n = 3"), ("fmnist_noise", "noise level τ = 0.6429"),
    ("nfmnist_noise", "noise threshold = 7"),
])  # fmt: skip
def test_the_axis_says_what_the_levels_are(name, label):
    recipe = RECIPES.load(name)
    assert plot._place(recipe, DATASETS.load(recipe.dataset), 3) == label


def test_a_small_figure_is_run_drawn_and_read_back(directories, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # no folder of the repository is needed
    monkeypatch.setattr(type(RECIPES), "load", lambda self, name: SMALL if self is RECIPES else _load(self, name))
    monkeypatch.setenv("LINEARIZED_STORAGE", str(tmp_path / "elsewhere"))
    config = reproduce.ReproduceSettings(dashboard=0)
    reproduce.main(config)
    said = capsys.readouterr().out
    assert "4 runs" in said and "4 of 4 done" in said and "the published figure shows: nothing but a test" in said
    figures = tmp_path / "elsewhere" / "figures"
    assert (
        len(list((tmp_path / "elsewhere" / "logs").iterdir())) == 4 and not (tmp_path / "storage" / "figures").exists()
    )
    points = pd.read_csv(figures / "fmnist_noise-laptop.csv")
    assert len(points) == 4 and (points.groupby(["label", "value"]).size() == 2).all()
    assert (points["test_accuracy"] > 0.2).all()
    for suffix in (".png", ".pdf"):
        assert (figures / f"fmnist_noise-laptop{suffix}").stat().st_size > 5000
    before = {path: path.stat().st_mtime_ns for path in directories.parent.rglob("result.json")}
    reproduce.main(dataclasses.replace(config, seeds=1))
    assert len(pd.read_csv(figures / "fmnist_noise-laptop-seeds_1.csv")) == 2
    assert before == {path: path.stat().st_mtime_ns for path in directories.parent.rglob("result.json")}


_load = type(RECIPES).load


def test_a_dry_run_prints_commands_and_an_estimate(capsys):
    reproduce.main(reproduce.ReproduceSettings(figure="synth_kappa", scale="paper", dry_run=True))
    *commands, estimate = capsys.readouterr().out.splitlines()
    assert estimate.startswith(f"{len(commands)} runs, about ") and "hours" in estimate
    assert all(shlex.split(command)[3] in CONFIGS for command in commands)


def test_an_estimate_counts_every_metric_and_iteration_of_a_feature_machine():
    flags = {"dataset": "SYNTH", "synth_n": 24_000, "synth_dim": 256, "num_train": 4800, "num_test": 4000}
    machine = {**flags, "kernel": "RFM", "iterations": 8}
    fixed, one, searched = (
        seconds(Run("", 0, 0, "krr", more))
        for more in ({**machine, "iterations": 0}, machine, {**machine, "rfm_search": True})
    )
    assert fixed == pytest.approx(seconds(Run("", 0, 0, "krr", {**flags, "kernel": "LAPLACE"})), rel=0.01)
    assert searched - fixed == pytest.approx(10 * (one - fixed)) and one > 1.5 * fixed
    sampled = seconds(Run("", 0, 0, "krr", {**machine, "rfm_sample": 100}))
    assert fixed < sampled < one
    assert (
        disk_bytes(Run("", 0, 0, "krr", machine)) < 1e6 < disk_bytes(Run("", 0, 0, "krr", {**flags, "kernel": "NTK"}))
    )


def test_curves_of_fixed_features_are_dashed():
    recipe = RECIPES.load("feature_learning_kappa")
    points = pd.DataFrame([
        {"label": curve.label, "value": value, "seed": 0, recipe.metric: 0.5, "data_n_train": 4000}
        for curve in recipe.curves for value in (0, 9)
    ])  # fmt: skip
    [axis] = plot.figure(recipe, "SYNTH", points).axes
    assert axis.get_title().splitlines()[1] == plot.FIXED
    styles = {
        label: handle.lines[0].get_linestyle() for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    learned = ("NN", "RFM, diagonal M", "RFM, full M")
    assert styles == dict.fromkeys(learned, "-") | dict.fromkeys(("NT", "RF", "NTK KRR", "LAPLACE KRR"), "--")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["feature_learning_kappa", "feature_learning_noise"])
def test_a_small_figure_of_feature_learning_is_run_and_drawn(name, directories, tmp_path, monkeypatch, capsys):
    """Digits take the place of Fashion-MNIST, which is not everywhere."""
    recipe = RECIPES.load(name)
    kappa = recipe.dataset == "SYNTH"
    shared = {"synth_dim": 16, "synth_eta": 0.5, "synth_n": 400} if kappa else {}
    shared |= {"num_train": 72, "validation": 12, "num_test": 20}
    curves = []
    for curve in recipe.curves:
        flags = {**curve.flags, "iterations": 1} if "RFM" in curve.label else curve.flags
        flags = {name: 20 if name == "rfm_sample" else value for name, value in flags.items()}
        network = {"max_cg_iters": 2, "reg_index": "0,1"} if curve.label == "NN" else {}
        sizes = {"laptop": {"num_units": 4, **network}} if curve.program == "train" else {}
        curves.append(dataclasses.replace(curve, flags=flags, sizes=sizes))
    small = dataclasses.replace(recipe, dataset="SYNTH" if kappa else "NDIGITS", curves=tuple(curves),
                                scales={"laptop": Scale((0, 6), (0,), shared)})  # fmt: skip
    monkeypatch.setattr(type(RECIPES), "load", lambda self, name: small if self is RECIPES else _load(self, name))
    reproduce.main(reproduce.ReproduceSettings(figure=name, dashboard=0, out=str(tmp_path)))
    points = pd.read_csv(tmp_path / f"{name}-laptop.csv")
    assert len(points) == 2 * len(curves) and points[recipe.metric].notna().all()
    assert points["chosen_by"].str.startswith("validation").all()
    assert f"the figure shows: {recipe.shows}" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / f"{name}-laptop.png").stat().st_size > 5000


ROWS = {"num_train": 60, "num_test": 20}
OWN = {
    "learning_curves": (Curve("NTK", "theory", {"kernel": "NTK", "draws": 2, "num_train": 60}),
                        Curve("linear", "krr", {"kernel": "POLYNOMIAL", "degree": 1})),
    "double_descent": (Curve("RF", "train", {"model": "RF", "reg_index": "0,5", "synth_dim": 10}),),
    "spectrum": (Curve("NTK", "theory", {"kernel": "NTK", "draws": 0, "num_train": 200}),
                 Curve("features", "theory", {"features": "NTK", "embedding_dim": 256, "draws": 0, "num_train": 200})),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_a_small_figure_with_predictions_is_run_and_drawn(name, directories, tmp_path, monkeypatch, capsys):
    recipe = RECIPES.load(name)
    dataset = "SPHERE" if name == "double_descent" else "DIGITS"
    values = {"num_train": (10, 15, 20), "num_units": (10, 40), "noise_ind": (0,)}[recipe.axis]
    shared = {**ROWS, "noise_ind": 5} if name == "double_descent" else {**ROWS, "noise_ind": 0}
    shared = {key: value for key, value in shared.items() if key != recipe.axis}
    small = dataclasses.replace(recipe, dataset=dataset, stand_in="", curves=OWN[name],
                                scales={"laptop": Scale(values, (0, 1), shared)})  # fmt: skip
    monkeypatch.setattr(type(RECIPES), "load", lambda self, name: small if self is RECIPES else _load(self, name))
    reproduce.main(reproduce.ReproduceSettings(figure=name, dashboard=0, out=str(tmp_path)))
    points = pd.read_csv(tmp_path / f"{name}-laptop.csv")
    expected = {"learning_curves": 2 * 3 * 2, "double_descent": 2 * 2 * 2, "spectrum": 2 * 2}[name]
    assert len(points) == expected and points[recipe.metric].notna().all()
    assert (tmp_path / f"{name}-laptop.png").stat().st_size > 5000
    assert f"mean {recipe.metric.replace('_', ' ')}" in capsys.readouterr().out


@pytest.mark.parametrize("figure", RECIPES)
def test_curves_of_a_figure_differ_in_colour_and_marker(figure):
    looks = list(zip(COLOURS, MARKERS, strict=True))
    assert len(set(COLOURS)) == len(set(MARKERS)) == len(looks) >= len(RECIPES.load(figure).curves)
