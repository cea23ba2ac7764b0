"""Descriptions of the data sets that can be loaded: name, noise levels, raw files, and conversion to a `Dataset`.

A description (`Source`) reads nothing until its method `load` is called. Images are processed in this order: raw files,
noise on the whole set, cache, selected rows, validation split. The fingerprint of a dataset is a digest of the
origin of the rows (raw arrays, version of the code, noise level, seed) and of the selection of rows.
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

ROWS = ("directory", *(field.name for field in dataclasses.fields(RowChoice)))  # arguments of every source's `load`
SEED = 2048  # seed of the noise, that of Ghorbani et al. (arXiv 2006.13409)
RECIPE = 1  # version of the meaning and storage of rows; increasing it invalidates every cache

STRENGTHS = tuple(np.linspace(0, 3, num=15).tolist())  # τ, ratio of noise to image, of the high-frequency noise
THRESHOLDS_8 = tuple(range(8))  # k of the k x k low frequencies that are replaced, by image width
THRESHOLDS_28 = tuple(range(1, 28, 2))
THRESHOLDS_32 = (0, 4, 8, 12, 14, 17, 19, 20, 22, 24, 25, 27, 28, 29, 30)


class Found(NamedTuple):
    """Result of a search for the raw files of a data set.

    Attributes:
        place: Path of the files; None if they were not found.
        sought: Places that were searched, in order.
        how: Sentence that says how to get the files.
        made_on_load: Whether loading makes the data, so that there are no files to get.
    """

    place: Path | None
    sought: list[str]
    how: str
    made_on_load: bool = False  # nothing to download, because loading makes the data


class Raw(NamedTuple):
    """Images without noise, (n, height, width, channels) of any number type, and their class numbers (n,)."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@runtime_checkable
class RawFiles(Protocol):
    """Interface of the classes that find, download and read the raw files of a data set of images."""

    def find(self, directory: Path) -> Found:
        """Look for the files without downloading or reading any array.

        Args:
            directory: Folder of raw data, such as data_dir, where the search begins.
        """

    def fetch(self, directory: Path) -> Path:
        """Download or make the files, and return the folder or archive that holds them.

        Args:
            directory: Folder of raw data, such as data_dir.

        Raises `UserError` if that fails.
        """

    def digest(self, place: Path) -> str:
        """Return a quick digest of the files' bytes, which becomes part of the name of the cache of noisy images.

        Args:
            place: Folder or archive that holds the files.
        """

    def read(self, place: Path) -> Raw:
        """Read and check the files.

        Args:
            place: Folder or archive that holds the files.

        Raises `UserError` if they are damaged.
        """


