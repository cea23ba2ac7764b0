"""Make a figure of Ghorbani et al. (arXiv 2006.13409), or one of the suite's own: run the missing runs and draw it.

    linearized reproduce --figure=fmnist_noise --scale=laptop
    linearized reproduce --figure=synth_kappa --scale=paper --dry_run
    linearized reproduce --figure=nfmnist_noise --scale=workstation --launcher=slurm --workers=16
    linearized reproduce --figure=lazy_to_rich --scale=laptop
    linearized reproduce --figure=learning_curves
    linearized reproduce --figure=cifar2_noise --num_train=10000 --values=0,7,14 --dry_run

Repeating a stopped command continues it; finished runs are not repeated. The picture (png and pdf) and a table of the
numbers in it (csv) are written to the same folder. Run the command in the repository's folder, which contains train.py
and kernel_fit.py.
"""

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from linearized.base.directories import directory, storage
from linearized.base.errors import UserError
from linearized.base.terminal import Column, print_columns, say, shell_lines, width_of
from linearized.launch.launch_settings import WhereSettings
from linearized.report.recipes import RECIPES, SCALES
from linearized.report.recipes.changed import REPLACEMENTS, changed, suffix
from linearized.report.recipes.estimate import disk_bytes, seconds
from linearized.report.recipes.figure_recipe import DIRECTORIES, FigureRecipe, Run, runs
from linearized.settings.command import run_command
from linearized.settings.config import setting
from linearized.settings.reads import when
from linearized.storage.files import whole_file

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class ReproduceSettings(WhereSettings):
    """Settings of `linearized reproduce`: the figure, its scale, changes of its data, and where the commands run."""

    figure: str = setting("fmnist_noise", "the figure", choices=RECIPES)
    scale: str = setting("laptop", "how large", choices=SCALES)
    dataset: str = setting(
        "", "make a figure of images on this data set instead of its own", choices=("", *REPLACEMENTS)
    )
    values: str = setting("", "values of the horizontal axis such as 0,5,10; empty: those of the scale")
    seeds: int | None = setting(
        None, "runs of each value, with the seeds 0, 1 and so on; empty: as many as the scale has",
        minimum=1, maximum=1000,
    )  # fmt: skip
    num_train: int | None = setting(None, "train rows of every run; empty: those of the scale", minimum=1)
    num_test: int | None = setting(None, "test rows of every run; empty: those of the scale", minimum=1)
    validation: int | None = setting(
        None, "train rows held out to choose ridges on, 0: none; empty: as many as the scale has", minimum=0
    )
    noise_ind: int | None = setting(None, "noise level, where it is not the axis; empty: that of the figure", minimum=0)
    dry_run: bool = setting(False, "print the commands, their number and an estimate of time and disk; run nothing")
    out: str = setting(
        "",
        "folder of the pictures and their tables; empty: figures in ./storage, or in $LINEARIZED_STORAGE",
        when=when(dry_run=False),
    )

    def changes(self) -> dict[str, int | str]:
        """Return the flags by name that the user gave to change the data of the figure."""
        given = {
            "dataset": self.dataset, "values": self.values, "seeds": self.seeds, "num_train": self.num_train,
            "num_test": self.num_test, "validation": self.validation, "noise_ind": self.noise_ind,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value not in ("", None)}


def main(config: ReproduceSettings) -> None:
    """Run the missing runs of a figure, draw it from the finished ones, then report failures.

    With `--dry_run`, only the commands and the estimate are printed.

    Raises:
        UserError: If no run left a result, or if a command failed.
    """
    changes = config.changes()
    recipe: FigureRecipe = RECIPES.load(config.figure)
    dataset = config.dataset or recipe.source()
    if changes:
        recipe = changed(recipe, config.scale, {**changes, "dataset": dataset})
    todo = runs(config.figure, recipe, config.scale, dataset)
    if config.dry_run:
        width = width_of(Console())
        print("\n".join(shell_lines(run.command, width) for run in todo))
        say(_estimate(todo, config.workers))
        return
    from linearized.launch.session import refuse_failures, run_all

    say(_estimate(todo, config.workers))
    sys.stdout.flush()
    ended = run_all(config, [run.command for run in todo])
    points = collected(todo)
    if (own := _own_figure(recipe)) is not None:
        points = own.points(recipe, points)
    if points.empty:
        refuse_failures(ended)
        raise UserError(f"No run of {config.figure} left a result. Look into the logs above.")
    folder = Path(config.out) if config.out else storage() / "figures"
    recipe = recipe.titled(dataset, config.scale)
    draw(recipe, dataset, points, folder, f"{config.figure}-{config.scale}{suffix(changes)}")
    refuse_failures(ended)


