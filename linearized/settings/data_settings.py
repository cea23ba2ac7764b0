"""Flags of every command that loads a dataset: the dataset, its rows, preprocessing and noise levels.

For a dataset of the suite, nothing is loaded here: its description (`linearized.data.source.Source`) states its image
shape, task and noise levels, so that settings that cannot fit the data are refused before any file is read.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from linearized.base.errors import UserError
from linearized.base.lists import count_or_share, listed_indices
from linearized.base.registry import Registry
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.own_settings import MECHANISM, OwnDataSettings
from linearized.settings.reads import SET, Declarations, reads, when


class PublishedDatasets(Registry):
    """The registry of the suite's data sets, which `--dataset` selects; user data are given by `--data` instead."""

    def canonical(self, name: str) -> str:
        """Return the canonical name of a data set, which may be given in another letter case.

        Raises `UserError` for an unknown name. If it is a path or looks like one, the message points to `--data`.
        """
        try:
            return super().canonical(name)
        except UserError as error:
            if not set(name) & set("./:") and not Path(name).exists():
                raise
            raise UserError(f"{error} For data of your own: --data={name[:200]}.") from error


DATASETS = PublishedDatasets(
    "dataset",
    {
        "DIGITS": "linearized.data.sources.digits:DIGITS",
        "NDIGITS": "linearized.data.sources.digits:NDIGITS",
        "FMNIST": "linearized.data.sources.fmnist:FMNIST",
        "NFMNIST": "linearized.data.sources.fmnist:NFMNIST",
        "CIFAR2": "linearized.data.sources.cifar2:CIFAR2",
        "CIFAR10": "linearized.data.sources.cifar10:CIFAR10",
        "PATCHES": "linearized.data.sources.patches:PATCHES",
        "NPATCHES": "linearized.data.sources.patches:NPATCHES",
        "SYNTH": "linearized.data.sources.synth:SYNTH",
        "STAIRCASE": "linearized.data.sources.staircase:STAIRCASE",
        "SPHERE": "linearized.data.sources.sphere:SPHERE",
    },
)

ROWS_READ = reads("seed", when=when(subset="random"))  # read by the selection of rows, whatever the data set
ONE_LEVEL_HELP = "noise level, from 0 (linearized data lists what the levels are)"
MOST_ROWS = 2**40  # above any data set; a count that exceeds the data set is refused once its size is known


