"""Points and figure of the recipes of lazy and rich training: a column of panels for each curve."""

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from linearized.report import plots, tangent_plots
from linearized.report.recipes.figure_recipe import FigureRecipe
from linearized.storage.results import load

TITLE = 96  # letters of a line of the title
PANELS = ("scores", "kernel")


def points(recipe: FigureRecipe, runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each run and epoch that it measured, with label, seed, path and, as `value`, the epoch.

    Of a figure against the width `value` is the width.

    Args:
        runs: A row for each run, with its path (`linearized.storage.results.collect`).
    """
    if runs.empty:
        return runs
    table = tangent_plots.measured([load(path) for path in runs["path"]])
    about = runs.reset_index(drop=True)[["label", "seed", "path", "seconds", "flaw", "data_n_train"]]
    table = table.join(about, on="run")
    return table.assign(value=table["epoch" if recipe.tangents == "epochs" else "num_units"])


def tabled(recipe: FigureRecipe, table: pd.DataFrame) -> pd.DataFrame:
    """Return the points whose means are printed: of a figure against the width those after each run's last epoch."""
    return table if recipe.tangents == "epochs" else table.groupby("run").tail(1)


def figure(recipe: FigureRecipe, dataset: str, table: pd.DataFrame) -> Figure:
    """Draw scores above, and distance and alignments of the tangent kernel below, one column for each curve.

    Args:
        dataset: What was run; the title names the data.
        table: Of `points`; runs that differ in seeds are averaged.
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
    else:  # the panels of a row share their axis, which the first one has set
        axes[0].autoscale(axis="y")
        plots.cap_accuracy(axes[0], metric)
    picture.suptitle(textwrap.fill(recipe.title, TITLE), fontsize=11)
    plots.legend_below(picture, plots.handles_of(axes))
    return picture
