"""Common style of all pictures, and their output to files (png, pdf, svg) and as vector drawings in an HTML report.

The colours can be distinguished with every kind of colour vision; markers and line styles differ as well. A drawing in
a report has the text colour and font of the report, so that it is legible on light and dark backgrounds.
"""

import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from linearized.storage.files import whole_file

# palette of Okabe and Ito, and grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#808080")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
NARROW = 4.4  # width in inches of a picture for a phone, or for two or three pictures side by side
LINES = ("-", "--", "-.", ":")
STYLE = {"axes.grid": True, "axes.axisbelow": True, "axes.titlepad": 8, "grid.alpha": 0.3, "axes.spines.top": False,
         "axes.spines.right": False, "font.size": 10}  # fmt: skip

_NAMES = {"square": "mean squared norm", "cross_entropy": "cross-entropy"}
_REFERENCE = re.compile(r'(?<=url\(#)[^)]+(?=\))|(?<=href="#)[^"]+(?=")')
_ELEMENT_ID = re.compile(r' id="([^"]+)"')
_TAG, _LONG_NUMBER = re.compile(r"<[^>]*>"), re.compile(r"-?\d+\.\d{2,}")
_FONT = re.compile(r"font-family: [^;\"]*;? ?|font: (?=\d)|(?<=\d\dpx) '[^;\"]*(?=[;\"])")
_USED_STYLE = re.compile(r'(<use [^>]*?)style="([^"]*)"')
_INK = re.compile(r"#000000|(?<=: )black\b")


def new_figure(width: float, height: float, **subplots) -> tuple[Figure, list]:
    """Return a figure in the style of the suite and its axes as one flat list.

    Args:
        width: Width in inches.
        height: Height in inches.
        **subplots: Arguments of `Figure.subplots`, such as nrows and ncols.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(**{"squeeze": False, **subplots})
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # inches around each panel, so that texts do not touch
    return figure, list(axes.flat)


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write the figure atomically in the format of the suffix of `path` (png, pdf or svg) and return the path."""
    with whole_file(path) as aside, matplotlib.rc_context(STYLE):
        figure.savefig(aside, dpi=150, bbox_inches="tight")
    return Path(path)


def letters_in(inches: float, fontsize: float) -> int:
    """Return the approximate number of letters that fit into a width, at least 12.

    Args:
        inches: The width in inches.
        fontsize: Font size in points.
    """
    return max(int(72 * inches / (0.56 * fontsize)), 12)


def wrapped_title(figure: Figure, title: str, fontsize: float = 10) -> None:
    """Put a title above all axes, wrapped to the width of the figure but never within text such as "n = 300".

    If the title takes several lines, the height of the figure is increased for them.

    Args:
        figure: Figure to change.
        title: The title.
        fontsize: Font size in points.
    """
    held = title.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    lines = textwrap.wrap(held, letters_in(figure.get_figwidth() - 0.3, fontsize))
    figure.suptitle("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "), fontsize=fontsize)
    figure.set_figheight(figure.get_figheight() + 0.17 * (len(lines) - 1))


def legend_below(figure: Figure, named: Mapping[str, Any], *, fontsize: float = 9) -> None:
    """Put a legend below all axes, in as many columns as fit, up to four, and increase the figure's height for it.

    Args:
        figure: Figure to change.
        named: Handles by label; long labels are wrapped. If it is empty, no legend is added.
        fontsize: Font size in points.
    """
    if not named:
        return
    renderer = FigureCanvasAgg(figure).get_renderer()
    letters, columns = letters_in(figure.get_figwidth() - 0.9, fontsize), min(len(named), 4)
    while True:
        labels = [textwrap.fill(label, letters) for label in named]
        legend = figure.legend(
            list(named.values()), labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=fontsize
        )
        size = legend.get_window_extent(renderer)
        if size.width <= 0.96 * figure.bbox.width or (columns == 1 and letters <= 12):
            break
        legend.remove()
        columns, letters = max(columns - 1, 1), letters if columns > 1 else int(0.8 * letters)
    figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)


