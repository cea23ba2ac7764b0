"""Pictures of a score of several runs against the noise level, or dot charts if there is only one level.

The score of a run is its score at the chosen ridge.
"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.report.style import (
    COLOURS,
    LINES,
    MARKERS,
    NARROW,
    by_numbers,
    cap_accuracy,
    dot_chart,
    handles_of,
    legend_below,
    metric_name,
    new_figure,
)

# Settings that distinguish runs of one model in a legend, with their symbols. Seeds are averaged and thus not named.
_APART = {
    "num_units": "N", "data_n_train": "n", "hidden_layers": "layers", "kind": "", "law": "", "directions": "",
    "depth": "depth", "head": "", "degree": "degree", "offset": "c", "scale": "", "loss": "", "drop_rate": "dropout",
    "learning_rate": "rate", "max_cg_iters": "steps", "validation": "validation", "chosen_by": "by",
    "synth_dim": "d", "synth_eta": "η", "synth_n": "rows",
}  # fmt: skip

_PREDICTED = {  # metric -> column of its prediction from the train rows, for fixed kernels
    "test_loss": "predicted_loss", "test_normalised_loss": "predicted_normalised_loss",
}  # fmt: skip


def labelled(table: pd.DataFrame) -> pd.Series:
    """Return the label of each run, which names the line on which it is drawn: its model, and some of its settings.

    A setting is part of the label if runs of the same model on one dataset differ in it. The number of train rows is
    part of the label if any runs on the same dataset differ in it. Runs that differ only in the seed or in the noise
    level have the same label.

    Args:
        table: Table with one row per run (`linearized.storage.results.collect`).
    """
    labels = table["model"].astype(str).copy()
    for _, on_dataset in table.groupby("dataset"):
        several = "data_n_train" in on_dataset and on_dataset["data_n_train"].nunique() > 1
        for _, rows in on_dataset.groupby("model"):
            for column, sign in _APART.items():
                if column in rows and (rows[column].nunique() > 1 or (several and column == "data_n_train")):
                    values = rows[column].map(_value)
                    values = values.str.replace(r" \(.*\)", "", regex=True)  # "test accuracy (published protocol)"
                    labels[rows.index] += ", " + (f"{sign} = " + values if sign else values)
    return labels


def _value(value: Any) -> str:
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if value == round(value) and abs(value) >= 1000 else f"{value:g}"
    return str(value)


def noise_curves(table: pd.DataFrame, *, metric: str = "test_accuracy", narrow: bool = False) -> Figure:
    """Draw a metric at the chosen ridge against the noise level: one panel per dataset, one line per model or kernel.

    A dataset with a single level gets a dot chart. Runs that diverged are left out and counted in the title of the
    panel. The title also gives n, the number of train rows, if it is the same for all lines. If the table has test
    metrics that were predicted from the train rows, they are drawn as dotted lines.

    Args:
        table: Result of `linearized.storage.results.collect`. Lines are labelled by `labelled`; runs that differ only
            in the seed are averaged, with the standard deviation as an error bar.
        metric: Column to draw.
        narrow: Whether the figure has the fixed width of a picture in the HTML report; suitable for a single dataset.
    """
    table = table.dropna(subset=[metric]).reset_index(drop=True)
    table = table.assign(label=labelled(table))
    diverged = table["diverged"].eq(True) if "diverged" in table else pd.Series(False, table.index)
    datasets, labels = sorted(table["dataset"].unique()), sorted(table["label"].unique(), key=by_numbers)
    columns = min(len(datasets), 3)
    letters = 24 if narrow or columns > 1 else 44
    height = max(_height(table[(table["dataset"] == dataset) & ~diverged], letters) for dataset in datasets)
    rows = -(-len(datasets) // columns)
    figure, axes = new_figure(NARROW if narrow else 1.0 + 4.6 * columns, height * rows, nrows=rows, ncols=columns)
    for axis in axes[len(datasets) :]:
        axis.remove()
    axes = axes[: len(datasets)]
    for axis, dataset in zip(axes, datasets, strict=True):
        here = table["dataset"] == dataset
        drawn = table[here & ~diverged]
        _panel(axis, drawn, metric, labels, letters)
        axis.set_title(_title(dataset, table[here], int((here & diverged).sum())), fontsize=10)
    named = handles_of(axes)
    legend_below(figure, {label: named[label] for label in [*labels, PREDICTED_LABEL] if label in named})
    return figure


def _height(rows: pd.DataFrame, letters: int) -> float:
    """Return the height in inches of one dataset's panel, which depends on its number of lines or dots.

    Args:
        rows: Runs on the dataset, with the column `label`.
        letters: Number of letters after which labels are wrapped.
    """
    labels = rows["label"].unique()
    if rows["noise_ind"].nunique() > 1:
        return max(3.0, 0.4 + 0.36 * len(labels))
    return max(1.6, 1.0 + sum(0.15 + 0.15 * (1 + len(label) // letters) for label in labels))


def _panel(axis: Axes, rows: pd.DataFrame, metric: str, labels: list[str], letters: int) -> None:
    """Draw the results on one data set: lines over the noise levels, or dots if there is only one level.

    Args:
        axis: Axis to draw on.
        rows: Runs on the data set; the column `label` names the model or kernel.
        metric: Column to draw.
        labels: All values of `label` on any data set. The index in this list determines the colour.
        letters: Number of letters after which labels are wrapped.
    """
    if rows["noise_ind"].nunique() > 1:
        for label, line in _in_order(rows, labels):
            line_with_spread(axis, line.groupby("noise_ind")[metric], str(label), labels.index(label))
            predicted_line(axis, line, line["noise_ind"], metric, labels.index(label))
        name_predicted_lines(axis)
        axis.set(xlabel="noise level (noise_ind)", ylabel=metric_name(metric))
        axis.set_xlim(rows["noise_ind"].min() - 0.5, rows["noise_ind"].max() + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        cap_accuracy(axis, metric)
        return
    dots = [dot(same[metric], label, labels.index(label)) for label, same in _in_order(rows, labels)]
    dot_chart(axis, dots, metric, letters)
    level = f", noise level {rows['noise_ind'].iloc[0]}" if len(rows) else ""
    axis.set_xlabel(f"{metric_name(metric)}{level}")


def _in_order(rows: pd.DataFrame, labels: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """Return pairs of label and its runs in the order of `labels`, without labels that have no runs.

    Args:
        rows: Runs on one dataset, with the column `label`.
        labels: Labels of all datasets.
    """
    return [(label, same) for label in labels if len(same := rows[rows["label"] == label])]


def _title(dataset: str, rows: pd.DataFrame, diverged: int) -> str:
    sizes = rows["data_n_train"].unique() if "data_n_train" in rows else ()
    shared = f", n = {int(sizes[0]):,}" if len(sizes) == 1 and pd.notna(sizes[0]) else ""
    left_out = f"\nwithout {diverged} run{'s' * (diverged > 1)} that diverged" if diverged else ""
    return f"{dataset}{shared}{left_out}"


def line_with_spread(axis: Axes, groups: Any, label: str, place: int, line: str = "") -> None:
    """Draw the mean of each group of values against the group's key, with the standard deviation as an error bar.

    Args:
        axis: Axis to draw on.
        groups: Values grouped by their horizontal position, as pandas' `groupby` returns them.
        label: Label in the legend.
        place: Index of the line, which selects colour, marker and line style.
        line: Line style; "": the one that `place` selects.
    """
    means, spreads = groups.mean(), groups.std().fillna(0.0).to_numpy(float)
    axis.errorbar(
        means.index.to_numpy(), means.to_numpy(float), yerr=spreads, color=COLOURS[place % len(COLOURS)],
        marker=MARKERS[place % len(MARKERS)], linestyle=line or LINES[place // len(COLOURS) % len(LINES)], capsize=2,
        label=label, clip_on=False,
    )  # fmt: skip


PREDICTED_LABEL = "predicted by leave-one-out"


def predicted_line(axis: Axes, rows: pd.DataFrame, where: pd.Series, metric: str, place: int) -> None:
    """Draw a dotted line of the test metric that was predicted from the train rows, if there are predictions.

    Runs of fixed kernels contain a prediction by leave-one-out at the chosen ridge.

    Args:
        axis: Axis to draw on.
        rows: Runs of one line.
        where: Horizontal position of each run.
        metric: Column of the metric that is predicted.
        place: Index of the line, which selects its colour, as in `line_with_spread`.
    """
    column = _PREDICTED.get(metric)
    if column not in rows or not rows[column].notna().any():
        return
    means = rows[column].astype(float).groupby(where).mean()
    axis.plot(means.index.to_numpy(), means.to_numpy(), linestyle=(0, (1, 1)), linewidth=2.2, zorder=3,
              color=COLOURS[place % len(COLOURS)], gid=PREDICTED_LABEL)  # fmt: skip


def name_predicted_lines(axis: Axes) -> None:
    """Add one entry to the legend of an axis that stands for all lines of `predicted_line`, if there are any."""
    if any(line.get_gid() == PREDICTED_LABEL for line in axis.get_lines()):
        axis.plot([], [], linestyle=(0, (1, 1)), linewidth=2.2, color="0.4", label=PREDICTED_LABEL)


def dot(values: pd.Series, label: str, place: int) -> tuple[str, float, float, str, str]:
    """Return one row of a dot chart for the mean of some values: (label, mean, standard deviation, colour, marker).

    `style.dot_chart` accepts such rows.

    Args:
        values: Values of runs that differ only in the seed.
        label: Label of the row.
        place: Index of the row, which selects colour and marker.
    """
    spread = float(values.std()) if len(values) > 1 else 0.0
    return label, float(values.mean()), spread, COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
