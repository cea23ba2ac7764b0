"""Write an HTML report of all results in a folder, or one picture: the metric of each run against the noise level.

    linearized report storage/nn --out=report.html     figures, tables, curves and settings of all runs, and failures
    linearized report --out=noise.png                  one picture of all results of models and kernels

The report is one file that needs no network. A picture is .png, .pdf or .svg.
"""

import dataclasses
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from rich.console import Console

from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.nearest import hint
from linearized.base.terminal import say, shell_lines, width_of
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting

PICTURES = (".png", ".pdf", ".svg")


@dataclasses.dataclass(frozen=True)
class ReportSettings(Settings):
    """Settings of `linearized report`."""

    directory: tuple = setting((), "folder with results, searched through; may be given more than once, and without "
                               "its name; none: nn_dir and rkhs_dir")  # fmt: skip
    metric: str = setting("test_accuracy", "a column of the table of results, such as test_accuracy or test_loss")
    out: str = setting("report.html", "the page (.html) or picture (.png, .pdf, .svg) to write")

    def __post_init__(self):
        super().__post_init__()
        if Path(self.out).suffix not in (".html", *PICTURES):
            raise UserError(f"--out must end in .html, .png, .pdf or .svg. Received: {self.out!r}.")


def main(config: ReportSettings) -> None:
    """Read the results of some folders, write the report or picture, and print one entry per run.

    An entry has the metric of the run at its chosen ridge and its command.

    Raises:
        UserError: If the folders have no results, or none has the metric.
    """
    from linearized.report.page_parts import NO_COMMAND
    from linearized.report.runs import find
    from linearized.report.theory_parts import summary

    folders = [Path(folder) for folder in config.directory] or [directory("nn_dir"), directory("rkhs_dir")]
    missing = [folder for folder in folders if not folder.is_dir()] if config.directory else []
    if missing:
        raise UserError(f"{missing[0]} is no folder. Give folders with results, or none for those of directories.txt.")
    runs = find(folders)
    picture = Path(config.out).suffix in PICTURES
    drawable = config.metric in runs.table and runs.table[config.metric].notna().any()
    if not drawable and (picture or config.metric != "test_accuracy"):
        columns = ", ".join(map(str, runs.table.columns)) or "none, for no run is finished"
        near = hint(config.metric, [name for name in runs.table if runs.table[name].notna().any()])
        raise UserError(f"The results have no {config.metric}.{near} Columns: {columns}.")
    if picture:
        from linearized.report.noise_plots import noise_curves
        from linearized.report.style import save_figure

        path = save_figure(noise_curves(runs.table, metric=config.metric), config.out)
    else:
        from linearized.report.page import write_page

        metrics = tuple(dict.fromkeys((config.metric, "test_accuracy", "test_loss")))
        path = write_page(runs, config.out, folders=folders, metrics=metrics)
    logging.info("%d runs drawn in %s", len(runs.table), path)
    console = Console()
    values = runs.table[config.metric] if drawable else [None] * len(runs.records)
    for record, value in zip(runs.records, values, strict=True):
        found = "" if value is None or value != value else f", {config.metric.replace('_', ' ')} {value:.4g}"
        say(f"{record['title']}{found}:", console)
        lines = _command_lines(record.get("command", NO_COMMAND), width_of(console) - 2)
        console.print(textwrap.indent(lines, "  "), markup=False, highlight=False, soft_wrap=True)
    for record in runs.theories.get("record", ()):
        point = summary(record)
        losses = [f"{point[name]:.4g} {word}" for name, word in (("predicted", "predicted"), ("other", "measured"))
                  if point.get(name) is not None]  # fmt: skip
        say(f"theory: {record['title']}, n = {point['n']}, test loss {', '.join(losses) or 'infinite'}:", console)
        lines = _command_lines(record.get("command", NO_COMMAND), width_of(console) - 2)
        console.print(textwrap.indent(lines, "  "), markup=False, highlight=False, soft_wrap=True)


def _command_lines(command: str, width: int) -> str:
    """Return a command line, broken into several lines that a shell reads as one.

    A line that cannot be split into words is returned unchanged; records that other programs wrote may have one.

    Args:
        command: The command as one line.
        width: Width of the terminal in characters.
    """
    try:
        return shell_lines(shlex.split(command), width)
    except ValueError:
        return command


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(ReportSettings, __doc__, main, arguments, words="directory")


if __name__ == "__main__":
    sys.exit(command())