@dataclasses.dataclass(frozen=True)
class DataSettings(OwnDataSettings):
    """Settings that select a dataset (the suite's or the user's own) and rows of it; subclasses add the noise level.

    Raises `UserError` for more rows than the dataset has, and for settings that do not fit it.
    """

    GROUP = "Data"

    dataset: str = setting(
        "DIGITS", "the data set (linearized data lists which are here)", choices=DATASETS, when=when(data="")
    )  # fmt: skip
    num_train: int = setting(0, "train rows; 0: all", minimum=0, maximum=MOST_ROWS)
    num_test: int = setting(0, "test rows; 0: all", minimum=0, maximum=MOST_ROWS)
    validation: float = setting(
        0.0, "train rows held out to choose the ridge on: a fraction below 1, else a count", minimum=0.0
    )
    subset: str = setting(
        "first", "which rows --num_train and --num_test take", choices=("first", "random"),
        when=when(num_train=SET) | when(num_test=SET),
    )  # fmt: skip
    seed: int = setting(
        0, "seed of the random subset and, in training, of initial weights, the order of rows and dropout", minimum=0,
        maximum=LARGEST_SEED,
    )  # fmt: skip
    synth_dim: int = setting(1024, "SYNTH, SPHERE: dimension d", minimum=1, maximum=10**6)
    synth_eta: float = setting(0.4, "SYNTH: d^eta relevant coordinates", minimum=0.0, maximum=1.0)
    synth_n: int = setting(
        2**20, "SYNTH: rows of the whole train set, whose RMS scales the labels", minimum=1, maximum=2**32
    )
    index_dim: int = setting(200, "STAIRCASE: dimension d", minimum=1, maximum=10**6)
    index_target: str = setting(
        "1+2+3+1*2*3", "STAIRCASE: a sum of products of coordinates; 1^2 is the Hermite polynomial of degree 2"
    )
    index_inputs: str = setting(
        "gaussian", "STAIRCASE: standard normal inputs, or signs ±1", choices=("gaussian", "signs")
    )
    index_rotated: bool = setting(False, "STAIRCASE: coordinates of the target are random directions")

    def __post_init__(self):
        super().__post_init__()
        if not self.data and (check := getattr(self.described(), "check", None)):
            check(self)
        for part, most in zip(("train", "test"), self._most_rows(), strict=True):
            count = getattr(self, f"num_{part}")
            if most and count > most:
                raise UserError(f"{self.data_name()} has {most} {part} rows. Received: --num_{part}={count}.")
        if rows := self.num_train or self._most_rows()[0]:
            count_or_share(self.validation, rows, "validation")

    @classmethod
    def kinds(cls) -> Declarations:
        """Return which settings are read by which data set and for which selection of rows (see `Settings.kinds`).

        The key "dataset" has one entry per data set of the suite. The key "" stands for the selection of rows and has
        two entries: "divided" for the user's own data without a test part, which are split into train and test rows;
        "" for all other data. Further keys are those of the base class.
        """
        own = {name: reads(*DATASETS.load(name).settings) for name in DATASETS}
        return super().kinds() | {"dataset": own, "": {"": ROWS_READ, "divided": reads("seed", "test_fraction")}}

    def chosen(self) -> Mapping[str, str | None]:
        """Return the selected entry for each key of `kinds`, which together determine the settings that are read.

        Two keys are added to those of the base class. "dataset" has the name of the data set, or None for the user's
        own data. The key "" has "divided" if the user's own data are split into train and test rows, and "" otherwise.
        """
        if not self.data:
            return {**super().chosen(), "dataset": self.dataset, "": ""}
        return {**super().chosen(), "dataset": None, "": "divided" if self.described().prepared.divided else ""}

    def refuse_unread(self, given: Iterable[str]) -> None:
        """Raise `UserError` for a setting that is given although nothing reads it; the message states when it is read.

        If `--test_fraction` is given for data with test rows of their own, the message says so.

        Args:
            given: Names of the settings that differ from their defaults, or that the command line contains.
        """
        given = list(given)
        if self.data and "test_fraction" in given and not self.described().prepared.divided:
            raise UserError(f"{self.data} has test rows of its own: leave out --test_fraction. Received: "
                            f"--test_fraction={self.test_fraction}.")  # fmt: skip
        super().refuse_unread(given)

    def content(self) -> dict[str, str]:
        """Return digests of the files that are values of settings, by setting; the user's own data are one of them.

        In the key of a run, the digest of the data replaces their path.
        """
        return {**super().content(), **({"data": MECHANISM.load("digest")(self.own_options())} if self.data else {})}

    def _most_rows(self) -> tuple[int, int]:
        """Return the numbers of train and test rows of the dataset; 0 where only its files contain the number."""
        train, test = self.described().rows
        return (self.synth_n if self.described().name == "SYNTH" and not self.data else train), test

    def row_counts(self) -> dict[str, int]:
        """Return the numbers of selected rows by part: "train", "validation" and "test".

        A number is 0 if it is not known before the files of the data are read. Validation rows are taken from the train
        rows, and are not counted as "train".
        """
        most = self._most_rows()
        train, test = self.num_train or most[0], self.num_test or most[1]
        held_out = count_or_share(self.validation, train, "validation") if train else 0
        return {"train": train - held_out, "validation": held_out, "test": test}

    def described(self) -> Any:
        """Return the description of the dataset, a `linearized.data.source.Source`: its levels, task and image shape.

        For a dataset of the suite nothing is loaded. The user's own data are read, once per process, because only their
        files state these properties. Raises `UserError` if they cannot be read.
        """
        if self.data:
            return MECHANISM.load("source")(self.own_options(), self.seed)
        return DATASETS.load(self.dataset)

    def data_name(self) -> str:
        """Return the name by which titles and folders refer to the dataset."""
        return self.described().name if self.data else self.dataset

    def dim(self) -> int:
        """Return the number of inputs in each row of the dataset; the user's own tables are loaded to find it."""
        source = self.described()
        if self.data or source.image_shape is None:
            return source.row_length(**self.row_settings())
        return math.prod(source.image_shape)

    def row_settings(self) -> dict[str, Any]:
        """Return the keyword arguments with which the dataset's `load` selects these rows, such as num_train."""
        own = self.described().settings
        return {name: getattr(self, name) for name in ("num_train", "num_test", "validation", "subset", "seed", *own)}

    def refuse_level(self, noise_ind: int) -> None:
        """Raise `UserError` if the dataset has no noise level with the index `noise_ind`, from 0."""
        self.described().level(noise_ind)


