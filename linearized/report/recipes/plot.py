"""A recipe's figure from its points: a line a curve, error bars over seeds, reference lines, legend below."""

import textwrap

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from linearized.data import DATASETS
from linearized.report import plots
from linearized.report.recipes.figure_recipe import FigureRecipe

TITLE = 64  # letters of a line that fit over the axes


def figure(recipe: FigureRecipe, dataset: str, points: pd.DataFrame) -> Figure:
    """The picture.

    Args:
        dataset: What was run; if it is the stand-in, the title says so.
        points: Rows with label, value, seed and the recipe's metric.
    """
    source = DATASETS.load(dataset)
    with matplotlib.rc_context(plots.STYLE):
        picture = Figure(figsize=(6.4, 3.9), layout="constrained")
        axis = picture.subplots()
        order = [curve.label for curve in recipe.curves if (points["label"] == curve.label).any()]
        for place, label in enumerate(order):
            mine = points[points["label"] == label]
            where = mine["value"].map(lambda value: _abscissa(recipe, source, value))
            plots.line_with_spread(axis, mine.groupby(where)[recipe.metric], label, place)
        for name, height in recipe.references.items():
            axis.axhline(height, color="0.6", linestyle=":", linewidth=1, zorder=0)
            axis.annotate(
                name, (1, height), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7, color="0.4"
            )
        axis.set(xlabel=_axis_name(recipe, source), ylabel=recipe.metric.replace("_", " "))
        plots.cap_accuracy(axis, recipe.metric)
        if recipe.axis == "num_train":
            axis.set_xscale("log", base=2)
        stands = f"({source.title} instead of {recipe.dataset})" if dataset != recipe.dataset else ""
        rows = "" if recipe.axis == "num_train" else f", n = {int(points['data_n_train'].max()):,}"
        lines = [f"{recipe.title}{rows}", *textwrap.wrap(stands, TITLE)]
        axis.set_title("\n".join(lines), fontsize=10)
        plots.legend_below(picture, plots.handles_of([axis]))
    return picture


def _abscissa(recipe: FigureRecipe, source, value: int) -> float:
    return float(source.level(value)) if recipe.axis == "noise_ind" else float(value)


def _axis_name(recipe: FigureRecipe, source) -> str:
    return f"noise level {source.noise_name}" if recipe.axis == "noise_ind" else "train rows n"
