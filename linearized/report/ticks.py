"""Tick labels of logarithmic axes: powers of ten over more than a decade and a half, otherwise plain numbers."""

import math

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_FEW = 30.0  # ratio of an axis' limits below which ticks between the powers of ten, at most two, are labelled too


def log_axis(axis: Axes, which: str) -> None:
    """Make an axis, "x" or "y", logarithmic, with few ticks that are all labelled in one notation.

    An axis over more than a decade and a half has powers of ten (10⁻³); a shorter one has numbers at every tick. Labels
    are plain text, which keeps an HTML report of many pictures small. The axis stays linear if no drawn value is
    positive, as in the history of a solver that finished at once.
    """
    if axis.has_data() and not math.isfinite(getattr(axis.dataLim, f"minpos{which}")):
        return
    axis.set(**{f"{which}scale": "log"})
    ticks = axis.xaxis if which == "x" else axis.yaxis

    def at_powers(value: float, _: int) -> str:
        low, high = sorted(ticks.get_view_interval())
        return in_powers(value) if high >= _FEW * low else _number(value, low, high)

    def between(value: float, _: int) -> str:
        low, high = sorted(ticks.get_view_interval())
        return "" if high >= _FEW * low else _number(value, low, high)

    ticks.set_major_formatter(at_powers)
    ticks.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    ticks.set_minor_formatter(between)
    ticks.set_tick_params(which="both", length=3.5, pad=3.5)  # labels of both stand in one line


def in_powers(value: float, digits: int = 6) -> str:
    """Format a positive number as "10⁻³" or "2.5·10⁻³" with at most `digits` significant digits."""
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    factor = f"{value / 10.0**exponent:.{digits}g}"
    power = "10" + str(exponent).translate(_RAISED)
    return power if factor == "1" else f"{factor}·{power}"


def _number(value: float, low: float, high: float) -> str:
    """Return the label of a tick, in the notation that suits all ticks of its axis.

    Args:
        value: Position of the tick.
        low: Smallest value of the axis.
        high: Largest value of the axis.
    """
    return f"{value:g}" if low >= 1e-3 and high < 1e5 else in_powers(value)
