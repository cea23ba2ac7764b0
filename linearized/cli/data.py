"""List all datasets, with where each was found and how to get it; fetch one; or show your own data.

linearized data                                    list all datasets
linearized data --fetch=FMNIST                     get it, if it is missing
linearized data --data=table.csv --target=price    show what --data would load, and write a picture of it
linearized data --data=images --noise=high_frequency --noise_ind=3    the same, with the noise at one of its levels
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from linearized.base.errors import UserError
from linearized.base.terminal import UNLIMITED, Column, plain_lines, print_columns, width_of, wrapped
from linearized.data import DATASETS
from linearized.settings.command import run_command
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.data_settings import DataSettings
from linearized.settings.own_settings import OWN, OwnDataSettings
from linearized.settings.reads import SET, when


@dataclasses.dataclass(frozen=True)
class ShowDataSettings(OwnDataSettings):
    """Settings of `linearized data`: flags of the user's own data, the data set to fetch, and what to show."""

    fetch: str | None = setting(None, "a dataset to download or make", choices=DATASETS, when=when(data=""))
    seed: int = setting(0, "seed of the division into train and test rows", minimum=0, maximum=LARGEST_SEED, when=OWN)
    noise_ind: int = setting(0, "the level of --noise that is shown", minimum=0, when=when(noise=SET))
    out: str = setting("data.png", "the picture: images of each class, or a table of columns", when=OWN)

    def __post_init__(self):
        super().__post_init__()
        if self.data and Path(self.out).suffix.lower() not in (".png", ".pdf", ".svg"):
            raise UserError(f"--out is a .png, .pdf or .svg file. Received: --out={self.out}.")


def listing(width: int = UNLIMITED) -> str:
    """Return the text that `linearized data` prints: a table of all data sets, and the place where each was found.

    For a data set that was not found, the text names the places that were searched and how to get the data set.

    Args:
        width: Width of the terminal in characters. If the table is wider, its rightmost columns are left out. Words
            that are longer than the width, such as paths, are not broken.
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


def show(config: ShowDataSettings) -> None:
    """Print what --data would load, and write a picture of it: images of each class, or a table of the columns.

    Args:
        config: Settings of the command.

    Raises:
        UserError: For data that cannot be loaded.
    """
    from linearized.data.own.overview import overview
    from linearized.report.data_plots import column_table, contact_sheet
    from linearized.report.style import save_figure

    changed = {name: value for name in OwnDataSettings.own()
               if (value := getattr(config, name)) != config.__dataclass_fields__[name].default}  # fmt: skip
    source = DataSettings(**changed, seed=config.seed).described()
    seen = overview(source, noise_ind=config.noise_ind)
    print("\n".join(seen.lines))
    if seen.images is not None:
        figure = contact_sheet(seen.images, source.prepared.class_names, source.image_shape)
    else:
        titles = ("column", "kind", "missing", "distinct", "values")
        rows = [(one.name[:30], one.kind, f"{one.missing:,}", f"{one.distinct:,}", one.values) for one in seen.columns]
        cells = [list(column) for column in zip(*rows, strict=True)]
        columns = [Column(title, cells[rank], rank, text=rank in (0, 1, 4)) for rank, title in enumerate(titles)]
        print_columns("train rows", columns)
        figure = column_table(rows, titles)
    print(f"written to {save_figure(figure, config.out)}")


def main(config: ShowDataSettings) -> None:
    """List the data sets, fetch the one that --fetch names, or show the user's own data, as the settings select."""
    if config.data:
        show(config)
        return
    if config.fetch is None:
        print(listing(width_of(Console())))
        return
    place = DATASETS.load(config.fetch).fetch()
    print(f"{config.fetch} is in {place}." if place else f"{config.fetch} needs no files: loading makes it.")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(ShowDataSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
