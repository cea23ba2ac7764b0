"""Lists every dataset: whether it is here, where it was looked for, how to get it; or fetches one.

linearized data                  lists
linearized data --fetch=FMNIST   gets it, where it is not here
"""

import dataclasses
from collections.abc import Sequence

from rich.console import Console

from linearized.base.terminal import UNLIMITED, Column, plain_lines, width_of, wrapped
from linearized.data import DATASETS
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting


@dataclasses.dataclass(frozen=True)
class ShowDataSettings(Settings):
    """The command's settings."""

    fetch: str | None = setting(None, "a dataset to download or make", choices=DATASETS)


def listing(width: int = UNLIMITED) -> str:
    """Return the table that `linearized data` prints, then where each dataset lies or was sought.

    Args:
        width: Cells of the terminal. Columns are left out from the right; words that are longer, such as paths, stay
            whole.
    """
    rows, details = [], []
    for name in DATASETS:
        source = DATASETS.load(name)
        found = source.find()
        levels = source.noise_levels
        here = "yes" if found.place else ("made on use" if found.made_on_load else "no")
        span = f"{source.noise_name} = {levels[0]:g} to {levels[-1]:g}"
        rows.append((name, here, f"0..{len(levels) - 1}", span, source.title))
        details.append(f"{name}: {found.place or here}")
        details += [f"    sought: {place}" for place in found.sought]
        details += [] if found.place else [f"    {found.how}"]
    titles = ("dataset", "here", "noise_ind", "stands for", "what it is")
    columns = [Column(title, cells, rank, text=rank > 2)
               for rank, (title, cells) in enumerate(zip(titles, zip(*rows, strict=True), strict=True))]  # fmt: skip
    lines = plain_lines(columns, width)
    for detail in details:
        lines += wrapped(detail.strip(), width, indent="    " if detail.startswith(" ") else "")
    return "\n".join(lines)


def main(config: ShowDataSettings) -> None:
    """Lists, or fetches the dataset asked for."""
    if config.fetch is None:
        print(listing(width_of(Console())))
        return
    place = DATASETS.load(config.fetch).fetch()
    print(f"{config.fetch} is in {place}." if place else f"{config.fetch} needs no files: loading makes it.")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(ShowDataSettings, __doc__, main, arguments)
