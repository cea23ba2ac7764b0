"""Pictures of the measurements of a network's tangent kernel during training (`--tangent_at`).

The measurements are drawn against the epoch or, at the end of training, against the width. All scores are scores on the
test rows of the measurement. Kernels are fitted to the train rows of the measurement, networks to all of their train
rows. The change of the tangent kernel K (n, n) between the n train rows of the measurement is described by numbers in
[0, 1]:

- Distance from the start: 1 - ⟨K, K₀⟩/(‖K‖‖K₀‖), for the kernel K₀ at the first measured epoch and Frobenius norms.
- Alignment with the start: the cosine between the centred K and the centred K₀.
- Alignment with the labels: the cosine between the centred K and the centred YYᵀ, for targets Y.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.report.style import (
    COLOURS,
    LINES,
    MARKERS,
    NARROW,
    cap_accuracy,
    handles_of,
    legend_below,
    new_figure,
    spread_out,
    wrapped_title,
)
from linearized.report.ticks import log_axis

PANELS = ("scores", "kernel", "weights", "rank")
_SCORES = {  # start of the column's name -> label, colour, marker, line style
    "network": ("network", COLOURS[6], "o", "-"),
    "linearization": ("its linearization at epoch t, fitted from 0", COLOURS[0], "s", "-"),
    "linearization_offset": ("its linearization at epoch t, fitted from f(x; t)", COLOURS[5], "D", "--"),
    "last_layer": ("its last-layer kernel at epoch t", COLOURS[2], "^", "-"),
}
_KERNEL = {
    "distance_from_start": ("tangent kernel: distance from the start", "0.45", "v", "-"),
    "alignment_with_start": ("tangent kernel: alignment with the start", COLOURS[4], "s", "-"),
    "label_alignment": ("tangent kernel: alignment with the labels", COLOURS[3], "P", "-"),
    "features_alignment_with_start": ("last-layer kernel: alignment with the start", COLOURS[4], "^", "--"),
}
_INFINITE = "tangent kernel of infinite width"
LAYERS = 8  # approximate number of layers in the legend of the panel of weights
_BY_WIDTH = {
    "network_end": ("network", COLOURS[6], "o", "-"),
    "linearization_start": ("its linearization at the start", COLOURS[0], "s", "-"),
    "linearization_end": ("its linearization at the end", COLOURS[5], "D", "-"),
    "last_layer_end": ("its last-layer kernel at the end", COLOURS[2], "^", "-"),
}


def measured(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the measurements of `--tangent_at` as a table with one row for each run and measured epoch.

    Further columns are `run` (the index of the run in `records`), `model`, `num_units`, and the scores of the kernel of
    infinite width (`infinite_width_accuracy` and `infinite_width_loss`).

    Args:
        records: Contents of the `result.json` of several runs; runs without measurements are left out.
    """
    rows = []
    for number, record in enumerate(records):
        found = record.get("tangents")
        if found is None:
            continue
        infinite = found.get("infinite_width") or {}
        shared = {
            "run": number, "model": record["settings"].get("model"), "num_units": record["settings"].get("num_units"),
            **{f"infinite_width_{name}": infinite.get(name) for name in ("accuracy", "loss")},
        }  # fmt: skip
        for entry in found["epochs"]:
            changes = {f"weights {layer}": value for layer, value in entry["weight_change"].items()}
            plain = {name: value for name, value in entry.items() if name != "weight_change"}
            rows.append({**shared, **plain, **changes})
    return pd.DataFrame(rows)


def metric_of(table: pd.DataFrame) -> str:
    """Return "accuracy" if the table has accuracies of networks, otherwise "loss".

    Args:
        table: Measurements, as `measured` returns them.
    """
    return "accuracy" if table["network_accuracy"].notna().any() else "loss"


