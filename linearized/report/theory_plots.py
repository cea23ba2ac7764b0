"""Pictures of results of `linearized theory`: predicted and measured losses, and the spectrum of the kernel.

Losses are drawn against the number n of train rows and against the ridge. The learnability λ/(λ + κ) of an eigenvalue λ
is the share of its eigenvector that n train rows learn; κ is the effective ridge.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linearized.learning_theory.eigenframework import learnabilities
from linearized.report.style import COLOURS, MARKERS, handles_of, legend_below, new_figure, shades, wrapped_title
from linearized.report.ticks import log_axis

MEASURED = {  # column of `points` -> label, colour, marker
    "other": ("measured, pool's other rows", COLOURS[1], MARKERS[0]),
    "fresh": ("measured, fresh rows", COLOURS[2], MARKERS[1]),
    "leave_one_out": ("leave-one-out", COLOURS[3], MARKERS[2]),
    "gcv": ("gcv", COLOURS[4], MARKERS[3]),
}

_LINES = {"sphere": (COLOURS[6], ":"), "hermite": (COLOURS[3], "-.")}  # colour and line of further predictions
BESIDE = 1.03  # factor by which markers at the same n are shifted horizontally so that they do not overlap


def theory_figure(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Figure:
    """Draw a result of `linearized theory` in four panels.

    The panels are the losses against the number n of train rows, the losses against the ridge, the learnability of each
    eigenvector (the share of it that n rows learn) and the eigenvalues.

    Args:
        record: Content of `theory.json`, which `linearized.experiments.theory_record.compared` describes.
        arrays: Arrays of `theory.h5`, which the same function describes.
    """
    points = pd.DataFrame(record["points"])
    figure, axes = new_figure(9.4, 6.4, nrows=2, ncols=2)
    learning_curve(axes[0], record)
    _against_ridge(axes[1], points)
    _learned(axes[2], record, arrays)
    _spectrum(axes[3], record, arrays)
    wrapped_title(figure, f"{record['title']}, pool of N = {record['pool']:,} rows")
    legend_below(figure, handles_of(axes), fontsize=8)
    return figure


def learning_curve(axis: Axes, record: Mapping[str, Any]) -> None:
    """Draw predicted and measured losses against n on logarithmic axes, at the ridge of smallest predicted loss.

    Args:
        axis: Axis to draw on.
        record: Content of `theory.json` for a pool of N rows, see `linearized.experiments.theory_record.compared`.
            Measurements at n > N/3 have hollow markers, because predictions are unreliable there.
    """
    best = pd.DataFrame([record["points"][place] for place in record["best"]])
    law = (record["exponents"] or {}).get("predicted")
    slope = f", n^-{law['exponent']:.2f}" if law else ""
    axis.plot(best["n"], best["predicted"].astype(float), "-", color=COLOURS[0], label=f"predicted{slope}")
    for name, line in record.get("lines", {}).items():
        axis.plot(best["n"], best[f"predicted_{name}"].astype(float), _LINES[name][1], color=_LINES[name][0],
                  linewidth=1.2, label=f"predicted, {line['label']}")  # fmt: skip
    for place, (name, (label, colour, marker)) in enumerate(MEASURED.items()):
        if name not in best:
            continue
        law = (record["exponents"] or {}).get("measured") if name == "other" else None
        slope = f", n^-{law['exponent']:.2f}±{law['error']:.2f}" if law else ""
        for beyond, mine in best.groupby("beyond"):
            axis.errorbar(
                mine["n"] * BESIDE ** (place - 1.5), mine[name].astype(float), fmt=marker, color=colour, markersize=4.5,
                yerr=mine[f"{name}_error"].astype(float), capsize=2, markerfacecolor="none" if beyond else colour,
                label=f"{label}, n > N/3" if beyond else f"{label}{slope}",
            )  # fmt: skip
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel="train rows n", ylabel="test loss, best predicted ridge")


def _against_ridge(axis: Axes, points: pd.DataFrame) -> None:
    """Draw predicted losses as lines and measured losses as dots against the ridge, one shade per number of rows.

    Args:
        axis: Axis to draw on.
        points: Table of the losses, one row per number of train rows and ridge.
    """
    sizes = sorted(points["n"].unique())
    for n, shade in zip(sizes, shades(len(sizes)), strict=True):
        mine = points[(points["n"] == n) & (points["ridge"] > 0)].sort_values("ridge")
        line = "--" if mine["beyond"].any() else "-"
        axis.plot(mine["ridge"], mine["predicted"].astype(float), line, color=shade, label=f"n = {n:,}")
        if "other" in mine:
            axis.errorbar(mine["ridge"], mine["other"].astype(float), yerr=mine["other_error"].astype(float), fmt="o",
                          color=shade, markersize=3.5, capsize=1.5, linestyle="none")  # fmt: skip
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel="ridge ρ", ylabel="test loss (dots: pool's other rows)")


def _learned(axis: Axes, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Draw the learnability of each eigenvector (the share of it that n train rows learn), one line per n.

    A dotted line shows, for each eigenvector, the share of the target's mean square in the eigenvectors after it.

    Args:
        axis: Axis to draw on.
        record: Content of `theory.json`.
        arrays: Arrays of `theory.h5` by name.
    """
    index = np.arange(1, len(arrays["eigenvalues"]) + 1)
    for place, shade in zip(record["best"], shades(len(record["best"])), strict=True):
        axis.plot(index, learnabilities(arrays["eigenvalues"], record["points"][place]["kappa"]), color=shade)
    power = np.square(arrays["coefficients"]).sum(axis=1)
    axis.plot(index, 1 - np.cumsum(power) / power.sum(), ":", color="0.3", label="share of the target in later modes")
    log_axis(axis, "x")
    axis.set(xlabel="eigenmode, from the largest", ylabel="learnability λ/(λ + κ)", ylim=(-0.02, 1.02))


def _spectrum(axis: Axes, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Draw the eigenvalues of the kernel divided by their sum, and the power law that was fitted to them.

    The eigenvalues on the sphere and of the Hermite eigenstructure are drawn too, if there are any.

    Args:
        axis: Axis to draw on.
        record: Content of `theory.json`.
        arrays: Arrays of `theory.h5` by name.
    """
    values = arrays["eigenvalues"]
    index = np.arange(1, len(values) + 1)
    axis.plot(index, np.where(values > 0, values, np.nan) / values.sum(), color=COLOURS[5], label="eigenvalues")
    for name in record.get("lines", {}):
        others = arrays[f"{name}_eigenvalues"]
        axis.plot(np.arange(1, len(others) + 1), np.where(others > 0, others, np.nan) / values.sum(), _LINES[name][1],
                  color=_LINES[name][0], linewidth=1.2, label="_")  # fmt: skip
    if law := record["spectrum"]:
        ends = np.array([10.0, len(values) / 10])
        axis.plot(ends, law["factor"] * ends ** -law["exponent"] / values.sum(), "--", color="black",
                  label=f"index^-{law['exponent']:.2f}")  # fmt: skip
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel="eigenmode, from the largest", ylabel="share of the trace")
