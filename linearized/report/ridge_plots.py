"""Pictures of runs over the ridge grid: losses and accuracies, the choice of the ridge, the solver's history."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.report.style import (
    COLOURS,
    LINES,
    MARKERS,
    NARROW,
    cap_accuracy,
    dot_chart,
    handles_of,
    legend_below,
    metric_name,
    new_figure,
    shades,
    spread_out,
    steps_line,
    wrapped_title,
)
from linearized.report.ticks import in_powers, log_axis
from linearized.storage.result_schema import convergence, fell_short

_SPLITS = {"train": ("--", COLOURS[4]), "validation": ("-.", COLOURS[2]), "leave_one_out": (":", COLOURS[3]),
           "test": ("-", COLOURS[0])}  # fmt: skip
_PREDICTED = {  # column of a ridge's entry -> label, line style, colour
    "predicted_loss": ("test loss predicted by leave-one-out", "-", COLOURS[6]),
    "predicted_by_gcv": ("test loss predicted by gcv", (0, (1, 1)), COLOURS[1]),
}
LOWEST = 3  # a panel with predictions ends at the smallest measured or predicted test loss divided by this
_SELECTION = {
    "gcv": ("generalised cross-validation", COLOURS[3], "o"),
    "degrees_of_freedom": ("degrees of freedom", COLOURS[5], "s"),
}


def ridge_panels(record: Mapping[str, Any]) -> list[str]:
    """Return the names of the panels that `ridge_curves` draws for a run: "loss", "accuracy" and "selection".

    "accuracy" needs accuracies. "selection" shows generalised cross-validation and degrees of freedom, and needs
    several ridges that have one of these.

    Args:
        record: Content of the run's `result.json`.
    """
    entries = record["ridges"]
    panels = ["loss"]
    if any(entry.get("test_accuracy") is not None for entry in entries):
        panels.append("accuracy")
    if len(entries) > 1 and any(entry.get(name) is not None for entry in entries for name in _SELECTION):
        panels.append("selection")
    return panels


def ridge_curves(record: Mapping[str, Any], panels: Sequence[str] = (), *, narrow: bool = False) -> Figure:
    """Draw the loss and, if measured, the accuracy of each split against the ridge, and mark the chosen ridge.

    Results of kernels may also contain these quantities:

    - Leave-one-out errors are drawn as a further split.
    - Generalised cross-validation and the effective degrees of freedom have a separate panel.
    - Test losses that are predicted from the train rows are drawn as lines, with a shaded area of one standard error.
      Measured test losses are then dots, and train losses that are much smaller lie outside of the panel.

    A run of a single ridge gets one dot per split.

    Args:
        record: Content of the run's `result.json`.
        panels: Some of `ridge_panels`; empty for all.
        narrow: Whether the figure has the fixed width of a picture in the HTML report, and no title (the report shows
            the name of the run above the figure); suitable for one panel.
    """
    panels = list(panels) or ridge_panels(record)
    entries = record["ridges"]
    single = len(entries) == 1
    width = NARROW if narrow else 1.5 + 4.3 * len(panels)
    figure, axes = new_figure(width, 1.9 if single else 3.3, ncols=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        loss = record["settings"].get("loss") or record["solver"].get("loss", "square")
        if single:
            _dots(axis, entries[0], panel, loss)
            continue
        if panel == "selection":
            _selection(axis, entries)
        else:
            _splits(axis, entries, panel, loss)
        _ridge_axis(axis, record)
    if not narrow:
        wrapped_title(figure, f"{record['title']}{_ridge_of(record) if single else ''}")
    if not single:
        legend_below(figure, handles_of(axes))
    return figure


def _ridge_of(record: Mapping[str, Any]) -> str:
    """Return the end of the title of a run with one ridge, such as ", λ = 0.1, not converged".

    A ridge of 0, as in fine-tuning, is not named. Convergence is only mentioned if training or the solver did not
    converge.

    Args:
        record: Content of the run's `result.json`.
    """
    [entry] = record["ridges"]
    solved = ", diverged" if entry.get("diverged") else ", not converged" if fell_short(entry) else ""
    ridge = f", {record.get('ridge_symbol', 'λ')} = {entry['ridge']:.3g}" if entry["ridge"] else ""
    return f"{ridge}{solved}"


def _column(entries: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Return a quantity at every ridge, (entries,); NaN where it was not measured.

    Args:
        entries: Scores and diagnostics of the run, one dictionary per ridge.
        name: Key of the entries.
    """
    return np.array([np.nan if entry.get(name) is None else entry[name] for entry in entries], float)


