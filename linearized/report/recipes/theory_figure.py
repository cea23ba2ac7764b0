"""Data and figures of the recipes that compare losses predicted by theory with measured ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import logging
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.base.errors import UserError
from linearized.experiments import theory
from linearized.learning_theory.power_law import fit_power_law
from linearized.learning_theory.random_features import sphere_error
from linearized.report.recipes.figure_recipe import FigureRecipe
from linearized.report.style import COLOURS, MARKERS, handles_of, legend_below, new_figure, shades, wrapped_title
from linearized.report.ticks import in_powers, log_axis
from linearized.storage.results import collect

RIDGELESS = 1e-9  # λ that represents the limit 0 in the asymptotic formula
CURVE_POINTS = 200
EQUALS = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"  # " = " where a title is not wrapped


def collected(folder: Path) -> pd.DataFrame:
    """Return one row per finished run of `linearized theory` below a folder: settings, path, `record` and `seconds`.

    Results that cannot be read are logged and left out.
    """
    rows = []
    for path in sorted(folder.rglob(theory.NAME)):
        try:
            record = theory.load(path.parent)
        except UserError as error:
            logging.warning("left out: %s", error)
            continue
        rows.append({**record["settings"], "record": record, "path": str(path.parent), "seconds": record["seconds"]})
    return pd.DataFrame(rows)


def points(recipe: FigureRecipe, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the data of a figure: one row for each number that is drawn.

    The columns are `label` (of the curve), `value` (of the horizontal axis), `seed`, `path` and these:

    - Learning curves: `test_loss`, the loss on fresh rows for each number of train rows, at the ridge with the smallest
      predicted loss, and `predicted`, the predicted loss there. Runs of other commands, such as networks, have their
      test loss and no prediction.
    - Double descent: `test_loss` and its prediction `predicted` at every ridge.
    - Spectra: `exponent` of the power law of each kernel's eigenvalues.

    Args:
        recipe: The recipe.
        runs: Table with one row per run (`linearized.report.reproduce.collected`).
    """
    if runs.empty:
        return runs
    makers = {"learning_curves": _learning_points, "double_descent": _ridge_points, "spectrum": _exponents}
    rows = [entry for run in runs.to_dict("records") for entry in makers[recipe.theory](run)]
    return pd.DataFrame(rows)


def _place(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in ("label", "seed", "seconds", "path")}


