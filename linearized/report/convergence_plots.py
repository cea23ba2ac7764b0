"""Pictures of the convergence of solvers on a grid of ridges: residuals per step, number of steps, errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from linearized.report.style import (
    COLOURS,
    LINES,
    MARKERS,
    handles_of,
    legend_below,
    new_figure,
    shades,
    spread_out,
    steps_line,
)
from linearized.report.ticks import in_powers, log_axis


def residual_curves(histories: Mapping[str, Mapping[float, np.ndarray]], *, symbol: str = "ρ") -> Figure:
    """Draw the relative residual after each product with K, one panel per solver and one line per ridge.

    Args:
        histories: Residuals by solver, then by ridge. Lines are coloured from the smallest ridge (dark) to the largest
            (light).
        symbol: Symbol of the ridge in labels.
    """
    figure, axes = new_figure(4.2 * len(histories) + 1.4, 3.6, ncols=len(histories), sharey=True)
    for axis, (name, lines) in zip(axes, histories.items(), strict=True):
        named = spread_out(len(lines))
        for place, (ridge, shade) in enumerate(zip(sorted(lines), shades(len(lines)), strict=True)):
            label = f"{symbol} = {in_powers(ridge, 2)}" if place in named else "_"
            steps_line(axis, lines[ridge], color=shade, label=label)
        log_axis(axis, "y")
        axis.set(title=name, xlabel="product with K")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes[0].set_ylabel("residual, relative")
    legend_below(figure, handles_of(axes))
    return figure


def solver_steps(solutions: Mapping[str, Sequence[Any]], *, rtol: float, symbol: str = "ρ") -> Figure:
    """Draw the number of products with K and the final residual for each ridge, with one line per solver.

    Args:
        solutions: Solutions by solver, one per ridge, with `ridge`, `iterations`, `residual` and `converged`. Ridges
            that did not converge are marked by a cross.
        rtol: Tolerance of the relative residual, drawn as a line.
        symbol: Symbol of the ridge in labels.
    """
    figure, axes = new_figure(9.6, 3.4, ncols=2)
    for place, (name, path) in enumerate(solutions.items()):
        look = {
            "marker": MARKERS[place % len(MARKERS)],
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": LINES[place % len(LINES)],
            "markersize": 4,
        }
        ridges, missed = [one.ridge for one in path], [one for one in path if not one.converged]
        for axis, column in zip(axes, ("iterations", "residual"), strict=True):
            axis.plot(ridges, [getattr(one, column) for one in path], label=name, **look)
            if missed:
                crosses = [getattr(one, column) for one in missed]
                axis.plot([one.ridge for one in missed], crosses, "kx", markersize=9, label="not converged")
    for axis, title in zip(axes, ("products with K", "residual at the end, relative"), strict=True):
        log_axis(axis, "x")
        axis.set(xlabel=f"ridge {symbol}", ylabel=title)
    log_axis(axes[1], "y")
    axes[1].axhline(rtol, color="0.4", linewidth=1, linestyle="--", label="tolerance")
    legend_below(figure, handles_of(axes))
    return figure


def ridge_paths(ridges: np.ndarray, errors: Mapping[str, np.ndarray], *, symbol: str = "ρ") -> Figure:
    """Draw the errors of several solvers or settings against the ridge, one line per name.

    The lines of the first half of the names are thick, so that lines with equal values are all visible.

    Args:
        ridges: Ridges (r,).
        errors: Means over rows of ‖y - f‖² at each ridge (r,), for targets y and outputs f, by name in the legend.
        symbol: Symbol of the ridge in labels.
    """
    figure, (axis,) = new_figure(6.4, 3.6)
    for place, (name, values) in enumerate(errors.items()):
        axis.plot(ridges, values, LINES[place % len(LINES)], color=COLOURS[place % len(COLOURS)],
                  linewidth=4 if place < len(errors) / 2 else 1.5, alpha=0.6 if place < len(errors) / 2 else 1,
                  label=name)  # fmt: skip
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set(xlabel=f"ridge {symbol}", ylabel="mean squared norm")
    legend_below(figure, handles_of([axis]))
    return figure
