"""What one dataset is: its name, its noise levels, where its raw files are sought, and how it becomes a `Dataset`.

Images go raw -> noise at the published draws, on the whole set -> cache -> the part asked for -> validation split. The
fingerprint is of what the rows were made from: raw arrays, recipe, level, seed; then of the part that was taken.
"""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from absl import logging

from linearized.base.directories import directory as directory_of
from linearized.base.errors import UserError
from linearized.base.keywords import refuse_unknown
from linearized.base.lists import count_or_share
from linearized.data.dataset import Dataset, RowChoice, Split, check, fingerprint
from linearized.data.preparation import Preparation
from linearized.data.transforms import cache as noisy_cache

ROWS = ("directory", *(field.name for field in dataclasses.fields(RowChoice)))  # what the load of every source takes
SEED = 2048  # of the noise, as published
RECIPE = 1  # counts the changes to what rows mean or how they lie: a new number makes every cache anew

STRENGTHS = tuple(np.linspace(0, 3, num=15).tolist())  # τ, noise over image, of the high-frequency noise
THRESHOLDS_8 = tuple(range(8))  # k of the k x k low frequencies replaced, by image width
THRESHOLDS_28 = tuple(range(1, 28, 2))
THRESHOLDS_32 = (0, 4, 8, 12, 14, 17, 19, 20, 22, 24, 25, 27, 28, 29, 30)


class Found(NamedTuple):
    """Where raw files are (None: not here), where they were sought in this order, and how to get them."""

    place: Path | None
    sought: list[str]
    how: str
    made_on_load: bool = False  # nothing to download: loading makes it


