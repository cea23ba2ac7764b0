"""Draws what `linearized compare` measured: parameters, speed, memory and accuracy of several models.

Example: python -m linearized.report.comparison --directory=storage/nn/test/compare_DIGITS_noise0_CNN_KERV_CNN
    --out=models.png
"""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linearized.base.errors import UserError
from linearized.base.reading import parsing, read_json
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting

PANELS = ("trained_parameters", "examples_per_second", "memory_gib", "test_accuracy", "test_loss")


@dataclasses.dataclass(frozen=True)
class ComparisonSettings(Settings):
    """Settings of `python -m linearized.report.comparison`."""

    directory: str = setting("", "folder of a comparison, with its comparison.json")
    out: str = setting("comparison.png", "the picture to write: .png, .pdf or .svg")


def comparison_bars(record: Mapping[str, Any]):
    """Draw one panel per metric of `PANELS` that was measured, one bar per model; return the matplotlib Figure.

    Args:
        record: `title`, `columns` (name -> title) and `rows`, each with a `label`; None where nothing was measured.
    """
    from linearized.report.style import COLOURS, new_figure, wrapped_title

    rows = means(record["rows"])
    panels = [name for name in PANELS if any(row.get(name) is not None for row in rows)]
    if "test_accuracy" in panels:
        panels = [name for name in panels if name != "test_loss"]
    labels = [_wrapped(row["label"], 26) for row in rows]
    height = 1.2 + sum(0.25 + 0.15 * (1 + label.count("\n")) for label in labels)
    figure, axes = new_figure(2.6 + 2.4 * len(panels), height, nrows=1, ncols=len(panels), sharey=True)
    for axis, name in zip(axes, panels, strict=True):
        values = [row.get(name) for row in rows]
        bars = axis.barh(range(len(rows)), [value or 0.0 for value in values], color=COLOURS[0])
        axis.bar_label(bars, [_shown(value) for value in values], padding=3)
        axis.set_title(record["columns"][name], fontsize=10)
        axis.set_xlim(0, 1.35 * max(filter(None, values), default=1.0))
        axis.tick_params(axis="both", length=0, labelbottom=False)
        axis.grid(False)
    axes[0].set_yticks(range(len(rows)), labels, fontsize=9)
    axes[0].invert_yaxis()
    wrapped_title(figure, record["title"])
    return figure


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per label: numbers averaged over the seeds, None where no seed has one."""
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        models.setdefault(row["label"], []).append(row)
    averaged = []
    for label, own in models.items():
        columns = {name: [row[name] for row in own if row.get(name) is not None] for name in PANELS}
        averaged.append({"label": label} | {
            name: sum(values) / len(values) if values else None for name, values in columns.items()
        })  # fmt: skip
    return averaged


def _wrapped(label: str, letters: int) -> str:
    """Return a label on several lines, broken after ":", "=", "," and "_" rather than within words."""
    lines = [""]
    for part in re.findall(r"[^:=,_ ]*(?:[:=,_ ]+|$)", label):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def main(config: ComparisonSettings) -> None:
    """Reads, draws, writes."""
    from linearized.report.style import save_figure

    if Path(config.out).suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--out must end in .png, .pdf or .svg. Received: {config.out!r}.")
    path = Path(config.directory) / "comparison.json"
    advice = "Make it with: linearized compare"
    record = read_json(path, advice)
    with parsing(path, "a comparison", advice):
        figure = comparison_bars(record)
    save_figure(figure, config.out)


if __name__ == "__main__":
    sys.exit(run_command(ComparisonSettings, __doc__, main))
