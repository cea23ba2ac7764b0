"""What a figure is: curves over an axis; a point of a curve is one run of one command a seed."""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

from linearized.base.weights import SEED
from linearized.data import DATASETS

DIRECTORIES = {"train": "nn_dir", "krr": "rkhs_dir", "theory": "rkhs_dir"}  # of subcommands
MOST_ROWS = 2**17  # of a Gram matrix: 34 GB in float32
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
    """One line of the figure.

    The flag `matched_units` stands for the width of an RF model that has as many parameters as a network of so many
    units has in its first layer, as published.

    Attributes:
        label: In the legend.
        program: The subcommand: train, krr or theory. A run of theory has all values of the axis `num_train`.
        flags: What makes this line; `sizes` has more by scale.
        times: What the value of the axis is multiplied by, such as hidden units for each channel of another curve.
        fixed: Whether its features are fixed, in a figure that has learned ones too: drawn dashed.
    """

    label: str
    program: str
    flags: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    times: int = 1
    fixed: bool = False


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large: the axis' values, the seeds, and flags that all runs share."""

    values: tuple[int, ...]
    seeds: tuple[int, ...]
    shared: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class FigureRecipe:
    """A figure of the published experiment, or of the suite's own.

    Attributes:
        shows: What the figure shows, in a sentence; of a published one, as it was published.
        dataset, stand_in: What it is about, and what takes its place where that is not here; "" for nothing.
        axis: The flag that the abscissa stands for.
        metric: A column of `linearized.storage.results.collect`.
        references: Horizontal lines, label -> height.
        tangents: "epochs" or "widths" for a figure of what `--tangent_at` measured, against the epoch or the width,
            with a column of panels for each curve; "": a line for each curve.
        theory: "learning_curves", "double_descent" or "spectrum" for a figure with predicted curves; "": none.
        published: Whether `shows` is what was published.
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

    def source(self) -> str:
        """The dataset to run on: the recipe's own where it is here, else its stand-in."""
        here = DATASETS.load(self.dataset).find()
        return self.dataset if here.place or here.made_on_load or not self.stand_in else self.stand_in


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: its place in the figure, and its command."""

    label: str
    value: int
    seed: int
    program: str
    flags: Mapping[str, Any]

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the command line."""
        return (
            "python",
            "-m",
            "linearized",
            self.program,
            *(f"--{name}={value}" for name, value in self.flags.items()),
        )


def runs(name: str, recipe: FigureRecipe, scale: str, dataset: str) -> list[Run]:
    """All runs of a figure at a scale, value by value, so that a figure that is stopped holds whole points.

    A kernel on all rows is the same for every seed, and runs once; beyond `MOST_ROWS` rows it is left out. Where a
    stand-in has fewer rows than are asked for, all of them are taken.
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
        if curve.program == "theory" and recipe.axis == "num_train" and value != size.values[0]:
            continue
        if kernel and (rows > MOST_ROWS or (not some and seed != size.seeds[0])):
            continue
        flags |= _draws(flags, seed, some)
        flags["exp_name"] = f"{name}-{scale}-{_slug(curve.label)}"
        found.append(Run(curve.label, value, seed, curve.program, flags))
    return found


def _draws(flags: Mapping[str, Any], seed: int, some: bool) -> dict[str, Any]:
    """Return the flags by which runs of different seeds differ: random rows, else what the model draws itself.

    Args:
        some: Whether the run takes a part of the rows.
    """
    if some:
        return {"subset": "random", "seed": seed}
    if "kernel" in flags or seed == 0:
        return {}
    return {"weight_seed": SEED + seed} if flags["model"] in ("RF", "NT") else {"seed": seed}


def shape(flags: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Train rows, test rows, dimension and outputs of a run's data."""
    whole = SHAPES.get(flags["dataset"]) or (flags["synth_n"], 10000, flags["synth_dim"], 1)
    rows = (flags.get(name) or most for name, most in zip(("num_train", "num_test"), whole, strict=False))
    return *map(min, rows, whole), flags.get("synth_dim") or whole[2], whole[3]


def _slug(label: str) -> str:
    return re.sub(r"\W+", "_", label).strip("_").lower()
