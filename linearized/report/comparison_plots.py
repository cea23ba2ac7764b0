"""Picture of a comparison: one dot per model and seed for the test metric, and one bar per model for each cost."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from linearized.experiments.compare_table import by_model, spread, untrained
from linearized.report.style import COLOURS, new_figure, wrapped_title

METRICS = ("test_accuracy", "test_r2", "test_loss")  # only the first one that was measured is drawn
BARS = ("seconds", "memory_gib", "trained_parameters", "examples_per_second")
LETTERS = 26  # largest number of letters of a model's name on one line
NOTE = "open dots mark runs that were not trained to their end"


def comparison_bars(record: Mapping[str, Any]):
    """Return a Matplotlib figure of a comparison: the test metric, and one panel per measured cost.

    Each model has one row. The metric is drawn as one dot per seed, with a line at their mean, on an axis that covers
    only the range of the values; dots of models that were not fully trained are open. Costs (seconds, memory,
    parameters, speed) are bars from 0 to the mean, with one dot per seed if there are several.

    Args:
        record: Content of `comparison.json`: a mapping with `title`, `columns` (name -> title) and `rows` (one per
            model and seed), each with a `label`; values that were not measured are None.
    """
    models, columns = by_model(record["rows"]), record["columns"]
    measured = [name for name in columns if any(row.get(name) is not None for row in record["rows"])]
    metric = next((name for name in METRICS if name in measured), None)
    costs = [name for name in BARS if name in measured]
    labels = [_wrapped(label, LETTERS) for label in models]
    height = 1.3 + sum(0.28 + 0.15 * (1 + label.count("\n")) for label in labels)
    widths = ([3.4] if metric else []) + [2.0] * len(costs)
    figure, axes = new_figure(2.4 + sum(widths), height, nrows=1, ncols=len(widths), sharey=True,
                              width_ratios=widths)  # fmt: skip
    if metric:
        _metric(axes[0], metric, models)
    for axis, name in zip(axes[bool(metric) :], costs, strict=True):
        _bars(axis, name, models)
    for axis, name in zip(axes, [*([metric] if metric else []), *costs], strict=True):
        axis.set_title(columns[name], fontsize=10)
    axes[0].set_yticks(range(len(models)), labels, fontsize=9)
    axes[0].set_ylim(len(models) - 0.5, -0.5)
    if metric and any(untrained(row) for row in record["rows"]):
        axes[0].set_xlabel(NOTE, fontsize=8)
    wrapped_title(figure, record["title"])
    return figure


def _metric(axis, name: str, models: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw one dot per model and seed on an axis that covers the values and has space for the numbers beside them.

    Args:
        axis: Axis to draw on.
        name: Column of the metric.
        models: Rows of the comparison by model, one row per seed.
    """
    values = [row[name] for rows in models.values() for row in rows if row.get(name) is not None]
    low, high = min(values), max(values)
    width = max(high - low, 0.01 * abs(high), 1e-9)
    for place, rows in enumerate(models.values()):
        measured = [row for row in rows if row.get(name) is not None]
        if not measured:
            axis.text(low, place, "-", va="center", fontsize=9)
            continue
        own = [row[name] for row in measured]
        for still_moving, face in ((False, COLOURS[0]), (True, "none")):
            shown = [row[name] for row in measured if untrained(row) == still_moving]
            axis.plot(shown, [place] * len(shown), "o", markersize=5.5, markerfacecolor=face,
                      markeredgecolor=COLOURS[0], zorder=3)  # fmt: skip
        if len(set(own)) > 1:
            axis.plot([np.mean(own)] * 2, [place - 0.25, place + 0.25], color=COLOURS[1], linewidth=1.5, zorder=4)
        axis.annotate(spread(own), (max(own), place), (7, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_xlim(low - 0.12 * width, high + 0.95 * width)
    ticks = [tick for tick in axis.get_xticks() if low - 0.12 * width <= tick <= high + 0.12 * width]
    axis.set_xticks(ticks[:: max(1, len(ticks) // 3)])
    axis.tick_params(axis="both", length=0, labelsize=8)
    axis.grid(visible=False, axis="y")


def _bars(axis, name: str, models: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw one bar per model from 0 to the mean over its seeds, with one dot per seed if there are several.

    Args:
        axis: Axis to draw on.
        name: Column of the cost.
        models: Rows of the comparison by model, one row per seed.
    """
    own = [[row[name] for row in rows if row.get(name) is not None] for rows in models.values()]
    averages = [float(np.mean(values)) if values else None for values in own]
    axis.barh(range(len(models)), [value or 0.0 for value in averages], height=0.6, color=COLOURS[5])
    for place, (values, average) in enumerate(zip(own, averages, strict=True)):
        if len(set(values)) > 1:
            axis.plot(values, [place] * len(values), "o", markersize=3, color=COLOURS[0], zorder=3)
        end = (max(values, default=0.0), place)
        axis.annotate(_shown(average), end, (5, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_xlim(0, 1.6 * max((value for values in own for value in values), default=1.0) or 1.0)
    axis.tick_params(axis="both", length=0, labelbottom=False)
    axis.grid(False)


def _wrapped(label: str, letters: int) -> str:
    """Break a label into lines of about `letters` letters, after the characters ":", "=", ",", "_" and spaces."""
    lines = [""]
    for part in re.findall(r"[^:=,_ ]*(?:[:=,_ ]+|$)", label):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
