"""Figures of recipes: curves with error bars over seeds, reference lines, and a legend."""

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.data import DATASETS
from linearized.report import plots
from linearized.report.noise_plots import dot, name_predicted_lines, predicted_line
from linearized.report.recipes.figure_recipe import FigureRecipe
from linearized.report.style import dot_chart

FIXED = "dashed: fixed features; solid: learned ones"
TITLE = 64  # number of letters of a title line that fit above the axes


def figure(recipe: FigureRecipe, dataset: str, points: pd.DataFrame) -> Figure:
    """Draw a recipe's curves with error bars over seeds, or one dot per curve for a single value of the axis.

    Args:
        recipe: The recipe.
        dataset: Dataset of the runs; if it is the recipe's replacement, the title states this.
        points: Table with one row per run and the columns label (of the curve), value (of the axis), seed and the
            recipe's metric.
    """
    source = DATASETS.load(dataset)
    single = points["value"].nunique() == 1
    labels = [curve.label for curve in recipe.curves if (points["label"] == curve.label).any()]
    height = 0.8 + 0.3 * (len(labels) + len(recipe.references)) if single else 3.9
    picture, (axis,) = plots.new_figure(6.4, height)
    if single:
        _dots(axis, recipe, points, labels)
        axis.set_xlabel(f"{recipe.metric.replace('_', ' ')}, {_place(recipe, source, points['value'].iloc[0])}")
    else:
        _curves(axis, recipe, source, points, labels)
    stands = f"({source.title} instead of {recipe.dataset})" if dataset != recipe.dataset else ""
    rows = "" if recipe.axis == "num_train" else f", n = {int(points['data_n_train'].max()):,}"
    lines = [f"{recipe.title}{rows}", *textwrap.wrap(stands, TITLE)]
    lines += [FIXED] if any(curve.fixed for curve in recipe.curves) and not single else []
    axis.set_title("\n".join(lines), fontsize=10)
    plots.legend_below(picture, plots.handles_of([axis]))
    return picture


def _dots(axis: Axes, recipe: FigureRecipe, points: pd.DataFrame, labels: list[str]) -> None:
    """Draw the mean of each curve at the only value of the axis as a dot, one row per curve and per reference line.

    Args:
        axis: Axis to draw on.
        recipe: The recipe.
        points: Table with one row per run, as for `figure`.
        labels: Labels of the curves that have runs.
    """
    rows = [dot(points.loc[points["label"] == label, recipe.metric], label, place)
            for place, label in enumerate(labels)]  # fmt: skip
    rows += [(name, height, 0.0, "0.4", "|") for name, height in recipe.references.items()]
    dot_chart(axis, rows, recipe.metric)


def _curves(axis: Axes, recipe: FigureRecipe, source, points: pd.DataFrame, labels: list[str]) -> None:
    """Draw one line per curve, and the recipe's reference lines as dotted lines with their labels in the margin.

    Args:
        axis: Axis to draw on.
        recipe: The recipe.
        source: Module of the dataset, which converts noise levels to numbers.
        points: Table with one row per run, as for `figure`.
        labels: Labels of the curves that have runs.
    """
    fixed = {curve.label for curve in recipe.curves if curve.fixed}
    for place, label in enumerate(labels):
        mine = points[points["label"] == label]
        where = mine["value"].map(lambda value: _abscissa(recipe, source, value))
        style = "--" if label in fixed else ""
        plots.line_with_spread(axis, mine.groupby(where)[recipe.metric], label, place, style)
        predicted_line(axis, mine, where, recipe.metric, place)
    name_predicted_lines(axis)
    for name, height in recipe.references.items():
        axis.axhline(height, color="0.6", linestyle=":", linewidth=1, zorder=0)
        axis.annotate(
            textwrap.fill(name, 16), (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=7,
            color="0.3",
        )  # fmt: skip
    axis.set(xlabel=_axis_name(recipe, source), ylabel=recipe.metric.replace("_", " "))
    plots.cap_accuracy(axis, recipe.metric)
    if recipe.axis == "num_train":
        values = sorted(points["value"].unique())
        axis.set_xscale("log")
        axis.set_xticks(values, [f"{value:,}" for value in values])
        axis.set_xticks([], minor=True)


def _place(recipe: FigureRecipe, source, value: int) -> str:
    return f"{_axis_name(recipe, source)} = {_abscissa(recipe, source, value):,.4g}"


def _abscissa(recipe: FigureRecipe, source, value: int) -> float:
    return float(source.level(value)) if recipe.axis == "noise_ind" else float(value)


def _axis_name(recipe: FigureRecipe, source) -> str:
    return f"{source.level_word} {source.noise_name}" if recipe.axis == "noise_ind" else "train rows n"