def _learning_points(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(run.get("record"), dict):
        return [{**_place(run), "value": run["value"], "test_loss": run["test_loss"]}]
    record = run["record"]
    best = (record["points"][place] for place in record["best"])
    return [{**_place(run), "value": point["n"], "ridge": point["ridge"], "test_loss": point["fresh"],
             "predicted": point["predicted"], "pool_loss": point["other"], "beyond": point["beyond"]}
            for point in best]  # fmt: skip


def _ridge_points(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    table = collect(Path(run["path"]), every_ridge=True)
    found = []
    for entry in table.to_dict("records"):
        dim, n, features = entry["synth_dim"], entry["data_n_train"], entry["num_units"]
        noise = (entry["noise_ind"] / 10) ** 2
        # The command's λ belongs to the sum over the features; in the theorem, the ridge is λ d/N.
        said = sphere_error(features / dim, n / dim, entry["ridge"] * dim / features, noise=noise)
        found.append({
            **_place(run), "label": f"λ = {in_powers(entry['ridge'], 1)}", "value": run["value"], "predicted": said,
            "rows": n, "dim": dim, "noise": noise, **{name: entry[name] for name in ("ridge", "test_loss", "flaw")},
        })  # fmt: skip
    return found


def _exponents(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    law = run["record"]["spectrum"] or {}
    return [{**_place(run), "value": run["value"], "exponent": law.get("exponent"), "error": law.get("error"),
             "pool": run["record"]["pool"], "law": json.dumps(law)}]  # fmt: skip


def tabled(recipe: FigureRecipe, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the data whose means are printed: here all rows of `table`.

    The module of figures about tangent kernels has a function of the same name that selects some rows.

    Args:
        recipe: The recipe, which is not used.
        table: Data of the figure, as `points` returns them.
    """
    return table


def figure(recipe: FigureRecipe, dataset: str, table: pd.DataFrame) -> Figure:
    """Draw the picture of a recipe: learning curves, double descent or spectra, as `recipe.theory` states.

    Args:
        recipe: The recipe.
        dataset: Dataset of the runs; if it is not the recipe's, the title states this.
        table: Data of the figure, as `points` returns them.
    """
    picture, (axis,) = new_figure(6.4, 4.2)
    drawers = {"learning_curves": _draw_learning, "double_descent": _draw_descent, "spectrum": _draw_spectrum}
    about = drawers[recipe.theory](axis, recipe, table)
    other = dataset != recipe.dataset and dataset not in recipe.title
    stands = f" ({dataset} instead of {recipe.dataset})" if other else ""
    wrapped_title(picture, f"{recipe.title}{stands}{about}")
    legend_below(picture, handles_of([axis]), fontsize=8)
    return picture


def _draw_learning(axis: Axes, recipe: FigureRecipe, table: pd.DataFrame) -> str:
    """Draw learning curves: measured losses with the spread over seeds as markers, and predicted losses as lines.

    Power laws are fitted to the measured losses and named in the legend.

    Args:
        axis: Axis to draw on.
        recipe: The recipe.
        table: Data of the figure, as `points` returns them.

    Returns:
        Text to append to the title of the figure, here "".
    """
    for place, curve in enumerate(recipe.curves):
        mine = table[table["label"] == curve.label]
        if mine.empty:
            continue
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        groups = mine.groupby("value")["test_loss"]
        mean, spread = groups.mean(), groups.std(ddof=1).fillna(0.0)
        slope = ""
        if len(mean) >= 3:
            errors = (spread / np.sqrt(groups.size())).to_numpy()
            law = fit_power_law(mean.index.to_numpy(float), mean.to_numpy(), errors if (errors > 0).all() else None)
            slope = f", n^-{law.exponent:.3f} ± {law.error:.3f}"
        predicted = "predicted" in mine and mine["predicted"].notna().any()
        axis.errorbar(mean.index, mean, yerr=spread, fmt=marker, color=colour, capsize=2, markersize=5,
                      linestyle="none" if predicted else ":", label=f"{curve.label}{slope}")  # fmt: skip
        if predicted:
            line = mine.groupby("value")["predicted"].mean()
            axis.plot(line.index, line, "-", color=colour, linewidth=1.2)
    axis.plot([], [], "-", color="0.4", label="predicted from the spectrum of a pool")
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel="train rows n", ylabel="test loss")
    return ""


def _draw_descent(axis: Axes, recipe: FigureRecipe, table: pd.DataFrame) -> str:
    """Draw double descent: losses against N/n for N random features and n train rows, one colour per ridge.

    Measured losses are drawn as markers with the spread over seeds, asymptotic predictions as lines. The dotted line is
    the prediction without a ridge.

    Args:
        axis: Axis to draw on.
        recipe: The recipe.
        table: Data of the figure, as `points` returns them.

    Returns:
        Text to append to the title of the figure: the dimension, n and the noise.
    """
    about = table.iloc[0]
    rows, dim, noise = int(about["rows"]), int(about["dim"]), float(about["noise"])
    widths = np.geomspace(table["value"].min(), table["value"].max(), CURVE_POINTS)
    ridges = sorted(table["ridge"].unique())
    for place, (ridge, shade) in enumerate(zip(ridges, shades(len(ridges)), strict=True)):
        mine = table[table["ridge"] == ridge]
        groups = mine.groupby("value")["test_loss"]
        axis.errorbar(np.array(groups.mean().index) / rows, groups.mean(), yerr=groups.std(ddof=1).fillna(0.0),
                      fmt=MARKERS[place % len(MARKERS)], color=shade, capsize=2, markersize=4.5, linestyle="none",
                      label=f"{mine['label'].iloc[0]}, measured")  # fmt: skip
        line = [sphere_error(width / dim, rows / dim, ridge * dim / width, noise=noise) for width in widths]
        axis.plot(widths / rows, line, "-", color=shade)
    limit = [sphere_error(width / dim, rows / dim, RIDGELESS, noise=noise) for width in widths]
    axis.plot(widths / rows, limit, ":", color="black", linewidth=1.2, label="no ridge, predicted")
    axis.plot([], [], "-", color="0.4", label="predicted (Mei and Montanari)")
    axis.axvline(1, color="0.7", linewidth=0.8)
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set_ylim(0.6 * min(table["test_loss"].min(), min(limit)), 1.6 * table["test_loss"].max())
    axis.set(xlabel="features over train rows, N / n", ylabel="test loss without the noise")
    return f", d{EQUALS}{dim}, n{EQUALS}{rows}, τ²{EQUALS}{noise:.2g}"


def _draw_spectrum(axis: Axes, recipe: FigureRecipe, table: pd.DataFrame) -> str:
    """Draw the eigenvalues of each kernel divided by their sum, and the fitted power laws as dashed lines.

    Args:
        axis: Axis to draw on.
        recipe: The recipe.
        table: Data of the figure, as `points` returns them.

    Returns:
        Text to append to the title of the figure: the number of rows.
    """
    for place, curve in enumerate(recipe.curves):
        for run in table[table["label"] == curve.label].to_dict("records"):
            values = theory.load_arrays(run["path"])["eigenvalues"]
            colour, law = COLOURS[place % len(COLOURS)], json.loads(run["law"])
            slope = f", index^-{law['exponent']:.2f}" if law else ""
            index = np.arange(1, len(values) + 1)
            axis.plot(index, np.where(values > 0, values, np.nan) / values.sum(), color=colour,
                      label=f"{curve.label}{slope}")  # fmt: skip
            if law:
                ends = np.array([10.0, len(values) / 10])
                axis.plot(ends, law["factor"] * ends ** -law["exponent"] / values.sum(), "--", color="black", zorder=3)
    axis.plot([], [], "--", color="black", label="fitted, from the 10th to the N/10th")
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel="eigenvalue, from the largest", ylabel="share of the trace")
    return f", N{EQUALS}{int(table['pool'].max()):,} rows"