def lazy_to_rich(record: Mapping[str, Any], panels: Iterable[str] = PANELS, *, narrow: bool = False) -> Figure:
    """Draw the measurements of one run against the epoch, one panel for each kind of measurement.

    Args:
        record: Content of the `result.json` of a run with `--tangent_at`.
        panels: Names of the panels to draw, from "scores", "kernel", "weights" and "rank", see `draw_panel`.
        narrow: Whether the figure has the fixed width of a picture in the HTML report, and no title (the report shows
            the name of the run above the figure); suitable for one panel.
    """
    table, panels = measured([record]), list(panels)
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(NARROW if narrow else 1 + 4.3 * columns, 3.1 * rows, nrows=rows, ncols=columns)
    for axis, panel in zip(axes, panels, strict=False):
        draw_panel(axis, table, panel)
    if not narrow:
        sizes = record["tangents"]["rows"]
        wrapped_title(figure, f"{record['title']}; measured on {sizes['train']} train and {sizes['test']} test rows")
    named = handles_of(axis for axis, panel in zip(axes, panels, strict=False) if panel != "weights")
    legend_below(figure, named)
    return figure


def draw_panel(axis: Axes, table: pd.DataFrame, panel: str) -> None:
    """Draw one panel against the epoch; several runs are averaged, with standard deviations as error bars.

    Args:
        axis: Axis to draw on.
        table: Result of `measured`.
        panel: Name of the panel. "scores": scores on the test rows. "kernel": distance and alignments of the tangent
            kernel, which the module's docstring defines, and the alignment of the last-layer kernel with the start.
            "weights": change ‖W - W₀‖/‖W₀‖ of the weights of each layer from the initial weights W₀. "rank": effective
            rank of the tangent kernel (`linearized.tangents.comparison.effective_rank`).
    """
    epochs = sorted(table["epoch"].unique())
    places = {epoch: place for place, epoch in enumerate(epochs)}
    table = table.assign(place=table["epoch"].map(places))
    if panel == "scores":
        metric = metric_of(table)
        _lines(axis, table, {f"{who}_{metric}": look for who, look in _SCORES.items()}, "place")
        _horizontal(axis, table, metric)
        axis.set_ylabel(f"test {metric}")
        focus(axis, table, metric)
    elif panel == "kernel":
        _lines(axis, table, _KERNEL, "place")
        axis.set(ylabel="1 - cosine, or alignment", ylim=(-0.03, 1.03))
    elif panel == "weights":
        layers = [name for name in table if name.startswith("weights ")]
        names = spread_out(len(layers), LAYERS)
        labels = [name.removeprefix("weights ") if at in names else "_" for at, name in enumerate(layers)]
        looks = {name: (labels[at], COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)], LINES[at % len(LINES)])
                 for at, name in enumerate(layers)}  # fmt: skip
        _lines(axis, table, looks, "place")
        axis.set_ylabel("change of weights, relative")
        axis.legend(loc="upper left", fontsize=8, ncols=2 if len(layers) > 4 else 1, frameon=False)
    else:
        _lines(axis, table, {"effective_rank": ("_", COLOURS[6], "X", "-")}, "place")
        axis.set(ylabel="effective rank of the kernel", ylim=(0, None))
    axis.set_xticks(range(len(epochs)), [f"{epoch:,}" for epoch in epochs])
    axis.set_xlim(-0.3, len(epochs) - 0.7)
    axis.set_xlabel("epoch t")


