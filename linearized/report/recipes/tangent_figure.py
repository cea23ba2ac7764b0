"""Data and figures of the recipes about the tangent kernel of a network in lazy and rich training.

In lazy training the tangent kernel hardly changes; in rich training it does. The data have one row per run and measured
epoch. They are drawn against the epoch or the width of the network, with one column of panels for each curve of the
recipe.
"""

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from linearized.report import plots, tangent_plots
from linearized.report.recipes.figure_recipe import FigureRecipe
from linearized.storage.results import load

TITLE = 96  # largest number of letters of a title line
PANELS = ("scores", "kernel")


def points(recipe: FigureRecipe, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the data of a figure: one row for each run and measured epoch, with the measurements of `--tangent_at`.

    Further columns are `label` (of the curve), `seed`, `path` and `value`, the number on the horizontal axis: the epoch
    or, in a figure against the width, the number of units.

    Args:
        recipe: The recipe.
        runs: Table with one row per run, including its path (`linearized.storage.results.collect`).
    """
    if runs.empty:
        return runs
    table = tangent_plots.measured([load(path) for path in runs["path"]])
    about = runs.reset_index(drop=True)[["label", "seed", "path", "seconds", "flaw", "data_n_train"]]
    table = table.join(about, on="run")
    return table.assign(value=table["epoch" if recipe.tangents == "epochs" else "num_units"])


def tabled(recipe: FigureRecipe, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the data whose means are printed.

    In a figure against the epoch these are all rows, in a figure against the width the last measured epoch of each run.

    Args:
        recipe: The recipe.
        table: Data of the figure, as `points` returns them.
    """
    return table if recipe.tangents == "epochs" else table.groupby("run").tail(1)


def figure(recipe: FigureRecipe, dataset: str, table: pd.DataFrame) -> Figure:
    """Draw test scores in the upper row and changes of the tangent kernel in the lower row, one column per curve.

    The changes are the distance from the kernel at the start, and the alignments with that kernel and with the labels,
    as `linearized.report.tangent_plots` defines them.

    Args:
        recipe: The recipe.
        dataset: Dataset of the runs, which is not used because the recipe's title names the data.
        table: Data of the figure, as `points` returns them; runs that differ only in the seed are averaged.
    """
    labels = [curve.label for curve in recipe.curves if (table["label"] == curve.label).any()]
    picture, axes = plots.new_figure(1 + 3.1 * len(labels), 6.0, nrows=2, ncols=len(labels), sharey="row")
    for place, label in enumerate(labels):
        mine, (above, below) = table[table["label"] == label], (axes[place], axes[len(labels) + place])
        if recipe.tangents == "epochs":
            for axis, panel in zip((above, below), PANELS, strict=True):
                tangent_plots.draw_panel(axis, mine, panel)
        else:
            tangent_plots.draw_width(above, below, mine)
        width = f"N = {int(mine['num_units'].iloc[0]):,}, " if mine["num_units"].nunique() == 1 else ""
        above.set_title(f"{label}\n{width}n = {int(mine['data_n_train'].max()):,}", fontsize=10)
        above.set_xlabel("")
        if place:
            above.set_ylabel("")
            below.set_ylabel("")
    metric = tangent_plots.metric_of(table)
    if recipe.tangents == "epochs":
        tangent_plots.focus(axes[0], table, metric)
    else:  # the panels of a row share the vertical axis, and drawing the first panel has fixed its limits
        axes[0].autoscale(axis="y")
        plots.cap_accuracy(axes[0], metric)
    picture.suptitle(textwrap.fill(recipe.title, TITLE), fontsize=11)
    plots.legend_below(picture, plots.handles_of(axes))
    return picture
