"""One style for every picture, and how pictures are written: files (png, pdf, svg) and vector drawings inside a page.

Colours are told apart by every kind of colour vision; markers and line styles say the same again. A drawing inside a
page takes the page's text colour and font, so that it reads on a light and on a dark ground.
"""

import io
import re
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from data.files import whole_file

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
STYLE = {"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10}

_NAMES = {"square": "mean squared norm", "cross_entropy": "cross-entropy"}
_REFERENCE = re.compile(r'(?<=url\(#)[^)]+(?=\))|(?<=href="#)[^"]+(?=")')
_ELEMENT_ID = re.compile(r' id="([^"]+)"')
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_INK = re.compile(r"#000000|(?<=: )black\b")


def new_figure(width: float, height: float, **subplots) -> tuple[Figure, list]:
    """A figure in the style of the suite, inches wide and high, and its axes as one flat list."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(**{"squeeze": False, **subplots})
    return figure, list(axes.flat)


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Writes the figure as the suffix of `path` says (png, pdf, svg)."""
    with whole_file(path) as aside, matplotlib.rc_context(STYLE):
        figure.savefig(aside, dpi=150, bbox_inches="tight")
    return Path(path)


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an <svg> element to stand inside a page: no declaration, no fonts, no id that another may have.

    Args:
        name: Starts every id of the drawing; each drawing of a page has its own.
        label: What the drawing shows, for those who cannot see it.
    """
    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' (xmlns(:\w+)?|version)="[^"]*"', "", drawing).replace("xlink:href", "href")
    used = set(_REFERENCE.findall(drawing))
    drawing = _REFERENCE.sub(lambda found: f"{name}-{found[0]}", drawing)
    drawing = _ELEMENT_ID.sub(lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", drawing)
    drawing = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), drawing)
    drawing = re.sub(r"(\d+px) [^;\"]*sans-serif", r"\1 sans-serif", _INK.sub("currentColor", drawing))
    drawing = re.sub(r"\s+", " ", drawing).replace("> <", "><")
    width, height = figure.get_size_inches()
    return re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>",
        rf'<svg \1 role="img" aria-label="{_escaped(label)}" style="max-width:{width:.1f}in;aspect-ratio:'
        rf'{width:.2f}/{height:.2f}">',
        drawing, count=1,
    )  # fmt: skip


def _escaped(text: str) -> str:
    """For an attribute, and for the replacement of a regular expression."""
    plain = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\")


def metric_name(metric: str, loss: str | None = None) -> str:
    """A column's name for people: "test accuracy", or what the loss is where that is known."""
    plain = metric.replace("_", " ")
    return f"{_NAMES[loss]} ({plain})" if loss and metric == "loss" else plain


def shades(count: int) -> list:
    """`count` colours from dark to light, in an order that grey keeps."""
    return [matplotlib.colormaps["viridis"](place / max(count - 1, 1) * 0.88) for place in range(count)]


def spread_out(count: int, shown: int = 8) -> set[int]:
    """Which of `count` lines a legend names: the first, the last and some between them, about `shown` of them."""
    step = -(-count // shown)
    return {place for place in range(0, count, step) if count - 1 - place >= step / 2} | {count - 1}