def _dots(axis: Axes, entry: Mapping[str, Any], metric: str, loss: str) -> None:
    """Draw the metric at a single ridge, one dot per split that has it.

    Args:
        axis: Axis to draw on.
        entry: Entry of the ridge.
        metric: "loss" or "accuracy".
        loss: Kind of the loss, for the label of the axis.
    """
    rows = [
        (split.replace("_", "-"), float(value), 0.0, colour, MARKERS[place])
        for place, (split, (_, colour)) in enumerate(_SPLITS.items())
        if not np.isnan(value := _column([entry], f"{split}_{metric}")[0])
    ]
    dot_chart(axis, rows, metric)
    axis.set_xlabel(metric_name(metric, loss))


def _splits(axis: Axes, entries: Sequence[Mapping[str, Any]], metric: str, loss: str) -> None:
    """Draw one line per split, with a cross on each ridge that did not converge.

    For a ridge that diverged, the cross is at the edge of the panel, because its values would dominate the scale. If
    all ridges diverged, their values are drawn.

    Args:
        axis: Axis to draw on.
        entries: Scores and diagnostics of the run, one dictionary per ridge.
        metric: "loss" or "accuracy".
        loss: Kind of the loss, for the label of the axis.
    """
    kept = [entry for entry in entries if not entry.get("diverged")]
    edge = [entry["ridge"] for entry in entries if entry.get("diverged")] if kept else []
    shown = kept or entries
    ridges = _column(shown, "ridge")
    values = {name: _column(shown, name) for name in (*(f"{split}_{metric}" for split in _SPLITS), *_PREDICTED)}
    lines = [name for name in _PREDICTED if metric == "loss" and not np.isnan(values[name]).all()]
    for split, (line, colour) in _SPLITS.items():
        if not np.isnan(column := values[f"{split}_{metric}"]).all():
            if split == "leave_one_out" and lines:  # it equals the predicted loss
                continue
            label = split.replace("_", "-")
            dots = {"linestyle": "none", "marker": "o", "markersize": 5} if split == "test" and lines else {}
            axis.plot(ridges, column, **{"linestyle": line, "marker": ".", **dots}, color=colour, label=label)
    for name in lines:
        label, line, colour = _PREDICTED[name]
        axis.plot(ridges, values[name], linestyle=line, color=colour, linewidth=1.2, label=label)
    if "predicted_loss" in lines and ((error := _column(shown, "predicted_error")) > 0).any():
        middle = values["predicted_loss"]
        axis.fill_between(ridges, middle - error, middle + error, color="0.6", alpha=0.7, linewidth=0, zorder=1,
                          label="± its standard error")  # fmt: skip
    tested, missed = values[f"test_{metric}"], np.array([fell_short(entry) for entry in shown])
    if missed.any():
        axis.plot(ridges[missed], tested[missed], "x", color=COLOURS[1], markersize=9, label="not converged")
    axis.set_ylabel(metric_name(metric, loss))
    cap_accuracy(axis, metric)
    if edge:
        height = np.full(len(edge), 0.03 if metric == "accuracy" else 0.97)  # the end of the axis with bad values
        axis.plot(edge, height, "x", color=COLOURS[1], markersize=9, markeredgewidth=2.5, label="diverged",
                  transform=axis.get_xaxis_transform())  # fmt: skip
    if metric == "loss" and (tested[~np.isnan(tested)] > 0).all():
        log_axis(axis, "y")
        if lines:
            drawn = np.concatenate([tested, *(values[name] for name in lines)])  # the test losses may all be missing
            lowest = np.nanmin(drawn)
            axis.set_ylim(bottom=max(axis.get_ylim()[0], lowest / LOWEST))


