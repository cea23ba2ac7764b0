"""Lists every dataset: whether it is here, where it was looked for, how to get it; or fetches one.

python -m data                  lists
python -m data --fetch=FMNIST   gets it, where it is not here
"""

import dataclasses
import sys

from data import DATASETS
from data.command import run_command
from data.config import Settings, setting


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The command's settings."""

    fetch: str | None = setting(None, "a dataset to download or make", choices=DATASETS)


def listing() -> str:
    """The table that `python -m data` prints."""
    rows, details = [("dataset", "here", "noise_ind", "stands for", "what it is")], []
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*table, "", *details])


def main(config: Config) -> None:
    """Lists, or fetches the dataset asked for."""
    if config.fetch is None:
        print(listing())
        return
    place = DATASETS.load(config.fetch).fetch()
    print(f"{config.fetch} is in {place}." if place else f"{config.fetch} needs no files: loading makes it.")


if __name__ == "__main__":
    sys.exit(run_command(Config, __doc__, main))