def at_the_ends(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run: its measurements at the first epoch (suffix `_start`) and at the last one (`_end`).

    Args:
        table: Measurements, as `measured` returns them.
    """
    ordered = table.sort_values(["run", "epoch"]).groupby("run")
    return ordered.head(1).set_index("run").add_suffix("_start").join(
        ordered.tail(1).set_index("run").add_suffix("_end")
    )  # fmt: skip


def width_curves(table: pd.DataFrame, title: str = "", *, narrow: bool = False) -> Figure:
    """Draw test scores at the end of training and the change of the tangent kernel against the width, in two panels.

    The scores are those of the network, of its linearizations at the first and the last measured epoch, of its
    last-layer kernel and, if known, of the tangent kernel of infinite width. The change of the tangent kernel is its
    distance from the kernel at the first measured epoch, and its alignments with that kernel and with the labels, which
    the module's docstring defines.

    Args:
        table: Measurements, as `measured` returns them, for runs of one model that differ in the width (and in seeds,
            which are averaged).
        title: Title of the figure; "" for none.
        narrow: Whether the figure has the fixed width of a picture in the HTML report, with one panel below the other.
    """
    figure, axes = new_figure(NARROW if narrow else 9.6, 5.8 if narrow else 3.3, nrows=2 if narrow else 1,
                              ncols=1 if narrow else 2)  # fmt: skip
    draw_width(axes[0], axes[1], table)
    if title:
        wrapped_title(figure, title)
    legend_below(figure, handles_of(axes))
    return figure


def draw_width(scores: Axes, kernel: Axes, table: pd.DataFrame) -> None:
    """Draw the two panels of `width_curves`, test scores and the change of the tangent kernel, on given axes.

    Args:
        scores: Axis of the test scores.
        kernel: Axis of the change of the tangent kernel (distance and alignments).
        table: Measurements, as `measured` returns them.
    """
    metric, ends = metric_of(table), at_the_ends(table)
    _lines(scores, ends, {f"{name.rsplit('_', 1)[0]}_{metric}_{name.rsplit('_', 1)[1]}": look
                          for name, look in _BY_WIDTH.items()}, "num_units_end")  # fmt: skip
    _horizontal(scores, table, metric)
    scores.set_ylabel(f"test {metric}")
    cap_accuracy(scores, metric)
    looks = {f"{name}_end": look for name, look in _KERNEL.items() if name != "features_alignment_with_start"}
    _lines(kernel, ends, looks, "num_units_end")
    kernel.set(ylabel="1 - cosine, or alignment", ylim=(-0.03, 1.03))
    widths = sorted(ends["num_units_end"].unique())
    for axis in (scores, kernel):
        log_axis(axis, "x")
        axis.set_xticks(widths, [f"{int(width):,}" for width in widths])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("width N")


def _lines(axis: Axes, table: pd.DataFrame, looks: Mapping[str, tuple[str, str, str, str]], x: str) -> None:
    for column, (label, colour, marker, line) in looks.items():
        if column not in table or table[column].isna().all():
            continue
        groups = table.assign(value=table[column].astype(float)).groupby(x)["value"]
        means, spreads = groups.mean(), groups.std().fillna(0.0).to_numpy(float)
        axis.errorbar(means.index.to_numpy(float), means.to_numpy(float), yerr=spreads if spreads.any() else None,
                      color=colour, marker=marker, markersize=5, linestyle=line, capsize=2, label=label)  # fmt: skip


def focus(axis: Axes, table: pd.DataFrame, metric: str) -> None:
    """Limit the vertical axis of a panel to the scores of the kernels and the network's score at the last epoch.

    The network's scores at earlier epochs may lie outside of these limits.

    Args:
        axis: Axis of the scores.
        table: Result of `measured`.
        metric: "accuracy" or "loss".
    """
    last = table[table["epoch"] == table["epoch"].max()]
    kernels = [f"{who}_{metric}" for who in _SCORES if who != "network"] + [f"infinite_width_{metric}"]
    values = pd.concat([last[f"network_{metric}"], *(table[name] for name in kernels)]).dropna().astype(float)
    low, high = values.min(), values.max()
    room = max(0.15 * (high - low), 0.01 * abs(high), 1e-9)
    above = 4 * room if metric == "loss" else room
    axis.set_ylim(low - (room if metric == "loss" else 4 * room), high + above)
    cap_accuracy(axis, metric)


def _horizontal(axis: Axes, table: pd.DataFrame, metric: str) -> None:
    values = table[f"infinite_width_{metric}"].dropna().astype(float)
    if len(values):
        axis.axhline(float(np.mean(values)), color=COLOURS[1], linestyle=":", linewidth=2, label=_INFINITE)
