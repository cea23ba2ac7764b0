"""Pictures of the features that approximate kernels: their error, and their time compared with other methods."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.report.style import COLOURS, LINES, MARKERS, handles_of, legend_below, new_figure
from linearized.report.ticks import log_axis


def embedding_curves(record: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw up to three panels: error against the degree of a sketch, error against the dimension, and time against n.

    Args:
        record: Lists of measurements by panel; panels without measurements are left out. The panel "degree" has
            measurements with `degree` and `error`, "dim" with `dim`, `method` and `error`, and "rows" with `n`, `way`
            (name of the method) and `cpu` (seconds of processor time). An error is the Frobenius norm of the difference
            between the approximate and the exact kernel matrix, divided by the norm of the exact matrix.
    """
    parts = [part for part in ("degree", "dim", "rows") if record.get(part)]
    figure, axes = new_figure(4.4 * len(parts), 3.6, ncols=len(parts))
    looks: dict[str, int] = {}  # the panels share a legend, so each name has a style of its own
    for axis, part in zip(axes, parts, strict=True):
        entries = record[part]
        if part == "degree":
            _line(axis, [(one["degree"], one["error"]) for one in entries], 0, None)
            axis.set(xlabel="degree of the sketch", ylabel="relative error")
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        elif part == "dim":
            _lines(axis, entries, "method", ("dim", "error"), looks)
            _slope(axis, [one["dim"] for one in entries], max(one["error"] for one in entries))
            axis.set(xlabel="features m", ylabel="relative error")
        else:
            _lines(axis, entries, "way", ("n", "cpu"), looks)
            axis.set(xlabel="rows n", ylabel="processor seconds")
        if part != "degree":
            log_axis(axis, "x")
        log_axis(axis, "y")
    legend_below(figure, handles_of(axes))
    return figure


def _lines(
    axis: Axes, entries: Sequence[Mapping[str, Any]], group: str, names: tuple[str, str], looks: dict[str, int]
) -> None:
    for name in dict.fromkeys(one[group] for one in entries):
        place = looks.setdefault(name, len(looks))
        _line(axis, [(one[names[0]], one[names[1]]) for one in entries if one[group] == name], place, name)


def _line(axis: Axes, points: Sequence[tuple[float, float]], place: int, label: str | None) -> None:
    x, y = zip(*sorted(points), strict=True)
    axis.plot(x, y, LINES[place % len(LINES)], marker=MARKERS[place % len(MARKERS)],
              color=COLOURS[place % len(COLOURS)], label=label)  # fmt: skip


def _slope(axis: Axes, dims: Sequence[float], start: float) -> None:
    """Draw a reference line proportional to 1/√m above the measured errors, unless there is only a single dimension.

    Args:
        axis: Axis to draw on.
        dims: Numbers of features m.
        start: Largest measured error; the line starts above it.
    """
    low, high = min(dims), max(dims)
    if low < high:
        start *= 1.3
        axis.plot([low, high], [start, start * (low / high) ** 0.5], ":", color="0.5", label="1/√m")
