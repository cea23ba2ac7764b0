"""Plots of results, in one style: colour-blind safe colours, log axes for ridges, legends outside.

Every function takes saved results and returns a matplotlib Figure; `save_figure` writes it whole or not at all.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.files import whole_file

# Okabe & Ito's colours, told apart by every kind of colour vision; the line style tells the splits apart as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SPLITS = {"train": ("--", COLOURS[4]), "validation": ("-.", COLOURS[2]), "leave_one_out": (":", COLOURS[3]),
           "test": ("-", COLOURS[0])}  # fmt: skip
_SELECTION = {
    "gcv": ("generalised cross-validation", COLOURS[3], "o"),
    "degrees_of_freedom": ("degrees of freedom", COLOURS[5], "s"),
}
_STYLE = {"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10}


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Writes the figure as the suffix of `path` says (png, pdf, svg)."""
    with whole_file(path) as aside:
        figure.savefig(aside, dpi=150, bbox_inches="tight")
    return Path(path)


def ridge_curves(record: Mapping[str, Any]) -> Figure:
    """Loss, and accuracy if there is one, against the ridge for each split of one run; the chosen ridge is marked.

    A kernel's result may hold leave-one-out errors, drawn as one more split, and generalised cross-validation with the
    effective degrees of freedom, drawn in a panel of their own.
    """
    ridges = pd.DataFrame(record["ridges"]).replace({None: np.nan})
    panels = [metric for metric in ("loss", "accuracy") if ridges[f"test_{metric}"].notna().any()]
    selection = [name for name in _SELECTION if name in ridges and ridges[name].notna().any()]
    with matplotlib.rc_context(_STYLE):
        count = len(panels) + bool(selection)
        figure = Figure(figsize=(1.5 + 4.3 * count, 3.6), layout="constrained")
        axes = figure.subplots(1, count, squeeze=False)[0]
        for axis, metric in zip(axes, panels, strict=False):
            for split, (line, colour) in _SPLITS.items():
                if (column := f"{split}_{metric}") in ridges and ridges[column].notna().any():
                    label = split.replace("_", "-")
                    axis.plot(ridges["ridge"], ridges[column], line, marker=".", color=colour, label=label)
            axis.set_ylabel(_metric_name(metric, record["settings"].get("loss", "square")))
            if metric == "loss" and (ridges["test_loss"].dropna() > 0).all():
                axis.set_yscale("log")
        if selection:
            _selection(axes[-1], ridges, selection)
        for axis in axes:
            _ridge_axis(axis, record, ridges["ridge"])
        missed = ridges[~ridges["converged"].astype(bool)]
        if len(missed):
            axes[0].plot(
                missed["ridge"], missed["test_loss"], "x", color=COLOURS[1], markersize=9, label="not converged"
            )
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.suptitle(record["title"], fontsize=10)
    return figure


def _ridge_axis(axis: Axes, record: Mapping[str, Any], ridges: pd.Series) -> None:
    """The axis of ridges, with the chosen one marked, and the published choice where that is another."""
    chosen, published = record["chosen"], record.get("chosen_published", record["chosen"])
    for choice, line in ((chosen, ":"), (published, (0, (1, 4)))):
        if line == ":" or choice["position"] != chosen["position"]:
            place, label = record["ridges"][choice["position"]]["ridge"], f"chosen by {choice['by']}"
            axis.axvline(place, color="0.4", linewidth=1, linestyle=line, label=label)
    margin, positive = 2 if len(ridges) > 1 else 10, ridges[ridges > 0]
    if len(positive):  # a ridge of 0 has no place on a logarithmic axis
        axis.set(xscale="log", xlim=(positive.min() / margin, positive.max() * margin))
    axis.set_xlabel(f"ridge {record.get('ridge_symbol', 'λ')}")


def _selection(axis: Axes, ridges: pd.DataFrame, names: list[str]) -> None:
    """Generalised cross-validation on the left, degrees of freedom on the right."""
    axes = [axis, axis.twinx()] if len(names) == 2 else [axis]
    for here, name in zip(axes, names, strict=True):
        title, colour, marker = _SELECTION[name]
        here.plot(ridges["ridge"], ridges[name], marker=marker, markersize=3, color=colour)
        here.set_ylabel(title, color=colour)
        here.spines["right"].set_visible(here is not axis)
        if (ridges[name].dropna() > 0).all():
            here.set_yscale("log")


def training_curves(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Figure:
    """What the solver saw at each iteration or epoch, a line a ridge: the residual (CG) or the loss (SGD)."""
    histories = {name.split("/")[1]: array for name, array in arrays.items() if name.startswith("history/")}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axis = figure.subplots()
        symbol = record.get("ridge_symbol", "λ")
        shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(len(histories), 1)))
        for shade, entry in zip(shades, record["ridges"], strict=False):
            history = histories.get(f"{entry['index']:03d}")
            if history is not None and len(history):
                axis.plot(
                    np.arange(1, len(history) + 1), history, color=shade, label=f"{symbol} = {entry['ridge']:.1e}"
                )
        axis.set(yscale="log", xlabel=record["solver"]["step"], ylabel=record["solver"]["history"])
        figure.legend(loc="outside right upper", frameon=False, fontsize=7)
        figure.suptitle(record["title"], fontsize=10)
    return figure


def noise_curves(table: pd.DataFrame, *, metric: str = "test_accuracy") -> Figure:
    """A metric of the chosen ridge against the noise level, a panel a dataset and a line a model or kernel.

    Args:
        table: Of `data.results.collect`. Runs that differ in more than these (units, seeds) are averaged, with the
            standard deviation as an error bar.
    """
    with matplotlib.rc_context(_STYLE):
        datasets = sorted(table["dataset"].unique())
        figure = Figure(figsize=(4.6 * len(datasets) + 1.5, 3.6), layout="constrained")
        models = {model: place for place, model in enumerate(sorted(table["model"].unique()))}
        for axis, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
            for model, rows in table[table["dataset"] == dataset].groupby("model"):
                _line_with_spread(axis, rows.groupby("noise_ind")[metric], str(model), models[model])
            axis.set(xlabel="noise level (noise_ind)", ylabel=_metric_name(metric), title=dataset)
            levels = table.loc[table["dataset"] == dataset, "noise_ind"]
            axis.set_xlim(levels.min() - 0.5, levels.max() + 0.5)
            axis.xaxis.get_major_locator().set_params(integer=True)
        named = {
            label: handle
            for axis in figure.axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(named.values(), named.keys(), loc="outside right upper", frameon=False)
    return figure


def _line_with_spread(axis: Axes, groups: Any, label: str, place: int) -> None:
    means, spreads = groups.mean(), groups.std().fillna(0.0).to_numpy(float)
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    axis.errorbar(
        means.index.to_numpy(), means.to_numpy(float), yerr=spreads, color=colour, marker=marker, capsize=2, label=label
    )


def _metric_name(metric: str, loss: str | None = None) -> str:
    plain = metric.replace("_", " ")
    return (
        f"{'mean squared norm' if loss == 'square' else 'cross-entropy'} ({plain})"
        if loss and metric == "loss"
        else plain
    )