def _ridge_axis(axis: Axes, record: Mapping[str, Any]) -> None:
    """Draw the axis of ridges, with vertical lines at up to three ridges.

    These are the chosen ridge, the best converged ridge and the ridge with the best test scores. If one of the other
    two equals the chosen ridge, it has no line of its own.

    Args:
        axis: Axis to draw on.
        record: Content of the run's `result.json`.
    """
    chosen = record["chosen"]
    for name, line in (("chosen", ":"), ("chosen_converged", "--"), ("chosen_published", "-.")):
        choice = record.get(name, chosen)
        if name == "chosen" or choice["position"] != chosen["position"]:
            flaw = f", {choice['flaw']}" if choice.get("flaw") else ""
            place, label = record["ridges"][choice["position"]]["ridge"], f"chosen by {choice['by']}{flaw}"
            axis.axvline(place, color="0.4", linewidth=1.3, linestyle=line, label=label)
    _log_ridges(axis, _column(record["ridges"], "ridge"), record.get("ridge_symbol", "λ"))


def _log_ridges(axis: Axes, ridges: np.ndarray, symbol: str) -> None:
    margin, positive = 2 if len(ridges) > 1 else 10, ridges[ridges > 0]
    if len(positive):  # a ridge of 0 cannot be shown on a logarithmic axis
        log_axis(axis, "x")
        axis.set_xlim(positive.min() / margin, positive.max() * margin)
    axis.set_xlabel(f"ridge {symbol}")


