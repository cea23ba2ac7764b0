"""Tick labels of logarithmic axes are all of one notation, that of the range shown."""

import re

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from linearized.report.style import new_figure
from linearized.report.ticks import in_powers, log_axis


def tick_labels(low, high, which):
    figure, (axis,) = new_figure(6, 3)
    axis.plot([low, high], [low, high])
    log_axis(axis, which)
    FigureCanvasAgg(figure).draw()
    ticks = axis.xaxis if which == "x" else axis.yaxis
    shown = [tick for tick in ticks._update_ticks() if tick.label1.get_text()]
    return [(tick.get_loc(), tick.label1.get_text()) for tick in shown]


def value_of(label):
    plain = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    if found := re.fullmatch(r"(?:(.*)·)?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", label):
        return float(found[1] or 1) * 10.0 ** int(found[2].translate(plain))
    return float(label)


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize(
    "low, high, powers",
    [(0.5, 2, False), (1, 10, False), (0.85, 1.15, False), (0.3, 4, False), (1e-3, 1e3, True), (1e-9, 1e-8, True),
     (2e-6, 3e-6, True), (1e30, 1e31, True), (3e-4, 3e-3, True), (20, 30_000, True)],
)  # fmt: skip
def test_labels_are_true_and_of_one_notation(low, high, powers, which):
    found = tick_labels(low, high, which)
    assert len(found) >= 2
    for place, label in found:
        assert value_of(label) == pytest.approx(place, rel=1e-5)
        assert ("10" in label and bool(re.search("[⁰¹²³⁴⁵⁶⁷⁸⁹]", label))) == powers, label


def test_numbers_in_powers_of_ten():
    values = (1e-3, 2.5e-3, 1.0, 20.0, 9.99e-6, 1.23456e7, 0.0)
    assert [in_powers(value, 2) for value in values] == ["10⁻³", "2.5·10⁻³", "10⁰", "2·10¹", "10⁻⁵", "1.2·10⁷", "0"]