PREPROCESSING = ("none", "standard", "unit_norm", "layer_norm", "zca", "layer_norm_zca")
ZCA_REGULARIZATION = 0.1  # ε, see `linearized.data.transforms.preprocess`


@dataclasses.dataclass(frozen=True)
class PreprocessedRows(DataSettings):
    """Settings of rows of a dataset and of the preprocessing of their inputs, such as standardisation or ZCA."""

    GROUP = "Data"

    zca_regularization: float = setting(
        ZCA_REGULARIZATION, "--preprocess=zca: added to eigenvalues, relative to their mean; 0.1 as published",
        minimum=0.0, maximum=1e6, when=when(preprocess=("zca", "layer_norm_zca")),
    )  # fmt: skip
    preprocess: str = setting(
        "none", "of the inputs: standard, columns at mean 0 and variance 1 over the train rows; unit_norm, rows of "
        "norm 1; layer norm; ZCA fitted on the train rows; both", choices=PREPROCESSING,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LevelsSettings(DataSettings):
    """Settings of rows of a dataset at one noise level or several, listed in `noise_ind` as a text such as "0,3,6"."""

    GROUP = "Data"

    noise_ind: str = setting("0", "noise levels (linearized data lists them): one, 0,3,6, a range 0:5, or all")

    def __post_init__(self):
        self.take_number()
        super().__post_init__()
        self.levels()

    def take_number(self) -> None:
        """Convert `noise_ind` to a text if Python code gave it as a number."""
        if isinstance(self.noise_ind, int) and not isinstance(self.noise_ind, bool):
            object.__setattr__(self, "noise_ind", str(self.noise_ind))

    def levels(self) -> list[int]:
        """Return the indices of the selected noise levels in increasing order.

        Raises `UserError` for text that is not a list of levels, and for a level that the dataset does not have.
        """
        source = self.described()
        try:
            levels = listed_indices(self.noise_ind.strip(), len(source.noise_levels))
        except ValueError as error:
            raise UserError(f"--noise_ind takes 3, 0,3,6, 0:5 or all. Received: {self.noise_ind[:60]!r}.") from error
        if not levels:
            raise UserError(f"--noise_ind={self.noise_ind} names no level.")
        for level in levels:
            source.level(level)
        return levels

    def at(self, level: int) -> "LevelsSettings":
        """Return the same settings at the single noise level with the index `level`."""
        return dataclasses.replace(self, noise_ind=str(level))

    def level(self) -> int:
        """Return the index of the only selected noise level. Raises `UserError` if several are selected."""
        levels = self.levels()
        if len(levels) > 1:
            raise UserError(f"This needs one noise level. Received: --noise_ind={self.noise_ind}.")
        return levels[0]