def _selection(axis: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    """Draw generalised cross-validation on the left axis and degrees of freedom on the right axis, against the ridge.

    Args:
        axis: Axis to draw on.
        entries: Scores and diagnostics of the run, one dictionary per ridge.
    """
    columns = {name: _column(entries, name) for name in _SELECTION}
    columns = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    axes = [axis, axis.twinx()] if len(columns) == 2 else [axis]
    for here, (name, column) in zip(axes, columns.items(), strict=True):
        title, colour, marker = _SELECTION[name]
        here.plot(_column(entries, "ridge"), column, marker=marker, markersize=3, color=colour)
        here.set_ylabel(title, color=colour)
        here.spines["right"].set_visible(here is not axis)
        here.grid(here is axis)
        if (column[~np.isnan(column)] > 0).all():
            log_axis(here, "y")


def training_curves(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, narrow: bool = False) -> Figure:
    """Draw the residual (CG) or the loss (SGD) at each iteration or epoch, one line per ridge.

    Lines are coloured from the smallest ridge (dark) to the largest (light); the legend names about eight of many. The
    loss of the validation rows is dashed, in the colour of its ridge. Lines of ridges that diverged extend beyond the
    top of the panel.

    Args:
        record: Content of the run's `result.json`.
        arrays: "history/000" for the ridge of index 0 and, if it exists, "history/000_validation"; for a fine-tuned
            model, "history/loss" and "history/validation_loss".
        narrow: Whether the figure has the fixed width of a picture in the HTML report, as in `ridge_curves`.
    """
    figure, (axis,) = new_figure(NARROW if narrow else 6, 3.3)
    symbol = record.get("ridge_symbol", "λ")
    drawn = sorted(
        (entry["ridge"], *lines, bool(entry.get("diverged")))
        for entry in record["ridges"]
        if (lines := _history(entry["index"], arrays))[0]
    )
    named = spread_out(len(drawn))
    many = len(drawn) > 1
    for place, ((ridge, history, validation, _), shade) in enumerate(zip(drawn, shades(len(drawn)), strict=True)):
        label = f"{symbol} = {in_powers(ridge, 2)}" if ridge or many else record["solver"]["history"]
        steps_line(axis, history, color=shade, label=label if place in named else "_")
        if validation:
            dashed = {"color": shade, "label": "_"} if many else {"color": COLOURS[1], "label": "validation loss"}
            steps_line(axis, validation, "--", **dashed)
    if many and any(len(validation) for _, _, validation, _ in drawn):
        axis.plot([], [], "--", color="0.4", label="validation loss, dashed")
    log_axis(axis, "y")
    highest = max((max(line) for _, *lines, diverged in drawn if not diverged for line in lines if line), default=None)
    if highest and any(diverged for *_, diverged in drawn) and axis.get_ylim()[1] > 10 * highest:
        axis.set_ylim(top=10 * highest)  # lines that diverge extend beyond the panel
    axis.set(xlabel=record["solver"]["step"], ylabel=record["solver"]["history"])
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if not narrow:
        wrapped_title(figure, record["title"])
    legend_below(figure, handles_of([axis]), fontsize=8)
    return figure


def _history(index: int, arrays: Mapping[str, np.ndarray]) -> tuple[list[float], list[float]]:
    """Return the history of the solver at one ridge, and the history of the validation loss; each may be empty.

    Args:
        index: Index of the ridge in the grid.
        arrays: Histories by name, as for `training_curves`.
    """
    if f"history/{index:03d}" in arrays:
        names = (f"history/{index:03d}", f"history/{index:03d}_validation")
    else:
        names = ("history/loss", "history/validation_loss")
    train, validation = (np.asarray(arrays.get(name, ()), float).tolist() for name in names)
    return train, validation


def ridge_comparison(records: Mapping[str, Mapping[str, Any]], *, metric: str = "test_loss") -> Figure:
    """Draw a metric of several runs against the ridge, one line per run, with its chosen ridge as a large dot.

    Args:
        records: Records by name in the legend. The ridges ρ of kernels are drawn at λ = ρ/n for n train rows, so that
            kernels and models share an axis.
        metric: Metric to draw, a key of the entries of `ridges`.
    """
    figure, (axis,) = new_figure(6.4, 3.6)
    lambdas = []
    for place, (name, record) in enumerate(records.items()):
        scale = record["data"]["n_train"] if record.get("ridge_symbol") == "ρ" else 1
        ridges = _column(record["ridges"], "ridge") / scale
        values = _column(record["ridges"], metric)
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        axis.plot(ridges, values, LINES[place % len(LINES)], color=colour, marker=marker, markersize=4,
                  markerfacecolor="none", label=name)  # fmt: skip
        chosen = record["chosen"]["position"]
        axis.plot(ridges[chosen], values[chosen], marker=marker, color=colour, markersize=9)
        lambdas += ridges.tolist()
    axis.plot([], [], "o", color="0.4", markersize=9, label="chosen ridge")
    _log_ridges(axis, np.array(lambdas), "λ = ρ / n")
    axis.set_ylabel(metric_name(metric))
    if metric.endswith("loss"):
        log_axis(axis, "y")
    legend_below(figure, handles_of([axis]))
    return figure


def converged_sentence(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return in words how many ridges of a run converged or did not, such as "3 of 20 did not converge".

    For training whose convergence is unknown, the number of epochs is returned instead.

    Args:
        entries: Scores and diagnostics of the run, one dictionary per ridge.
    """
    missed = [entry for entry in entries if fell_short(entry)]
    if all(convergence(entry) is None for entry in entries):
        return f"trained for {max(entry['iterations'] for entry in entries)} epochs"
    if not missed:
        return f"all {len(entries)} converged" if len(entries) > 1 else "converged"
    diverged = sum(bool(entry.get("diverged")) for entry in missed)
    told = f"{len(missed)} of {len(entries)} did not converge"
    return f"{told}, {diverged} of them diverged" if diverged else told
