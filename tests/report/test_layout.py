"""The layout of every picture of one's own results: nothing is cut, nothing overlaps, every legend entry is seen.

Pictures are laid out as they are written to a file, over sets of results of one to three models, one or more noise
levels and numbers of train rows, long names, classes and regression, and ridges that diverged or were not solved.
"""

import itertools
import warnings

import matplotlib.text
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from linearized.report import plots
from linearized.report.comparison import comparison_bars
from linearized.report.embedding_plots import embedding_curves
from linearized.report.recipes import RECIPES
from linearized.report.recipes.plot import figure as recipe_figure

LONG = "KERV_CNN, kernel = gaussian with a learned width and a bias inside, rate = 0.00123, n = 60,000, by validation"


def laid_out(figure):
    """Lay the figure out, with warnings as errors, and check it; gives the figure."""
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
        assert box.width > 110 and box.height > 60, "an axis has collapsed"
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
    laid_out(plots.noise_curves(table(many, 4, (100,), "classes")))
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


@pytest.mark.parametrize("name", RECIPES)
def test_figures_of_the_recipes(name):
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
        for step, value in enumerate(values)
        for seed in range(2)
    ]
    laid_out(recipe_figure(recipe, recipe.dataset, pd.DataFrame(points)))