class Raw(NamedTuple):
    """Images (n, height, width, channels) of any number type, class numbers (n,)."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@runtime_checkable
class RawFiles(Protocol):
    """Where raw images come from."""

    def find(self, directory: Path) -> Found:
        """Looks, downloads nothing, and reads no array."""

    def fetch(self, directory: Path) -> Path:
        """Downloads or makes the files; returns where they are. Raises `UserError` where that fails."""

    def digest(self, place: Path) -> str:
        """A quick digest of the files' bytes: what the cache is found by."""

    def read(self, place: Path) -> Raw:
        """Reads and checks the files. Raises `UserError` for damaged ones."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What every dataset has.

    Attributes:
        noise_name: What the noise levels are values of: τ, threshold or κ.
        noise_levels: What `noise_ind` counts.
        directory_key: The line of directories.txt that says where it lies.
        settings: Names of the settings that only this dataset's `load` takes.
        rows: Train and test rows where they are always the same; 0: the files say.
    """

    name: str
    title: str
    noise_name: str
    noise_levels: tuple[int | float, ...]
    task: str
    num_classes: int
    image_shape: tuple[int, int, int] | None
    family: str
    directory_key: str = "data_dir"
    settings: tuple[str, ...] = ()
    rows: tuple[int, int] = (0, 0)

    more_levels: ClassVar[str] = ""  # advice on how to get further noise levels, after a space

    @property
    def num_outputs(self) -> int:
        """Outputs of a model: one per class, a single one for binary labels and for regression."""
        return self.num_classes if self.task == "classes" else 1

    def level(self, noise_ind: int | np.integer) -> int | float:
        """The noise level behind an index. Raises `UserError` naming the range."""
        last = len(self.noise_levels) - 1
        if last == 0 and noise_ind != 0:
            raise UserError(f"{self.name} has one noise level, --noise_ind=0. Received: {noise_ind}.{self.more_levels}")
        if isinstance(noise_ind, bool) or not isinstance(noise_ind, int | np.integer) or not 0 <= noise_ind <= last:
            raise UserError(
                f"{self.name} has {last + 1} noise levels, --noise_ind 0..{last} ({self.noise_name} = "
                f"{self.noise_levels[0]:.3g} to {self.noise_levels[-1]:.3g}). Received: {noise_ind}."
            )
        return self.noise_levels[noise_ind]

    def folder(self, directory: Path | str | None) -> Path:
        """The folder given, or the one that directories.txt names."""
        return directory_of(self.directory_key) if directory is None else Path(directory)

    def load(
        self,
        noise_ind: int | np.integer = 0,
        *,
        directory: Path | str | None = None,
        num_train: int = 0,
        num_test: int = 0,
        validation: int | float = 0.0,
        subset: str = "first",
        seed: int = 0,
        **own: Any,
    ) -> Dataset:
        """Load the dataset at a noise level; see `linearized.load`.

        Args:
            num_train, num_test, validation, subset, seed: See `RowChoice`. Noise is that of the whole set all the same.
            own: What only this dataset takes, see its `_loaded`.
        """
        taken = inspect.signature(self._loaded).parameters.values()
        known = [*ROWS, *(one.name for one in taken if one.kind is one.KEYWORD_ONLY)]
        refuse_unknown(own, known, f"load of {self.name}", f"It has: {', '.join(known)}.")
        rows = RowChoice(num_train, num_test, validation, subset, seed)
        return self._loaded(noise_ind, self.folder(directory), rows, **own)

    def _loaded(self, noise_ind: int | np.integer, folder: Path, rows: RowChoice, **own: Any) -> Dataset:
        """Return the rows at a noise level, from a folder of raw files."""
        raise NotImplementedError

    def dataset(
        self, noise_ind: int | np.integer, train: Split, test: Split, made_from: str, rows: RowChoice
    ) -> Dataset:
        """Return the dataset of rows that were taken; the last train rows become the validation part."""
        held_out = count_or_share(rows.validation, len(train), "validation")
        taken = [len(train), len(test), rows.subset, rows.seed if rows.subset == "random" else 0]
        kept = len(train) - held_out
        return Dataset(
            name=self.name,
            noise_ind=int(noise_ind),
            train=Split(train.x[:kept], train.y[:kept]),
            validation=Split(train.x[kept:], train.y[kept:]) if held_out else None,
            test=test,
            task=self.task,
            num_classes=self.num_classes,
            image_shape=self.image_shape,
            family=self.family,
            fingerprint=fingerprint(made_from, taken, held_out),
            noise=f"{self.noise_name} = {float(self.noise_levels[noise_ind]):g}",
            preparation=Preparation(self.task, train.x.shape[1]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSource(Source):
    """A set of images: `raw` says where they come from.

    `noise` names a function of `linearized.data.transforms.noise`, so that listing data sets imports no SciPy.
    """

    raw: RawFiles
    noise: str

    def find(self, directory: Path | str | None = None) -> Found:
        """Is it here, where was it looked for, how to get it."""
        return self.raw.find(self.folder(directory))

    def fetch(self, directory: Path | str | None = None) -> Path:
        """Gets the raw files, where they are not here yet. Returns where they are."""
        return self.find(directory).place or self.raw.fetch(self.folder(directory))

    def _loaded(self, noise_ind: int | np.integer, folder: Path, rows: RowChoice, *, cache: bool = True) -> Dataset:
        """As `Source._loaded`.

        Args:
            cache: Whether noisy arrays are kept in, and read from, `cache/` in the dataset's folder.
        """
        level = self.level(noise_ind)
        place = self.fetch(folder)
        key = fingerprint(self.raw.digest(place), RECIPE, self.noise, level, SEED)
        cached = folder / "cache" / f"{self.name}_noise{noise_ind}_{key}"
        kept = noisy_cache.read(cached) if cache else None
        if kept is None:
            kept = self._made(place, level)
            if cache:
                noisy_cache.write(cached, *kept)
        arrays, about = kept
        splits = []
        for kind in ("train", "test"):
            x, y = arrays[f"x_{kind}"], arrays[f"y_{kind}"]
            part = rows.of(len(x), kind)
            splits.append(Split(x[part], y[part]))
        return self.dataset(noise_ind, *splits, about["made_from"], rows)

    def _made(self, place: Path, level: int | float) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Noisy arrays from the raw files, and what they were made from."""
        from linearized.data.transforms import noise

        raw = self.raw.read(place)
        logging.info("%s: noise at %s = %.3g for %d images.", self.name, self.noise_name, level, len(raw.train))
        x_train, x_test = getattr(noise, self.noise)(raw.train, raw.test, level, SEED)
        arrays = {"x_train": x_train, "x_test": x_test}
        for kind, labels in (("train", raw.train_labels), ("test", raw.test_labels)):
            arrays[f"y_{kind}"] = labels.astype(np.float32)[:, None]
            check(arrays[f"x_{kind}"], arrays[f"y_{kind}"], f"{place} ({kind})", num_classes=self.num_classes)
        return arrays, {"made_from": fingerprint(*raw, RECIPE, self.noise, level, SEED)}


def missing(name: str, found: Found, reason: str = "") -> UserError:
    """The error for files that are not here and could not be got."""
    return UserError(f"{name} is not here. It was sought in {', '.join(found.sought)}. {reason}{found.how}")
