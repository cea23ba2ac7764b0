"""Pictures of one run or a few over the ridge grid: losses and accuracies, the choice, what the solver saw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.result_schema import convergence, fell_short
from report.style import COLOURS, LINES, MARKERS, NARROW, log_axis, metric_name, new_figure, shades, spread_out

_SPLITS = {"train": ("--", COLOURS[4]), "validation": ("-.", COLOURS[2]), "leave_one_out": (":", COLOURS[3]),
           "test": ("-", COLOURS[0])}  # fmt: skip
_SELECTION = {
    "gcv": ("generalised cross-validation", COLOURS[3], "o"),
    "degrees_of_freedom": ("degrees of freedom", COLOURS[5], "s"),
}


def ridge_panels(record: Mapping[str, Any]) -> list[str]:
    """The panels that `ridge_curves` has for a run: loss, accuracy, selection."""
    entries = record["ridges"]
    panels = ["loss"]
    if any(entry.get("test_accuracy") is not None for entry in entries):
        panels.append("accuracy")
    if any(entry.get(name) is not None for entry in entries for name in _SELECTION):
        panels.append("selection")
    return panels


def ridge_curves(record: Mapping[str, Any], panels: Sequence[str] = (), *, narrow: bool = False) -> Figure:
    """Loss, and accuracy if there is one, against the ridge for each split of one run; the chosen ridge is marked.

    A kernel's result may hold leave-one-out errors, drawn as one more split, and generalised cross-validation with the
    effective degrees of freedom, drawn in a panel of their own.

    Args:
        panels: Some of `ridge_panels`; empty: all.
        narrow: For one panel inside a page, which says itself what run it is of.
    """
    panels = list(panels) or ridge_panels(record)
    ridges = pd.DataFrame(record["ridges"]).replace({None: np.nan})
    figure, axes = new_figure(NARROW if narrow else 1.5 + 4.3 * len(panels), 3.6, ncols=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        if panel == "selection":
            _selection(axis, ridges)
        else:
            _splits(axis, ridges, panel, record["settings"].get("loss", "square"))
        _ridge_axis(axis, record, ridges["ridge"])
    named = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    columns = 2 if narrow else 3 if len(panels) == 1 else len(named)
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns, frameon=False)
    if not narrow:
        figure.suptitle(record["title"], fontsize=10)
    return figure


def _splits(axis: Axes, ridges: pd.DataFrame, metric: str, loss: str) -> None:
    """A line a split, and a cross on each ridge that was not solved."""
    for split, (line, colour) in _SPLITS.items():
        if (column := f"{split}_{metric}") in ridges and ridges[column].notna().any():
            label = split.replace("_", "-")
            axis.plot(ridges["ridge"], ridges[column], line, marker=".", color=colour, label=label)
    missed = ridges[[fell_short(entry) for entry in ridges.to_dict("records")]]
    if len(missed):
        axis.plot(missed["ridge"], missed[f"test_{metric}"], "x", color=COLOURS[1], markersize=9, label="not converged")
    axis.set_ylabel(metric_name(metric, loss))
    if metric == "loss" and (ridges["test_loss"].dropna() > 0).all():
        log_axis(axis, "y")


def _ridge_axis(axis: Axes, record: Mapping[str, Any], ridges: pd.Series) -> None:
    """The axis of ridges, with the chosen one marked, and the published choice where that is another."""
    chosen, published = record["chosen"], record.get("chosen_published", record["chosen"])
    for choice, line in ((chosen, ":"), (published, (0, (1, 4)))):
        if line == ":" or choice["position"] != chosen["position"]:
            place, label = record["ridges"][choice["position"]]["ridge"], f"chosen by {choice['by']}"
            axis.axvline(place, color="0.4", linewidth=1, linestyle=line, label=label)
    _log_ridges(axis, ridges, record.get("ridge_symbol", "λ"))


def _log_ridges(axis: Axes, ridges: pd.Series, symbol: str) -> None:
    margin, positive = 2 if len(ridges) > 1 else 10, ridges[ridges > 0]
    if len(positive):  # a ridge of 0 has no place on a logarithmic axis
        log_axis(axis, "x")
        axis.set_xlim(positive.min() / margin, positive.max() * margin)
    axis.set_xlabel(f"ridge {symbol}")


def _selection(axis: Axes, ridges: pd.DataFrame) -> None:
    """Generalised cross-validation on the left, degrees of freedom on the right."""
    names = [name for name in _SELECTION if name in ridges and ridges[name].notna().any()]
    axes = [axis, axis.twinx()] if len(names) == 2 else [axis]
    for here, name in zip(axes, names, strict=True):
        title, colour, marker = _SELECTION[name]
        here.plot(ridges["ridge"], ridges[name], marker=marker, markersize=3, color=colour)
        here.set_ylabel(title, color=colour)
        here.spines["right"].set_visible(here is not axis)
        here.grid(here is axis)
        if (ridges[name].dropna() > 0).all():
            log_axis(here, "y")


def training_curves(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, narrow: bool = False) -> Figure:
    """What the solver saw at each iteration or epoch, a line a ridge: the residual (CG) or the loss (SGD).

    Lines run from the smallest ridge (dark) to the largest (light); of many, the legend names about eight.

    Args:
        narrow: As in `ridge_curves`.
    """
    figure, (axis,) = new_figure(NARROW if narrow else 6, 3.6)
    symbol = record.get("ridge_symbol", "λ")
    drawn = [(entry, arrays.get(f"history/{entry['index']:03d}", ())) for entry in record["ridges"]]
    drawn = sorted(((entry["ridge"], history) for entry, history in drawn if len(history)), key=lambda pair: pair[0])
    named = spread_out(len(drawn))
    for place, ((ridge, history), shade) in enumerate(zip(drawn, shades(len(drawn)), strict=True)):
        label = f"{symbol} = {ridge:.1e}" if place in named else "_"
        alone = "o" if len(history) == 1 else None  # a line of one point is not seen
        axis.plot(np.arange(1, len(history) + 1), history, color=shade, label=label, marker=alone, markersize=4)
    log_axis(axis, "y")
    axis.set(xlabel=record["solver"]["step"], ylabel=record["solver"]["history"])
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    place = {"loc": "outside lower center", "ncols": 3} if narrow else {"loc": "outside right upper"}
    figure.legend(frameon=False, fontsize=8, **place)
    if not narrow:
        figure.suptitle(record["title"], fontsize=10)
    return figure


def ridge_comparison(records: Mapping[str, Mapping[str, Any]], *, metric: str = "test_loss") -> Figure:
    """A metric of several runs against the ridge, a line a run, its chosen ridge filled.

    Args:
        records: By the name in the legend. Each keeps its unit of the ridge: a model's λ and a kernel's ρ = nλ are
            brought together as λ.
    """
    figure, (axis,) = new_figure(6.4, 3.6)
    lambdas = []
    for place, (name, record) in enumerate(records.items()):
        scale = record["data"]["n_train"] if record.get("ridge_symbol") == "ρ" else 1
        ridges = np.array([entry["ridge"] / scale for entry in record["ridges"]])
        values = np.array([np.nan if entry.get(metric) is None else entry[metric] for entry in record["ridges"]], float)
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        axis.plot(ridges, values, LINES[place % len(LINES)], color=colour, marker=marker, markersize=4,
                  markerfacecolor="none", label=name)  # fmt: skip
        chosen = record["chosen"]["position"]
        axis.plot(ridges[chosen], values[chosen], marker=marker, color=colour, markersize=9)
        lambdas += ridges.tolist()
    _log_ridges(axis, pd.Series(lambdas), "λ = ρ / n")
    axis.set_ylabel(metric_name(metric))
    if metric.endswith("loss"):
        log_axis(axis, "y")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def converged_sentence(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return in words how many ridges of a run were solved to their tolerance, or how training by gradients ended."""
    missed = [entry for entry in entries if fell_short(entry)]
    if all(convergence(entry) is None for entry in entries):
        diverged = f"; {len(missed)} of {len(entries)} diverged" if missed else ""
        return f"trained for {max(entry['iterations'] for entry in entries)} epochs{diverged}"
    if not missed:
        return f"all {len(entries)} converged" if len(entries) > 1 else "converged"
    diverged = sum(bool(entry.get("diverged")) for entry in missed)
    told = f"{len(missed)} of {len(entries)} did not converge"
    return f"{told}, {diverged} of them diverged" if diverged else told
