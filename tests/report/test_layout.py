"""The layout of every picture of one's own results: nothing is cut, nothing overlaps, every legend entry is seen.

Pictures are laid out as they are written to a file, over sets of results of one to three models, one or more noise
levels and numbers of train rows, long names, classes and regression, and ridges that diverged or were not solved.
"""

import inspect
import itertools
import types
import warnings

import matplotlib.figure
import matplotlib.text
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from linearized.learning_theory.random_features import sphere_error
from linearized.report import plots
from linearized.report.comparison_plots import _wrapped, comparison_bars
from linearized.report.embedding_plots import embedding_curves
from linearized.report.recipes import RECIPES, tangent_figure, theory_figure
from linearized.report.recipes.plot import figure as recipe_figure
from linearized.report.style import wrapped_title
from linearized.report.tangent_plots import measured

LONG = "KERV_CNN, kernel = gaussian with a learned width and a bias inside, rate = 0.00123, n = 60,000, by validation"


def laid_out(figure, smallest=60):
    """Lay the figure out, with warnings as errors, and check it; gives the figure. `smallest`: pixels of an axis."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas.draw()
    renderer, pixels = canvas.get_renderer(), np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    width, height = figure.bbox.size
    assert width < 1900 and height < 2400
    boxes = []
    for text in figure.findobj(lambda one: isinstance(one, matplotlib.text.Text) and one.get_visible()):
        if not text.get_text().strip() or _is_hidden_tick(text, figure, renderer):
            continue
        box = text.get_window_extent(renderer)
        assert box.x0 > -3 and box.y0 > -3 and box.x1 < width + 3 and box.y1 < height + 3, text.get_text()
        boxes.append((text.get_text(), box))
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert not (wide > 2 and high > 2), f"{one!r} overlaps {other!r}"
    for axis in (axis for axis in figure.axes if axis.get_label() != "<colorbar>"):
        box = axis.get_window_extent(renderer)
        assert box.width > min(110, 1.8 * smallest) and box.height > smallest, "an axis has collapsed"
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert box.x0 > -3 and box.y0 > -3 and box.x1 < width + 3
        for axis in figure.axes:
            inside = axis.get_tightbbox(renderer)
            assert min(box.y1, inside.y1) - max(box.y0, inside.y0) < 2, "the legend lies over an axis"
        assert len(legend.legend_handles) == len(legend.get_texts()) > 0
        for text in legend.get_texts():
            name = text.get_window_extent(renderer)
            left = int(name.x0 - 2.6 * text.get_fontsize() * figure.dpi / 72)
            handle = pixels[int(name.y0) : int(name.y1), max(left, 0) : int(name.x0) - 2]
            assert (handle.min(axis=2) < 200).sum() > 8, f"{text.get_text()!r} has no line beside it"
    return figure


def _is_hidden_tick(text, figure, renderer):
    """Tick labels outside the view limits exist, but are not drawn."""
    for axis in figure.axes:
        for ticks in (axis.xaxis, axis.yaxis):
            if any(text in (tick.label1, tick.label2) for tick in [*ticks.get_major_ticks(), *ticks.get_minor_ticks()]):
                shown = [tick for tick in ticks._update_ticks() if text in (tick.label1, tick.label2)]
                return not shown
    return False


def table(models, levels, sizes, task, *, seeds=1, diverged=False, dataset="NFMNIST"):
    rows = []
    for place, model in enumerate(models):
        for level, seed in itertools.product(range(levels), range(seeds)):
            good = 1.0 - 0.07 * level - 0.02 * place - 0.01 * seed
            rows.append({
                "dataset": dataset, "model": model, "noise_ind": level, "data_n_train": sizes[place % len(sizes)],
                "test_accuracy": None if task == "regression" else good, "test_loss": 2.0 - good, "seed": seed,
                "diverged": diverged and place == 0 and level == 0,
            })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("task", ["classes", "regression"])
@pytest.mark.parametrize("sizes", [(10_000,), (2_000, 60_000)])
@pytest.mark.parametrize("levels", [1, 6])
@pytest.mark.parametrize("models", [("RF",), ("RF", "NN", "NT"), (LONG, LONG.replace("gaussian", "sigmoid"), "RF")])
def test_metric_against_noise(models, levels, sizes, task, narrow):
    metric = "test_loss" if task == "regression" else "test_accuracy"
    made = table(models, levels, sizes, task, seeds=2, diverged=len(models) > 1)
    figure = laid_out(plots.noise_curves(made, metric=metric, narrow=narrow))
    axis = figure.axes[0]
    words = " ".join([axis.get_title(), *(text.get_text() for text in figure.findobj(matplotlib.text.Text))])
    for size in set(sizes[: len(models)]):
        assert f"n = {size:,}" in " ".join(words.split())
    if metric == "test_accuracy":
        high = axis.get_xlim()[1] if levels == 1 else axis.get_ylim()[1]
        assert high <= 1.0
    if levels == 1:
        assert not figure.legends and len(axis.get_yticks()) == len(models) - (len(models) > 1)
    assert ("1 run" in words or "2 runs that diverged" in words) == (len(models) > 1)


def test_many_lines_and_datasets():
    many = [f"RF, N = {2**i}" for i in range(12)]
    figure = laid_out(plots.noise_curves(table(many, 4, (100,), "classes")))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == many  # by number, 2 before 1024
    figure = laid_out(plots.noise_curves(table(many, 1, (100,), "classes")))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == many
    sets = [table(("RF", "NN"), 1 + place % 2 * 3, (100, 200), "classes", dataset=name)
            for place, name in enumerate(("CIFAR2", "DIGITS", "FMNIST", "NFMNIST"))]  # fmt: skip
    laid_out(plots.noise_curves(pd.concat(sets)))


def record(ridges, task, *, kernel=False, trouble="", title="RF, N = 4096, on NFMNIST, threshold = 13, n = 10000"):
    def entry(index):
        row = {"index": index, "ridge": 10.0 ** (index - 5), "converged": True, "diverged": False, "iterations": 9}
        for split in ("train", "validation", "test"):
            row[f"{split}_loss"] = 0.2 + 0.1 * abs(index - 2)
            row[f"{split}_accuracy"] = None if task == "regression" else 1.0 - 0.1 * abs(index - 2) % 1
        if kernel:
            row |= {"gcv": 0.01 * (index + 1), "degrees_of_freedom": 100.0 / (index + 1), "leave_one_out_loss": 0.4,
                    "leave_one_out_accuracy": row["test_accuracy"]}  # fmt: skip
            if index > 2:  # smaller ridges are below what the precision resolves
                row |= {"predicted_loss": 0.3, "predicted_by_gcv": 0.25, "predicted_error": 0.02}
        if trouble == "diverged" and index == 0:
            row |= {"converged": False, "diverged": True, "test_loss": 3e30, "train_loss": 2e30}
        if trouble == "not solved" and index == 0:
            row |= {"converged": False, "test_loss": None, "test_accuracy": None, "train_loss": None}
        return row

    position = min(2, ridges - 1)
    made = {
        "title": title, "settings": {"loss": "square"}, "ridges": [entry(index) for index in range(ridges)],
        "chosen": {"position": position, "index": position, "by": "test accuracy (published protocol)"},
        "solver": {"name": "sgd", "step": "epoch", "history": "train loss with penalty"},
    }  # fmt: skip
    if kernel:
        made |= {"ridge_symbol": "ρ", "chosen_published": {"position": 0, "by": "generalised cross-validation"}}
    return made


@pytest.mark.parametrize("task", ["classes", "regression"])
@pytest.mark.parametrize("ridges", [1, 2, 20])
@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("trouble", ["", "diverged", "not solved"])
def test_ridge_curves(ridges, task, kernel, trouble):
    if ridges == 1 and trouble == "not solved":
        pytest.skip("a run of no solved ridge has no result")
    figure = laid_out(plots.ridge_curves(record(ridges, task, kernel=kernel, trouble=trouble)))
    if ridges == 1:
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert names == ["train", "validation", *(["leave-one-out"] if kernel else []), "test"]
        assert not figure.legends
    if task == "classes" and ridges > 1:
        assert figure.axes[1].get_ylim()[1] <= 1.0


def test_long_titles_and_narrow_panels():
    made = record(8, "classes", kernel=True, title=LONG + " " + LONG)
    laid_out(plots.ridge_curves(made))
    for panel in ("loss", "accuracy", "selection"):
        laid_out(plots.ridge_curves(made, [panel], narrow=True))
    histories = {f"history/{index:03d}": np.geomspace(1, 1e-3, 30) for index in range(8)}
    laid_out(plots.training_curves(made, histories))
    laid_out(plots.training_curves(made, histories, narrow=True))


@pytest.mark.parametrize("ridges", [1, 3, 20])
def test_training_pictures_have_the_validation_loss(ridges):
    history = {f"history/{index:03d}": np.geomspace(1, 0.1, 12) for index in range(ridges)}
    history |= {f"history/{index:03d}_validation": np.geomspace(2, 0.5, 12) for index in range(ridges)}
    figure = laid_out(plots.training_curves(record(ridges, "classes"), history))
    dashed = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert len(dashed) == ridges
    np.testing.assert_allclose(dashed[0].get_ydata(), history["history/000_validation"])
    assert any("validation loss" in text.get_text() for text in figure.legends[0].get_texts())


def test_training_picture_of_a_fine_tuned_model():
    history = {"history/loss": np.geomspace(1, 0.1, 5), "history/validation_loss": np.geomspace(2, 0.5, 5)}
    made = record(1, "classes") | {"title": LONG}
    made["ridges"][0]["ridge"] = 0.0
    figure = laid_out(plots.training_curves(made, history))
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [5, 5]
    laid_out(plots.ridge_curves(made))
    laid_out(plots.training_curves(made, {"history/loss": np.ones(1)}))


def test_a_diverged_ridge_stands_at_the_edge_and_leaves_the_scale_to_the_others():
    figure = laid_out(plots.ridge_curves(record(8, "classes", trouble="diverged")))
    for axis, height in zip(figure.axes, (0.97, 0.03), strict=True):
        [cross] = [line for line in axis.get_lines() if line.get_label() == "diverged"]
        assert list(cross.get_xdata()) == [1e-5] and list(cross.get_ydata()) == [height]
    assert figure.axes[0].get_ylim()[1] < 2  # the diverged loss is 3e30, the others are below 0.7
    history = {"history/000": np.array([0.5, 2.0, 1e8, 1e30]), "history/001": np.linspace(0.8, 0.3, 9)}
    axis = laid_out(plots.training_curves(record(2, "classes", trouble="diverged"), history)).axes[0]
    assert axis.get_ylim()[1] == pytest.approx(8.0)
    alone = {"history/000": history["history/000"]}
    axis = laid_out(plots.training_curves(record(1, "classes", trouble="diverged"), alone)).axes[0]
    assert axis.get_ylim()[1] > 1e30


def test_labels_of_models_are_broken_between_words():
    long = "SNNK_MLP:snnk_features=2048:snnk_variance_reduction=orthogonal"
    lines = _wrapped(long, 26).split("\n")
    assert "".join(lines) == long and max(map(len, lines)) <= 26
    assert all(line[-1] in ":=,_" for line in lines[:-1])
    assert _wrapped("CNN", 26) == "CNN"


@pytest.mark.parametrize("labels", [("CNN", "KERV_CNN"), ("CNN", "KERV_CNN:kervolution_kernel=gaussian", "SNNK_MLP")])
def test_comparison(labels):
    columns = {"trained_parameters": "trained parameters", "examples_per_second": "examples / s",
               "memory_gib": "peak memory, GiB", "test_accuracy": "test accuracy"}  # fmt: skip
    row = {"trained_parameters": 12_345_678, "examples_per_second": 12_345.6, "memory_gib": 1.234}
    rows = [row | {"label": label, "test_accuracy": None if place else 0.9876} for place, label in enumerate(labels)]
    laid_out(comparison_bars({"title": "DIGITS, noise level 0", "columns": columns, "rows": rows}))


def test_embeddings_grams_and_solvers():
    dims = [{"dim": dim, "method": method, "error": 1 / dim} for method in ("random features", "sketch of degree 8",
            "sketch of degree 16", "TensorSRHT", "another") for dim in (64, 256, 1024)]  # fmt: skip
    rows = [{"n": n, "way": way, "cpu": n / 1e3} for way in ("exact kernel, Cholesky", "features") for n in (100, 1000)]
    degrees = [{"degree": degree, "error": 10.0**-degree} for degree in range(2, 7)]
    laid_out(embedding_curves({"degree": degrees, "dim": dims, "rows": rows}))
    x = np.random.default_rng(0).standard_normal((30, 50))
    grams = {f"CNTK of Myrtle-{depth} with a long name": x @ x.T + np.eye(30) for depth in range(2)}
    laid_out(plots.gram_matrices(grams, np.arange(30) % 3))
    laid_out(plots.gram_spectra({f"{name}, {i}": gram for name, gram in grams.items() for i in range(5)}))
    histories = {name: {10.0**i: np.geomspace(1, 1e-6, 9) for i in range(9)} for name in ("cg", "block_lanczos")}
    laid_out(plots.residual_curves(histories))


def levels(count, width=64, rows=6):
    random = np.random.default_rng(0)
    return {f"κ = {place / 10}": (place + 1) * random.random((rows, width)) for place in range(count)}


def solved(shift):
    return [types.SimpleNamespace(ridge=10.0**index, iterations=100 // (index + 1), converged=index > 1,
                                  residual=10.0 ** -(5 + (index + shift) % 3)) for index in range(9)]  # fmt: skip


def compared(count, ridges=8):
    return {f"{LONG}, run {place}" if place else "NN": record(ridges, "classes", kernel=bool(place % 2)) | {
        "data": {"n_train": 50}} for place in range(count)}  # fmt: skip


def tangent_run(units=64, epochs=(0, 1, 10, 100), task="classes", layers=("hidden_1", "readout"), infinite=True):
    """A record of a run with measurements of its tangent kernel."""

    def entry(place, epoch):
        scores = {}
        for at, who in enumerate(("network", "linearization", "linearization_offset", "last_layer")):
            scores |= {f"{who}_accuracy": 0.5 + 0.1 * place + 0.02 * at if task == "classes" else None,
                       f"{who}_loss": 0.9 - 0.1 * place - 0.03 * at}  # fmt: skip
        moved = {"distance": 0.1 * place, "alignment": 1 - 0.1 * place, "features_alignment": 1 - 0.2 * place}
        compared = {f"{name}_{'from' if name == 'distance' else 'with'}_{other}": value for name, value in moved.items()
                    for other in ("start", "previous")}  # fmt: skip
        return {
            "epoch": epoch,
            "label_alignment": 0.2 + 0.1 * place,
            "effective_rank": 20.0 + place,
            **scores,
            **compared,
            "weight_change": {layer: 0.3 * place * (at + 1) for at, layer in enumerate(layers)},
        }

    about = {"kernel": "NTK2", "accuracy": 0.7 if task == "classes" else None, "loss": 0.5} if infinite else None
    return {"title": f"NN, N = {units}, on FMNIST, τ = 0, n = 400", "settings": {"model": "NN", "num_units": units},
            "tangents": {"rows": {"train": 200, "test": 100}, "infinite_width": about,
                         "epochs": [entry(place, epoch) for place, epoch in enumerate(epochs)]}}  # fmt: skip


RIDGES = np.geomspace(1e-3, 1e3, 9)
DIRECT = {"cg": {1.0: np.geomspace(1, 1e-6, 9), 10.0: np.geomspace(1, 1e-6, 5)}, "cholesky": {1.0: np.array([1e-12])}}
DRAWN = {
    "images": lambda: plots.noisy_images(levels(4), (8, 8, 1)),
    "images of a long level": lambda: plots.noisy_images({"threshold = 13 of 28": np.ones((6, 48))}, (4, 4, 3)),
    "spectra": lambda: plots.frequency_spectra(levels(4), (8, 8, 1)),
    "spectra of 15 levels": lambda: plots.frequency_spectra(levels(15), (8, 8, 1)),
    "spectrum of white noise": lambda: plots.frequency_spectra(levels(1), (8, 8, 1)),
    "coordinates": lambda: plots.coordinate_scales(levels(10), 8),
    "coordinates of one level": lambda: plots.coordinate_scales(levels(1), 8),
    "parts of labels": lambda: plots.label_parts(levels(4, 3, 50)),
    "parts of labels of 10 levels": lambda: plots.label_parts(levels(10, 3, 50)),
    "solvers": lambda: plots.solver_steps({"cg": solved(0), "block_lanczos": solved(1)}, rtol=1e-5),
    "many solvers": lambda: plots.solver_steps({f"{LONG} {i}": solved(i) for i in range(5)}, rtol=1e-5),
    "paths": lambda: plots.ridge_paths(RIDGES, {f"{name}, NumPy": RIDGES / (1 + RIDGES) for name in ("train", "test")}),
    "narrow path": lambda: plots.ridge_paths(np.array([1.0, 2.0, 4.0]), {"test": np.array([0.4, 0.35, 0.5])}),
    "runs": lambda: plots.ridge_comparison(compared(3)),
    "a run of one ridge": lambda: plots.ridge_comparison(compared(1, 1)),
    "a direct solver": lambda: plots.residual_curves(DIRECT),
    "one dimension": lambda: embedding_curves({"dim": [{"dim": 512, "method": "features", "error": 0.5}]}),
    "near dimensions": lambda: embedding_curves({"dim": [{"dim": dim, "method": "features", "error": 0.5 / dim**0.5}
                                                         for dim in (100, 150, 200)]}),
    "lazy to rich": lambda: plots.lazy_to_rich(tangent_run()),
    "lazy to rich of many layers": lambda: plots.lazy_to_rich(
        tangent_run(task="regression", layers=[f"conv_{place}" for place in range(12)], infinite=False)
    ),
    "one measurement": lambda: plots.lazy_to_rich(tangent_run(epochs=(60,))),
    "tangents in a page": lambda: plots.lazy_to_rich(tangent_run(), ["scores"], narrow=True),
    "widths": lambda: plots.width_curves(measured(tangent_run(n) for n in (16, 64, 256)), LONG),
    "widths in a page": lambda: plots.width_curves(measured(tangent_run(n) for n in (64, 128)), narrow=True),
    "long names": lambda: plots.gram_matrices(dict.fromkeys((LONG, "RF", LONG + " "), np.eye(9)), np.arange(9) % 3),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_of_data_and_solvers(name):
    laid_out(DRAWN[name](), smallest=35 if "images" in name else 60)


def test_every_picture_is_laid_out_here():
    """A new function that returns a Figure is refused until a test of this file draws it."""
    text = inspect.getsource(inspect.getmodule(test_every_picture_is_laid_out_here))
    drawing = [name for name in plots.__all__ if getattr(getattr(plots, name), "__annotations__", {}).get("return")
               is matplotlib.figure.Figure]  # fmt: skip
    assert len(drawing) >= 12
    assert [name for name in drawing if f"plots.{name}(" not in text] == []


def test_names_of_all_panels_look_different():
    rows = {"dim": [{"dim": dim, "method": "features", "error": 1 / dim} for dim in (10, 100)],
            "rows": [{"n": n, "way": "exact", "cpu": n} for n in (10, 100)]}  # fmt: skip
    figure = embedding_curves(rows)
    looks = {line.get_color() for axis in figure.axes for line in axis.get_lines() if line.get_label() != "1/√m"}
    assert len(looks) == 2


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES.load(name).tangents])
def test_figures_of_tangent_kernels_have_a_column_for_each_curve(name, monkeypatch):
    recipe = RECIPES.load(name)
    widths = (64,) if recipe.tangents == "epochs" else (64, 256, 1024)
    made = [(curve.label, seed, tangent_run(n)) for curve in recipe.curves for n in widths for seed in range(2)]
    monkeypatch.setattr(tangent_figure, "load", lambda path: made[path][2])
    runs = pd.DataFrame([{"label": label, "seed": seed, "path": place, "seconds": 1.0, "flaw": "", "data_n_train": 400}
                         for place, (label, seed, _) in enumerate(made)])  # fmt: skip
    points = tangent_figure.points(recipe, runs)
    assert len(points) == len(made) * 4 and {*points["value"]} == ({0, 1, 10, 100} if len(widths) == 1 else {*widths})
    assert {*tangent_figure.tabled(recipe, points)["epoch"]} == ({0, 1, 10, 100} if len(widths) == 1 else {100})
    figure = laid_out(tangent_figure.figure(recipe, "FMNIST", points))
    assert len(figure.axes) == 2 * len(recipe.curves)
    for place, curve in enumerate(recipe.curves):
        assert figure.axes[place].get_title().startswith(curve.label)
        lines = figure.axes[place].get_lines()
        network = next(line for line in lines if len(line.get_xdata()) == (4 if len(widths) == 1 else 3))
        expected = [0.5, 0.6, 0.7, 0.8] if len(widths) == 1 else [0.8] * 3
        np.testing.assert_allclose(network.get_ydata(), expected)
        low, high = figure.axes[place].get_ylim()
        inside = [low <= value <= high for line in lines for value in line.get_ydata()]
        assert all(inside) or recipe.tangents == "epochs"


PLAIN = [name for name in RECIPES if not (RECIPES.load(name).tangents or RECIPES.load(name).theory)]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", PLAIN)
def test_figures_of_the_recipes(name, count):
    recipe = RECIPES.load(name)
    values = (0, 3, 6) if recipe.axis == "noise_ind" else (1000, 4000, 16_000)
    points = [
        {
            "label": curve.label,
            "value": value,
            "seed": seed,
            "data_n_train": 60_000,
            recipe.metric: 0.99 - 0.02 * place - 0.1 * step + 0.01 * seed,
        }
        for place, curve in enumerate(recipe.curves)
        for step, value in enumerate(values[:count])
        for seed in range(2)
    ]
    figure = laid_out(recipe_figure(recipe, recipe.dataset, pd.DataFrame(points)))
    axis, curves = figure.axes[0], [curve.label for curve in recipe.curves]
    if count == 1:
        assert [label.get_text() for label in axis.get_yticklabels()] == [*curves, *recipe.references]
        assert not figure.legends
    else:
        lines = [line for line in axis.get_lines() if len(line.get_xdata()) == count]
        inside = axis.get_window_extent()
        assert len(lines) >= len(curves) and all(text.get_window_extent().x0 > inside.x1 for text in axis.texts)
        if recipe.axis == "num_train":
            assert [label.get_text() for label in axis.get_xticklabels()] == ["1,000", "4,000", "16,000"]


LAW = {"exponent": 1.25, "error": 0.1, "factor": 2.0, "chi": None, "points": 20}


def theory_run(values):
    """The record of `linearized theory` at some sizes, with a ridge that is not the best at each."""
    losses = [(n, ridge, ridge * n**-0.2) for n in values for ridge in (2.0, 1.0)]
    points = [{"n": n, "ridge": ridge, "beyond": n > 1500, "predicted": loss, "fresh": 1.01 * loss, "other": loss}
              for n, ridge, loss in losses]  # fmt: skip
    return {"points": points, "best": list(range(1, len(points), 2)), "pool": 6000, "spectrum": LAW}


def test_learning_curves_have_predicted_lines_through_measured_points():
    recipe, values = RECIPES.load("learning_curves").titled("CIFAR10", "laptop"), (250, 500, 1000, 2000)
    runs = []
    for place, curve in enumerate(recipe.curves):
        common = {"label": curve.label, "seconds": 1.0, "path": "x"}
        for seed in range(2):
            if curve.program == "theory":
                runs.append({**common, "seed": seed, "value": 250, "record": theory_run(values)})
            else:
                runs += [{**common, "seed": seed, "value": n, "test_loss": (1 + 0.02 * seed + place) * n**-0.4}
                         for n in values]  # fmt: skip
    table = theory_figure.points(recipe, pd.DataFrame(runs))
    assert (table.groupby(["label", "value"]).size() == 2).all() and {*table["value"]} == {*values}
    assert (table["ridge"].dropna() == 1).all() and table.loc[table["label"] == "NN", "predicted"].isna().all()
    figure = laid_out(theory_figure.figure(recipe, "CIFAR10", table))
    assert figure.get_suptitle() == "Learning curves on CIFAR10 at noise level 6"
    labels = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert any(label.startswith("NTK, n^-0.200") for label in labels)
    assert any(label.startswith("NN, n^-0.400") for label in labels)
    lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 4]
    assert len(lines) == sum(curve.program == "theory" for curve in recipe.curves)
    np.testing.assert_allclose(lines[0].get_ydata(), np.array(values) ** -0.2)


def test_double_descent_is_drawn_through_the_asymptotic_lines(monkeypatch):
    recipe, widths = RECIPES.load("double_descent"), (30, 150, 300, 600, 3000)
    about = {"synth_dim": 100, "data_n_train": 300, "noise_ind": 5, "flaw": ""}
    ridges = (1e-5, 0.08)

    def every_ridge(path, every_ridge):
        assert every_ridge
        n = widths[int(path.name) % 5]
        exact = [sphere_error(n / 100, 3, ridge * 100 / n, noise=0.25) for ridge in ridges]
        spread = 1 + 0.1 * (int(path.name) // 5)
        return pd.DataFrame([{**about, "num_units": n, "ridge": ridge, "test_loss": loss * spread}
                             for ridge, loss in zip(ridges, exact, strict=True)])  # fmt: skip

    monkeypatch.setattr(theory_figure, "collect", every_ridge)
    runs = pd.DataFrame([{"label": "RF", "seed": seed, "value": n, "path": str(5 * seed + place), "seconds": 1.0}
                         for seed in range(2) for place, n in enumerate(widths)])  # fmt: skip
    table = theory_figure.points(recipe, runs)
    assert len(table) == 20 and {*table["label"]} == {"λ = 10⁻⁵", "λ = 8·10⁻²"}
    first = table[table["seed"] == 0]
    np.testing.assert_allclose(first["predicted"], first["test_loss"])
    figure = laid_out(theory_figure.figure(recipe, "SPHERE", table))
    small = next(line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == theory_figure.CURVE_POINTS)
    assert abs(small.get_xdata()[np.argmax(small.get_ydata())] - 1) < 0.1  # the peak is at N = n
    assert "d = 100, n = 300" in " ".join(figure.get_suptitle().split())


def test_spectra_have_their_power_laws(monkeypatch):
    recipe = RECIPES.load("spectrum")
    arrays = {"eigenvalues": 2.0 * np.arange(1, 401) ** -1.25}
    monkeypatch.setattr(theory_figure.theory, "load_arrays", lambda path: arrays)
    runs = pd.DataFrame([{"label": curve.label, "seed": 0, "value": 0, "path": "x", "seconds": 1.0,
                          "record": {**theory_run((10,)), "spectrum": LAW if place else None}}
                         for place, curve in enumerate(recipe.curves)])  # fmt: skip
    table = theory_figure.points(recipe, runs)
    assert table["exponent"].iloc[1] == 1.25 and np.isnan(table["exponent"].astype(float).iloc[0])
    figure = laid_out(theory_figure.figure(recipe, "PATCHES", table))
    labels = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert labels[0] == "NTK" and "LAPLACE, index^-1.25" in labels


@pytest.mark.parametrize("width", [3.0, 4.0, 5.0, 6.4])
def test_no_line_of_a_title_ends_within_an_equation(width):
    figure = matplotlib.figure.Figure(figsize=(width, 3))
    wrapped_title(figure, "Double descent of random features: a linear target with noise, d = 100, n = 300, τ² = 0.25")
    lines = figure.get_suptitle().split("\n")
    assert len(lines) > 1 and all(line.count("=") == line.count(" = ") for line in lines)
