"""Draw the measurements of `linearized compare` (accuracy, time, memory, parameters), and write an HTML report of them.

Example: python -m linearized.report.comparison --directory=storage/nn/test/compare_DIGITS_noise0_CNN_KERV_CNN
    --out=models.png --page=models.html
"""

import dataclasses
import sys
from pathlib import Path

from linearized.base.errors import UserError
from linearized.base.reading import parsing, read_json
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting
from linearized.storage.results import COMPARISON


@dataclasses.dataclass(frozen=True)
class ComparisonSettings(Settings):
    """Settings of `python -m linearized.report.comparison`."""

    directory: str = setting("", "folder of a comparison, with its comparison.json")
    out: str = setting("comparison.png", "the picture to write: .png, .pdf or .svg")
    page: str = setting("", "the page to write, with the picture, the tables and every run: .html; empty: none")


def main(config: ComparisonSettings) -> None:
    """Read the result of a comparison, draw its picture and write its HTML report."""
    from linearized.report.comparison_plots import comparison_bars
    from linearized.report.style import save_figure

    if Path(config.out).suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--out must end in .png, .pdf or .svg. Received: {config.out!r}.")
    if config.page and Path(config.page).suffix != ".html":
        raise UserError(f"--page must end in .html. Received: {config.page!r}.")
    path = Path(config.directory) / COMPARISON
    advice = "Make it with: linearized compare"
    record = read_json(path, advice)
    with parsing(path, "a comparison", advice):
        figure = comparison_bars(record)
        if config.page:
            from linearized.report.comparison_page import write_comparison_page

            write_comparison_page(record, config.page)
    save_figure(figure, config.out)


if __name__ == "__main__":
    sys.exit(run_command(ComparisonSettings, __doc__, main))
