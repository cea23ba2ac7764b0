"""A metric of the chosen ridge against the noise level: the main figure."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.style import COLOURS, LINES, MARKERS, NARROW, metric_name, new_figure

# What tells runs of one model apart in a legend, with its sign there. Seeds are averaged over, so they are not named.
_APART = {
    "num_units": "N", "data_n_train": "n", "hidden_layers": "layers", "kind": "", "law": "", "directions": "",
    "depth": "depth", "head": "", "degree": "degree", "offset": "c", "scale": "", "loss": "", "drop_rate": "dropout",
    "learning_rate": "rate", "max_cg_iters": "steps", "validation": "validation", "chosen_by": "by",
    "synth_dim": "d", "synth_eta": "η", "synth_n": "rows",
}  # fmt: skip


def labelled(table: pd.DataFrame) -> pd.Series:
    """A name for each run's line: the model, and what it takes to tell runs of one model on one dataset apart.

    Runs that differ in seeds alone share a name, and so do the levels of one line.
    """
    labels = table["model"].astype(str).copy()
    for _, rows in table.groupby(["dataset", "model"]):
        for column, sign in _APART.items():
            if column in rows and rows[column].nunique() > 1:
                values = rows[column].map(lambda value: f"{value:g}" if isinstance(value, (int, float)) else str(value))
                values = values.str.replace(r" \(.*\)", "", regex=True)  # "test accuracy (published protocol)"
                labels[rows.index] += ", " + (f"{sign} = " + values if sign else values)
    return labels


def noise_curves(table: pd.DataFrame, *, metric: str = "test_accuracy", narrow: bool = False) -> Figure:
    """A metric of the chosen ridge against the noise level, a panel a dataset and a line a model or kernel.

    Args:
        table: Of `data.results.collect`. Lines are told apart by `labelled`; runs that differ in seeds alone are
            averaged, with the standard deviation as an error bar.
        narrow: For one dataset inside a page: the legend stands below.
    """
    table = table.dropna(subset=[metric]).reset_index(drop=True)
    table = table.assign(label=labelled(table))
    datasets, labels = sorted(table["dataset"].unique()), sorted(table["label"].unique())
    columns = 2 if max(map(len, labels)) < 24 else 1
    below = 0.17 * -(-len(labels) // columns)
    size = (NARROW, 3.2 + below) if narrow else (4.6 * len(datasets) + 1.5, max(3.6, 0.5 + 0.22 * len(labels)))
    figure, axes = new_figure(*size, ncols=len(datasets))
    for axis, dataset in zip(axes, datasets, strict=True):
        rows = table[table["dataset"] == dataset]
        for label, line in rows.groupby("label"):
            line_with_spread(axis, line.groupby("noise_ind")[metric], str(label), labels.index(label))
        axis.set(xlabel="noise level (noise_ind)", ylabel=metric_name(metric), title=dataset)
        axis.set_xlim(rows["noise_ind"].min() - 0.5, rows["noise_ind"].max() + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    named = {
        label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }  # fmt: skip
    place = {"loc": "outside lower center", "ncols": columns} if narrow else {"loc": "outside right upper"}
    figure.legend([named[label] for label in labels], labels, frameon=False, **place)
    return figure


def line_with_spread(axis: Axes, groups: Any, label: str, place: int) -> None:
    """Draws the mean of each group against its key, the standard deviation as an error bar; `place` picks the look."""
    means, spreads = groups.mean(), groups.std().fillna(0.0).to_numpy(float)
    axis.errorbar(
        means.index.to_numpy(), means.to_numpy(float), yerr=spreads, color=COLOURS[place % len(COLOURS)],
        marker=MARKERS[place % len(MARKERS)], linestyle=LINES[place // len(COLOURS) % len(LINES)], capsize=2,
        label=label,
    )  # fmt: skip
