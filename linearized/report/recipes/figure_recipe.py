"""Data classes that describe a figure of `linearized reproduce`: its curves, its scales, and the runs it is made from.

A scale ("laptop", "workstation" or "paper") sets the number and the size of the runs. At each value of the horizontal
axis, a curve shows the mean over random-number seeds, with one run of a command per seed.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

from linearized.base.weights import SEED
from linearized.data import DATASETS

DIRECTORIES = {"train": "nn_dir", "krr": "rkhs_dir", "theory": "rkhs_dir"}  # subcommand -> key of its result folder
MOST_ROWS = 2**17  # largest number of rows of a Gram matrix, which takes 34 GB in float32
SHAPES = {  # train rows, test rows, dimension (0: --synth_dim), outputs
    **dict.fromkeys(("DIGITS", "NDIGITS"), (1437, 360, 64, 10)),
    **dict.fromkeys(("FMNIST", "NFMNIST"), (60000, 10000, 784, 10)),
    "CIFAR2": (10000, 2000, 1024, 1),
    "CIFAR10": (50000, 10000, 3072, 10),
    **dict.fromkeys(("PATCHES", "NPATCHES"), (1500, 500, 3072, 10)),
    "SPHERE": (20_000, 10_000, 0, 1),
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """One curve of a figure, and the command whose runs measure it.

    Attributes:
        label: Name in the legend.
        program: Subcommand of `linearized`: "train", "krr" or "theory". If the number of train rows is on the
            horizontal axis, one run of "theory" covers all its values.
        flags: Flags of all runs of this curve, by name. In addition to the flags of the subcommand there is
            `matched_units`, a number of hidden units. It sets `--num_units` of an RF model so that the model has as
            many parameters as the first layer of a network with that many units, as in the figures of Ghorbani et al.
        sizes: Flags that depend on the scale: name of the scale ("laptop", "workstation" or "paper") -> flags, such as
            the number of units. They replace equal names in `flags`.
        times: Number by which the value of the axis is multiplied for this curve. On an axis of widths, for example,
            one curve may have several hidden units for each channel of another.
        fixed: Whether the features are fixed, in a figure that also has curves of learned features. Curves of fixed
            features are dashed.
    """

    label: str
    program: str
    flags: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    times: int = 1
    fixed: bool = False


@dataclasses.dataclass(frozen=True)
class Scale:
    """Number and size of the runs of a figure at one scale: "laptop", "workstation" or "paper".

    Attributes:
        values: Values of the horizontal axis at which runs are made.
        seeds: Random-number seeds; there is one run per curve, value and seed.
        shared: Flags of the runs of all curves, such as the number of train rows. The flags of a curve replace them.
    """

    values: tuple[int, ...]
    seeds: tuple[int, ...]
    shared: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class FigureRecipe:
    """Description of a figure that `linearized reproduce` makes: one of Ghorbani et al., or one of the suite's own.

    Attributes:
        title: Title of the figure; "{dataset}" and "{noise_ind}" in it are replaced by the dataset and noise level of
            the runs.
        shows: Sentence that states what the figure shows; for a figure of Ghorbani et al., their finding.
        dataset: Dataset of the figure.
        axis: Flag whose values are on the horizontal axis.
        metric: Column of `linearized.storage.results.collect` on the vertical axis.
        curves: Curves of the figure.
        scales: Number and size of the runs by name of the scale, "laptop", "workstation" or "paper".
        stand_in: Dataset that replaces `dataset` if the files of `dataset` are missing; "" for none.
        references: Horizontal reference lines, label -> height.
        tangents: "epochs" or "widths" for a figure of the measurements of `--tangent_at` against the epoch or the
            width, with one column of panels per curve; "" for a figure without these measurements.
        theory: "learning_curves", "double_descent" or "spectrum" for a figure with predicted curves; "" for a figure
            without predictions.
        published: Whether `shows` is a finding of Ghorbani et al.; ignored if `tangents` or `theory` is set.
    """

    title: str
    shows: str
    dataset: str
    axis: str
    metric: str
    curves: tuple[Curve, ...]
    scales: Mapping[str, Scale]
    stand_in: str = ""
    references: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tangents: str = ""
    theory: str = ""
    published: bool = True

    def titled(self, dataset: str, scale: str) -> "FigureRecipe":
        """Return the recipe with the dataset, and the noise level of a scale such as "laptop", in its title."""
        title = self.title.format(dataset=dataset, noise_ind=self.scales[scale].shared.get("noise_ind"))
        return dataclasses.replace(self, title=title)

    def source(self) -> str:
        """Return the dataset to run on: the recipe's own if it is available, otherwise its replacement `stand_in`."""
        here = DATASETS.load(self.dataset).find()
        return self.dataset if here.place or here.made_on_load or not self.stand_in else self.stand_in


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a command for a figure: where it is drawn, and its flags.

    Attributes:
        label: Label of the curve.
        value: Value of the horizontal axis.
        seed: Random-number seed.
        program: Subcommand.
        flags: Flags of the command.
    """

    label: str
    value: int
    seed: int
    program: str
    flags: Mapping[str, Any]

    @property
    def command(self) -> tuple[str, ...]:
        """Words of the command line, such as ("python", "-m", "linearized", "train", "--model=RF")."""
        return (
            "python",
            "-m",
            "linearized",
            self.program,
            *(f"--{name}={value}" for name, value in self.flags.items()),
        )


def runs(name: str, recipe: FigureRecipe, scale: str, dataset: str) -> list[Run]:
    """Return all runs of a figure at one scale, ordered by the value of the horizontal axis.

    A figure that is stopped early thus has all curves at its first values. In general there is one run per curve, value
    and seed, with these exceptions:

    - A kernel that is fitted to all rows gives the same result for every seed and runs only once.
    - A kernel on more than 2^17 rows (`MOST_ROWS`) is left out.
    - If the number of train rows is on the axis, a run of `linearized theory` measures all its values that are smaller
      than the pool.

    If the dataset has fewer rows than the recipe requests, all of its rows are used.

    Args:
        name: Name of the figure, part of the names of result folders.
        recipe: Recipe of the figure.
        scale: Name of the scale, "laptop", "workstation" or "paper".
        dataset: Dataset to run on.
    """
    size, found = recipe.scales[scale], []
    for value, seed, curve in itertools.product(size.values, size.seeds, recipe.curves):
        flags = {
            "dataset": dataset,
            recipe.axis: value * curve.times,
            **size.shared,
            **curve.flags,
            **curve.sizes.get(scale, {}),
        }
        rows, tests, dim, outputs = shape(flags)
        flags |= {name: most for name, most in (("num_train", rows), ("num_test", tests)) if name in flags}
        if units := flags.pop("matched_units", 0):
            flags["num_units"] = round(units * dim / outputs)
        kernel, some = curve.program == "krr", "num_train" in flags
        if curve.program == "theory" and recipe.axis == "num_train":
            if value != size.values[0]:
                continue
            flags["sizes"] = ",".join(str(rows) for rows in size.values if rows < flags["num_train"])
        if kernel and (rows > MOST_ROWS or (not some and seed != size.seeds[0])):
            continue
        flags |= _draws(flags, seed, some)
        flags["exp_name"] = f"{name}-{scale}-{_slug(curve.label)}"
        found.append(Run(curve.label, value, seed, curve.program, flags))
    return found


def _draws(flags: Mapping[str, Any], seed: int, some: bool) -> dict[str, Any]:
    """Return the flags by which runs of different seeds differ: a random subset of the rows, or the seed of the model.

    The result is empty for a kernel on all rows, and for seed 0 with all rows.

    Args:
        flags: Flags of the run so far.
        seed: Random-number seed.
        some: Whether the run uses only a part of the rows.
    """
    if some:
        return {"subset": "random", "seed": seed}
    if "kernel" in flags or seed == 0:
        return {}
    return {"weight_seed": SEED + seed} if flags["model"] in ("RF", "NT") else {"seed": seed}


def shape(flags: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return the numbers of train rows, test rows, inputs and outputs of a run's data.

    Args:
        flags: Flags of the run.
    """
    whole = SHAPES.get(flags["dataset"]) or (flags["synth_n"], 10000, flags["synth_dim"], 1)
    rows = (flags.get(name) or most for name, most in zip(("num_train", "num_test"), whole, strict=False))
    return *map(min, rows, whole), flags.get("synth_dim") or whole[2], whole[3]


def _slug(label: str) -> str:
    return re.sub(r"\W+", "_", label).strip("_").lower()