def collected(todo: list[Run]) -> "pd.DataFrame":
    """Return a table of the finished runs of a figure: label of the curve, value of the axis, seed, and the results.

    The results of a run are its row of `linearized.storage.results.collect` or, for runs of theory, of
    `theory_figure.collected`.

    Args:
        todo: All runs of the figure.
    """
    import pandas as pd

    from linearized.report.recipes import theory_figure
    from linearized.storage.results import collect

    tables, rows = {}, []
    for run in todo:
        folder = directory(DIRECTORIES[run.program]) / run.flags["exp_name"]
        if folder not in tables:
            tables[folder] = theory_figure.collected(folder) if run.program == "theory" else collect(folder)
        table = tables[folder]
        if table.empty:
            continue
        same = pd.Series(True, table.index)
        for name, value in run.flags.items():
            column = f"setting_{name}" if f"setting_{name}" in table else name
            same &= _equal(table[column], value) if column in table else False
        place = {"label": run.label, "value": run.value, "seed": run.seed}
        rows += [{**row, **place} for row in table[same].to_dict("records")]
    return pd.DataFrame(rows)


def _equal(column: "pd.Series", value: Any) -> "pd.Series":
    """Return a mask of the entries of a column that equal a flag's value.

    Numbers are compared as numbers, because counts may be stored as floats.
    """
    import pandas as pd

    if isinstance(value, int | float) and not isinstance(value, bool):
        return pd.to_numeric(column, errors="coerce") == value
    return column.astype(str) == str(value)


def draw(recipe: FigureRecipe, dataset: str, points: "pd.DataFrame", folder: Path, name: str) -> None:
    """Write the picture as png and pdf and its data as csv; print means over seeds and the sentence `recipe.shows`.

    Args:
        recipe: Recipe of the figure.
        dataset: Dataset of the runs.
        points: Data of the figure. They are the result of `tangent_figure.points` for recipes with `tangents`, of
            `theory_figure.points` for those with `theory`, and of `collected` for all others.
        folder: Folder of the files.
        name: Name of the files without suffix.
    """
    from linearized.report import plots
    from linearized.report.recipes import plot

    own = _own_figure(recipe)
    picture = (own or plot).figure(recipe, dataset, points)
    for ending in (".png", ".pdf"):
        say(f"drawn: {plots.save_figure(picture, folder / (name + ending))}")
    named = ("label", "value", "seed", "ridge", "chosen_by", "flaw", "seconds", "path")
    shown = [column for column in points if own or column in named or column.endswith(("_loss", "_accuracy"))]
    with whole_file(folder / f"{name}.csv") as path:
        points[shown].to_csv(path, index=False)
    print_means(recipe.metric, own.tabled(recipe, points) if own else points)
    published = recipe.published and not own
    where = "" if published or dataset == recipe.dataset else f" on {recipe.dataset}"
    say(f"the {'published ' if published else ''}figure{where} shows: {recipe.shows}")


def _own_figure(recipe: FigureRecipe) -> ModuleType | None:
    """Return the module that draws a figure about tangent kernels or theory; None for recipes with ordinary curves.

    The module has the functions `points`, `tabled` and `figure`.
    """
    if not (recipe.tangents or recipe.theory):
        return None
    return importlib.import_module(f"linearized.report.recipes.{'tangent' if recipe.tangents else 'theory'}_figure")


def print_means(metric: str, points: "pd.DataFrame") -> None:
    """Print the mean of a metric over seeds: one row per value of the axis, one column per curve.

    Args:
        metric: Column of the metric.
        points: Table with the columns `value`, `label` (of the curve) and the metric.
    """
    means = points.pivot_table(metric, "value", "label", sort=False).sort_index()
    columns = [Column("value", [f"{value:g}" for value in means.index])]
    columns += [Column(str(label), ["-" if np.isnan(mean) else f"{mean:.3f}" for mean in means[label]])
                for label in means]  # fmt: skip
    print_columns(f"mean {metric.replace('_', ' ')}", columns)


def _estimate(todo: list[Run], workers: int) -> str:
    hours = sum(map(seconds, todo)) / max(workers, 1) / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    gib = sum(map(disk_bytes, todo)) / 2**30
    return (
        f"{len(todo)} runs, about {time} on {workers} workers of one core and {gib:.2g} GiB of disk "
        "(a rough count of operations; what is done already is not made again)"
    )


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(ReproduceSettings, __doc__, main, arguments)