@dataclasses.dataclass(frozen=True)
class Source:
    """Base class of the descriptions of data sets; the method `load` returns the data set as a `Dataset`.

    Attributes:
        name: Name of the dataset, such as "FMNIST".
        title: Description of the dataset in a few words.
        noise_name: Name of the parameter of the noise levels: "τ" for noise added to high frequencies and for the label
            noise of SPHERE, "threshold" for low frequencies replaced by noise, "κ" for SYNTH (an exponent of the norm
            of its large coordinates), "σ" for the label noise of STAIRCASE and for Gaussian noise.
        noise_levels: The levels in the order of their index `noise_ind`.
        task, num_classes, image_shape, family: As in `linearized.data.dataset.Dataset`.
        directory_key: Key of the dataset's folder in directories.txt, such as "data_dir".
        settings: Names of the settings that only this dataset has; `load` accepts them.
        rows: Numbers of train and test rows if they are fixed; 0 if they are known only from the files.
        level_word: Word before the parameter of the noise levels on the axes of figures, such as "noise" or
            "anisotropy".
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
    level_word: str = "noise level"

    more_levels: ClassVar[str] = ""  # advice on how to get further noise levels, after a space

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a model: one per class, a single one for binary labels and for regression."""
        return self.num_classes if self.task == "classes" else 1

    def level(self, noise_ind: int | np.integer) -> int | float:
        """Return the noise level with the index `noise_ind`, from 0. Raises `UserError` for an index out of range."""
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
        """Return the folder of the dataset: `directory`, or the folder in directories.txt if `directory` is None."""
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
        """Load the dataset at a noise level.

        Args:
            noise_ind: Index of the noise level, from 0.
            directory: Folder of the raw files and the cache; None: the folder that `directories.txt` names.
            num_train: Number of train rows; 0: all. The selection does not change the noise, which is drawn for the
                whole set.
            num_test: Number of test rows; 0: all.
            validation: Train rows held out for validation, the last of the selected ones: a fraction below 1, or a
                count.
            subset: "first" for the first rows, or "random" for random train and test rows in random order.
            seed: Random-number seed of a random subset.
            **own: Settings that only this dataset has; `settings` lists most of them.

        Raises `UserError` for an index out of range, for more rows than exist, for unknown settings, and for files that
        are missing or damaged.
        """
        taken = inspect.signature(self._loaded).parameters.values()
        known = [*ROWS, *(one.name for one in taken if one.kind is one.KEYWORD_ONLY)]
        refuse_unknown(own, known, f"load of {self.name}", f"It has: {', '.join(known)}.")
        rows = RowChoice(num_train, num_test, validation, subset, seed)
        return self._loaded(noise_ind, self.folder(directory), rows, **own)

    def _loaded(self, noise_ind: int | np.integer, folder: Path, rows: RowChoice, **own: Any) -> Dataset:
        """Return the selected rows at a noise level as a `Dataset`; subclasses implement this method for `load`.

        Args:
            noise_ind: Index of the noise level, from 0.
            folder: Folder of the raw files and the cache.
            rows: The selection of rows.
            **own: Settings that only this dataset has.
        """
        raise NotImplementedError

    def dataset(
        self, noise_ind: int | np.integer, train: Split, test: Split, made_from: str, rows: RowChoice
    ) -> Dataset:
        """Return the `Dataset` of rows that are already selected; the last train rows become the validation part.

        Args:
            noise_ind: Index of the noise level.
            train: Selected train rows, including the rows of the validation part.
            test: Selected test rows.
            made_from: Fingerprint of the origin of the rows.
            rows: The selection, for the number of validation rows and for the fingerprint.
        """
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
    """Description of a data set of images with noise.

    Attributes:
        raw: Object that finds, downloads and reads the raw files.
        noise: Name of a function of `linearized.data.transforms.noise`; a name, so that listing data sets imports no
            SciPy.
    """

    raw: RawFiles
    noise: str

    def find(self, directory: Path | str | None = None) -> Found:
        """Look for the raw files, and return where they are, which places were searched, and how to get them.

        Args:
            directory: Folder of the dataset; None: the one that directories.txt names.
        """
        return self.raw.find(self.folder(directory))

    def fetch(self, directory: Path | str | None = None) -> Path:
        """Download or make the raw files if they are missing, and return the folder or archive that holds them.

        Args:
            directory: Folder of the dataset; None: the one that directories.txt names.

        Raises `UserError` if that fails.
        """
        return self.find(directory).place or self.raw.fetch(self.folder(directory))

    def _loaded(self, noise_ind: int | np.integer, folder: Path, rows: RowChoice, *, cache: bool = True) -> Dataset:
        """Return the selected images at a noise level as a `Dataset`.

        Args:
            noise_ind: Index of the noise level, from 0.
            folder: Folder of the raw files.
            rows: The selection of rows.
            cache: Whether noisy arrays are stored in, and read from, `cache/` in the dataset's folder.
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
        """Read the raw images and add the noise.

        Args:
            place: Folder or archive of the raw files.
            level: The noise level.

        Returns: The arrays x_train, x_test, y_train and y_test by name, and {"made_from": fingerprint of their origin}.
        """
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
    """Return the error for raw files that are missing and could not be fetched.

    Args:
        name: Name of the dataset.
        found: Result of the search.
        reason: Sentence about a failed download, with a space at its end; "" for none.
    """
    return UserError(f"{name} is not here. It was sought in {', '.join(found.sought)}. {reason}{found.how}")