def handles_of(axes: Sequence[Axes]) -> dict[str, Any]:
    """Return the handles of some axes for a common legend, by label; the first handle of each label is used."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return found


def dot_chart(axis: Axes, rows: Sequence[tuple[str, float, float, str, str]], metric: str, letters: int = 30) -> None:
    """Draw one value per row as a dot, with its name on the left and its number on the right.

    Args:
        axis: Axis to draw on.
        rows: Tuples (name, value, standard deviation or 0, colour, marker) from top to bottom; for values that are not
            finite, only the name and the words "not finite" are shown.
        metric: Name of the metric, which determines the number of digits and the limits of the axis.
        letters: Number of letters after which names are wrapped.
    """
    for place, (_, value, spread, colour, marker) in enumerate(rows):
        finite = math.isfinite(value)
        if finite:
            axis.errorbar(value, place, xerr=spread or None, color=colour, capsize=2)
            axis.plot(value, place, marker, color=colour, clip_on=False)
        digits = ".4f" if metric.endswith("accuracy") else "#.4g"  # gives each row the same number of digits
        text = f"{value:{digits}}" if finite else "not finite"
        axis.text(1.05, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.set_yticks(range(len(rows)), [textwrap.fill(row[0], letters) for row in rows], fontsize=9)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.15)
    axis.xaxis.get_major_locator().set_params(nbins=4)
    axis.grid(True, axis="x")
    cap_accuracy(axis, metric, "x")


def cap_accuracy(axis: Axes, metric: str, which: str = "y") -> None:
    """Restrict an axis to the range from 0 to 1 if the metric is an accuracy.

    Args:
        axis: Axes of the panel.
        metric: Name of the metric.
        which: "x" or "y".
    """
    if metric.endswith("accuracy"):
        low, high = axis.get_ylim() if which == "y" else axis.get_xlim()
        low, high = max(low, 0.0), min(high, 1.0)
        if low >= high:  # the only drawn value is 0 or 1
            low, high = max(high - 0.05, 0.0), min(low + 0.05, 1.0)
        axis.set(**{f"{which}lim": (low, high)})


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """Convert a figure to an <svg> element of an HTML report, without XML declaration and without fonts.

    Args:
        figure: Figure to convert.
        name: Prefix of every id in the drawing; each drawing of a report needs its own prefix.
        label: Description of the drawing for screen readers.
    """
    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' (xmlns(:\w+)?|version)="[^"]*"', "", drawing).replace("xlink:href", "href")
    used = {old: f"{name}-{place}" for place, old in enumerate(dict.fromkeys(_REFERENCE.findall(drawing)))}
    drawing = _REFERENCE.sub(lambda found: used[found[0]], drawing)
    drawing = _ELEMENT_ID.sub(lambda found: f' id="{used[found[1]]}"' if found[1] in used else "", drawing)
    drawing = _TAG.sub(lambda tag: _LONG_NUMBER.sub(_shorter, tag[0]), drawing)  # text between tags is not changed
    drawing = _INK.sub("currentColor", _FONT.sub("", drawing))
    drawing = _USED_STYLE.sub(lambda found: _fill_alone(found[1], found[2]), drawing)
    drawing = re.sub(r" ?(transform=\"rotate\(-?0 [^\"]*\"|style=\"\")", "", drawing)
    drawing = re.sub(r"\s+", " ", drawing).replace("> <", "><").replace("; ", ";").replace(": ", ":")
    width, height = figure.get_size_inches()
    return re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>",
        rf'<svg \1 role="img" aria-label="{_escaped(label)}" style="max-width:{1.2 * width:.1f}in;aspect-ratio:'
        rf'{width:.2f}/{height:.2f}">',
        drawing, count=1,
    )  # fmt: skip


def _shorter(number: re.Match) -> str:
    """Return the number that a regular expression has matched, rounded to two decimals, as text."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _fill_alone(start: str, style: str) -> str:
    """Return the start of an SVG tag that draws a marker again, with a style that has only the marker's fill.

    The definition of the marker already has the stroke.

    Args:
        start: Start of the tag, without its style.
        style: Value of its attribute style.
    """
    fill = "; ".join(part for part in style.split("; ") if part.startswith("fill"))
    return f'{start}style="{fill}"' if fill else start


def _escaped(text: str) -> str:
    """Escape a text for use in an HTML attribute, and in the replacement of a regular expression."""
    plain = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\")


def metric_name(metric: str, loss: str | None = None) -> str:
    """Return the name under which a metric is displayed, such as "test accuracy" for "test_accuracy".

    Args:
        metric: Name of the metric's column.
        loss: Loss function of the run, "square" or "cross_entropy". For the metric "loss" it is part of the name, such
            as "cross-entropy (loss)"; None: it is not known.
    """
    plain = metric.replace("_", " ")
    return f"{_NAMES[loss]} ({plain})" if loss and metric == "loss" else plain


def shades(count: int) -> list:
    """Return `count` colours from dark to light, which are visible on white and on black and differ also in grey."""
    return [matplotlib.colormaps["viridis"](0.2 + 0.65 * place / max(count - 1, 1)) for place in range(count)]


def spread_out(count: int, shown: int = 8) -> set[int]:
    """Return the indices of about `shown` of `count` lines for a legend: the first, the last and some between them."""
    step = -(-count // shown)
    return {place for place in range(0, count, step) if count - 1 - place >= step / 2} | {count - 1}


def steps_line(axis: Axes, values: Sequence[float], line: str = "-", **look: Any) -> None:
    """Draw the values of a solver's steps against 1, 2, 3, ...; a single value is drawn as a dot.

    Args:
        axis: Axis to draw on.
        values: One value per step.
        line: Line style.
        **look: Further arguments of `Axes.plot`.
    """
    alone = {"marker": "o", "markersize": 4} if len(values) == 1 else {}
    axis.plot(range(1, len(values) + 1), values, line, **alone, **look)


def by_numbers(text: str) -> list[tuple[bool, float, str]]:
    """Return a sort key that orders names by the values of their numbers: "N = 64" before "N = 1,024"."""
    parts = re.split(r"(\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)", text)
    return [(bool(place % 2), float(part.replace(",", "")) if place % 2 else 0.0, part)
            for place, part in enumerate(parts)]  # fmt: skip
