"""Pictures of recursive feature machines: scores and properties of the learned metric M against the iteration, and M.

A feature machine learns the metric M of a kernel k(√M x, √M z) in several iterations. For image data, the diagonal of
M, which is the weight of each pixel, and its leading eigenvector are drawn as images.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.report.style import COLOURS, NARROW, cap_accuracy, handles_of, legend_below, new_figure, wrapped_title
from linearized.report.ticks import log_axis
from linearized.settings.feature_machine_settings import shared_start

PANELS = ("scores", "metric", "spectrum")  # panels that need only the record
PICTURES = ("entries", "diagonal", "network", "direction")  # panels that need M, or the network of --ansatz_model
_SPLITS = {"validation": (COLOURS[0], "o"), "leave_one_out": (COLOURS[2], "s"), "test": (COLOURS[1], "^")}
_SHARES = {  # entry of a step -> its name on the axis, its name in the legend, colour and marker
    "overlap": ("share of tr M", "share of tr M in the directions of the labels", COLOURS[2], "o"),
    "ansatz": ("correlation", "correlation of M with WWᵀ of the network", COLOURS[3], "s"),
}
MOST_COLUMNS = 400  # largest number of columns of a metric whose entries are drawn


def feature_machine(
    record: Mapping[str, Any], metric: np.ndarray | None = None, panels: Iterable[str] | None = None, *,
    network: np.ndarray | None = None, narrow: bool = False,
) -> Figure:  # fmt: skip
    """Draw the measurements of a run of `--kernel=RFM`, one panel for each quantity.

    Args:
        record: Content of the run's `result.json`.
        metric: M of the best iteration, (d, d), or its diagonal (d,), from arrays.h5; None leaves out the panels of M.
        panels: Names of the panels to draw; None draws all that are possible. "scores", "metric" (measures of M) and
            "spectrum" (eigenvalues of M) need only the record. "entries", "diagonal" and "direction" (leading
            eigenvector) show the M that is given as `metric`, "network" shows `network`.
        network: Diagonal of WWᵀ for the first-layer weights W of the network of --ansatz_model (d,), from arrays.h5;
            None leaves out its panel.
        narrow: Whether the figure has the fixed width of a picture in the HTML report, and no title (the report shows
            the name of the run above the figure); suitable for one panel.
    """
    machine = record["feature_machine"]
    if panels is None:
        panels = [*PANELS, *([] if metric is None else _pictures(machine, metric, network))]
    panels = list(panels)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(NARROW if narrow else 0.6 + 3.9 * columns, 3.1 * rows, nrows=rows, ncols=columns)
    for axis, panel in zip(axes, panels, strict=False):
        if panel in PANELS:
            {"scores": _scores, "metric": _metric, "spectrum": _spectrum}[panel](axis, machine)
        elif panel == "network":
            _strengths(axis, machine, network, "diagonal of WWᵀ of the network")
        else:
            {"entries": _entries, "diagonal": _diagonal, "direction": _direction}[panel](axis, machine, metric)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if not narrow:
        best = machine["steps"][machine["best"]]
        name = machine["variants"][best["variant"]]["name"] if best["iteration"] else "the fixed kernel"
        wrapped_title(figure, f"{record['title']}; best is iteration {best['iteration']}, {name}")
    legend_below(figure, handles_of(axes))
    return figure


def _pictures(machine: Mapping[str, Any], metric: np.ndarray, network: np.ndarray | None) -> list[str]:
    if not machine["steps"][machine["best"]]["iteration"]:  # M is the identity, which has no leading direction
        return [] if network is None else ["network"]
    drawn = {"entries": metric.ndim == 2 and len(metric) <= MOST_COLUMNS, "diagonal": True,
             "network": network is not None, "direction": metric.ndim == 2 and machine["image_shape"]}  # fmt: skip
    return [panel for panel in PICTURES if drawn[panel]]


def _lines(machine: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
    """Return a dictionary from the number of each variant to the records of its iterations.

    A variant is a combination of settings of the machine. Its first record is that of iteration 0, the fixed kernel;
    variants that start from the same fixed kernel share this record.

    Args:
        machine: Entry "feature_machine" of the run's `result.json`.
    """
    steps, variants = machine["steps"], machine["variants"]
    start = {step["variant"]: step for step in steps if step["iteration"] == 0}
    return {
        number: [start[shared_start(variants, number)],
                 *(one for one in steps if one["variant"] == number and one["iteration"])]
        for number in range(len(variants))
    }  # fmt: skip


def _value(step: Mapping[str, Any], name: str) -> float:
    value = step["ridges"][step["position"]].get(name)
    return np.nan if value is None else value


def _scores(axis: Axes, machine: Mapping[str, Any]) -> None:
    """Draw the scores at the best ridge of each iteration against the iteration.

    The best variant (combination of settings of the machine) has thick lines, the others have thin ones.

    Args:
        axis: Axis to draw on.
        machine: Entry "feature_machine" of the run's `result.json`.
    """
    best, lines = machine["steps"][machine["best"]], _lines(machine)
    entry = best["ridges"][best["position"]]
    metric = "loss" if entry.get("test_accuracy") is None else "accuracy"
    for split, (colour, marker) in _SPLITS.items():
        name = f"{split}_{metric}"
        if entry.get(name) is None:
            continue
        for number, steps in lines.items():
            own = number == best["variant"]
            look = {"marker": marker, "markersize": 4, "label": f"{split.replace('_', '-')} {metric}"} if own else {
                "linewidth": 0.6, "alpha": 0.45, "label": "_"}  # fmt: skip
            axis.plot([step["iteration"] for step in steps], [_value(step, name) for step in steps], color=colour,
                      **look)  # fmt: skip
        axis.plot(best["iteration"], entry[name], marker, color=colour, markersize=9, label="_")
    if len(lines) > 1:
        axis.plot([], [], color="0.4", linewidth=0.6, alpha=0.6, label="other metrics")
    axis.set(xlabel="iteration", ylabel=metric)
    if metric == "loss" and axis.dataLim.ymax > 5 * max(axis.dataLim.ymin, 1e-300):
        log_axis(axis, "y")
    cap_accuracy(axis, metric)
    _whole(axis)


def _metric(axis: Axes, machine: Mapping[str, Any]) -> None:
    """Draw properties of the metric M against the iteration, for the best variant.

    They are its effective rank and, if measured, its overlap with the directions on which the labels depend and its
    correlation with the first layer of a network.

    Args:
        axis: Axis to draw on.
        machine: Entry "feature_machine" of the run's `result.json`.
    """
    best = machine["steps"][machine["best"]]
    steps = _lines(machine)[best["variant"]]
    places = [step["iteration"] for step in steps]
    rank, names = axis, []
    for name, (word, label, colour, marker) in _SHARES.items():
        values = np.array([step.get(name) for step in steps], float)
        if np.isfinite(values).any():
            names.append(word)
            axis.plot(places, values, f"{marker}-", color=colour, markersize=4, label=label)
    if names:
        axis.set(ylim=(min(-0.03, axis.dataLim.ymin - 0.03), 1.03), ylabel=", ".join(names))
        rank = axis.twinx()
        rank.grid(False)
        rank.spines["right"].set_visible(True)
    rank.plot(places, [step["effective_rank"] for step in steps], "v--", color="0.45", markersize=4,
              label="_" if rank is not axis else "effective rank of M")  # fmt: skip
    if rank is not axis:
        axis.plot([], [], "v--", color="0.45", markersize=4, label="effective rank of M")
    rank.set(ylabel="effective rank", ylim=(0, None))
    axis.set_xlabel("iteration")
    _whole(axis)


def _spectrum(axis: Axes, machine: Mapping[str, Any]) -> None:
    """Draw the eigenvalues of the best metric M against their index, with a line at 1, the eigenvalues of the identity.

    Args:
        axis: Axis to draw on.
        machine: Entry "feature_machine" of the run's `result.json`.
    """
    values = np.asarray(machine["spectrum"])
    kept = values > max(values.max(), 1e-300) * 1e-12
    axis.plot(np.arange(1, len(values) + 1)[kept], values[kept], ".-", color=COLOURS[6], markersize=4)
    axis.axhline(1, color="0.6", linewidth=0.8, linestyle="--", label="the fixed metric")
    axis.set(xlabel="index", ylabel="eigenvalue of M")
    log_axis(axis, "x")
    log_axis(axis, "y")


def _entries(axis: Axes, machine: Mapping[str, Any], metric: np.ndarray) -> None:
    """Draw the entries of the best metric M as an image of their signed square roots.

    Args:
        axis: Axis to draw on.
        machine: Entry "feature_machine" of the run's `result.json`.
        metric: M (d, d).
    """
    roots = np.sign(metric) * np.sqrt(np.abs(metric))
    most = np.abs(roots).max()
    drawn = axis.imshow(roots, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    axis.set(title="M, signed root of entries", xlabel="column", ylabel="column")
    axis.grid(False)
    axis.figure.colorbar(drawn, ax=axis, shrink=0.85)


def _diagonal(axis: Axes, machine: Mapping[str, Any], metric: np.ndarray) -> None:
    _strengths(axis, machine, metric if metric.ndim == 1 else np.diagonal(metric), "diagonal of M")


def _strengths(axis: Axes, machine: Mapping[str, Any], values: np.ndarray, title: str) -> None:
    """Draw the weight of each input column, as an image if the data are images.

    Args:
        axis: Axis to draw on.
        machine: Entry "feature_machine" of the run's `result.json`.
        values: Weights (d,).
        title: Title of the panel.
    """
    if machine["image_shape"]:
        _image(axis, values, machine["image_shape"], title, "viridis")
        return
    axis.plot(np.arange(len(values)), values, color="0.6", linewidth=0.6)
    axis.plot(np.arange(len(values)), values, ".", color=COLOURS[0], markersize=4)
    axis.set(title=title, xlabel="column", ylim=(0, None))


def _direction(axis: Axes, machine: Mapping[str, Any], metric: np.ndarray) -> None:
    leading = np.linalg.eigh(metric)[1][:, -1]
    leading = leading * np.sign(leading[np.abs(leading).argmax()])
    _image(axis, leading, machine["image_shape"], "leading eigenvector of M", "RdBu_r", signed=True)


def _image(
    axis: Axes, values: np.ndarray, image_shape: list[int], title: str, colours: str, *, signed: bool = False
) -> None:
    """Draw the values of pixels as an image, averaged over the channels.

    Args:
        axis: Axis to draw on.
        values: Values (d,), one per pixel and channel.
        image_shape: Height, width and number of channels.
        title: Title of the panel.
        colours: Name of the colour map.
        signed: Whether the colour scale is symmetric about 0; otherwise it starts at 0.
    """
    pixels = values.reshape(image_shape).mean(axis=2)
    limits = {"vmin": -np.abs(pixels).max(), "vmax": np.abs(pixels).max()} if signed else {"vmin": 0}
    drawn = axis.imshow(pixels, cmap=colours, interpolation="nearest", **limits)
    axis.set(title=title, xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.figure.colorbar(drawn, ax=axis, shrink=0.85)


def _whole(axis: Axes) -> None:
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
