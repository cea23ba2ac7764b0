"""The user's own data as a dataset with the interface of the built-in data sets (`linearized.data.source.Source`)."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from linearized.base.errors import UserError
from linearized.base.lists import count_or_share
from linearized.data.dataset import Dataset, RowChoice, Split, check
from linearized.data.own import noise
from linearized.data.own.formats import content_digest, format_of
from linearized.data.own.missing import refuse_infinite, refuse_missing
from linearized.data.own.prepare import LazyRows, PreparedRows, data_name, fit_arrays, prepare
from linearized.data.own.tables import fit_columns
from linearized.data.preparation import Preparation
from linearized.data.source import Source
from linearized.settings.own_settings import FORMATS, OwnDataSettings

RECIPE = 3  # version of the meaning of rows; part of the fingerprint
FAMILY = "OWN"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnSource(Source):
    """The user's own data, read and split into train and test rows; `load` returns the requested rows as a `Dataset`.

    Attributes:
        prepared: The rows by part, and their properties.
        digest: Digest of the content of `--data`.
        options: Settings of the user's own data.
    """

    more_levels: ClassVar[str] = " Give others with --noise and --noise_levels."

    prepared: PreparedRows
    digest: str
    options: OwnDataSettings

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a model: one per class, a single one for binary labels, one per regression target."""
        return self.prepared.num_outputs

    def _loaded(self, noise_ind: int | np.integer, folder: Path, rows: RowChoice) -> Dataset:
        """Return the selected rows at a noise level, with inputs as float32 rows.

        Args:
            noise_ind: Index of the noise level.
            folder: Not used, because --data names the files.
            rows: The selection of rows.

        Raises `UserError` for missing values unless they are filled in, and for inputs that are infinite.
        """
        level = self.level(noise_ind)
        raw, y, parts = {}, {}, {}
        for name, stored in self.prepared.rows.items():
            parts[name] = part = slice(None) if name == "validation" else rows.of(len(stored), name)
            raw[name], labels = stored.take(part)
            if self.options.noise == "label" and name == "train":
                noisy = noise.noisy_labels(stored.y, self.num_classes, level)[part]
                kept = len(labels) - count_or_share(rows.validation, len(labels), "validation")
                labels = np.concatenate([noisy[:kept], labels[kept:]])  # validation rows keep correct labels
            y[name] = labels if self.task == "regression" else labels[:, None].astype(np.float32)
            where, numbers = f"{self.name} ({name} rows)", _numbers(stored, part)
            if self.options.missing == "refuse":
                refuse_missing(raw[name], where, numbers)
            refuse_infinite(raw[name], where, numbers)
        if "validation" in raw and rows.validation:
            raise UserError(f"{self.name} has validation rows of its own. Leave out --validation.")
        count = len(y["train"])
        kept = count - count_or_share(rows.validation, count, "validation")
        columns = self._fitted(raw["train"][:kept])
        if self.options.noise in noise.SPECTRAL:
            inputs = self._noisy_images(columns, level, parts)
            columns = noise.clean_images(self.options.noise, columns, raw["train"][:kept], self.image_shape)
        else:
            inputs = {name: columns(raw[name]) for name in raw}
        if self.options.noise == "gaussian":
            numbers = {name: np.arange(len(self.prepared.rows[name]))[part] for name, part in parts.items()}
            inputs = noise.add_gaussian(inputs, numbers, level)
        splits = {name: Split(x, y[name]) for name, x in inputs.items()}
        for name, split in splits.items():
            check(split.x, split.y, f"{self.name} ({name} rows)")
        used = {name: value for name, value in self.options.identity().items() if name != "data"}
        order = rows.seed if self.prepared.divided else "shuffled" if self.prepared.shuffled else 0
        made_from = f"{self.digest} {RECIPE} {used} {level} {order}"
        made = self.dataset(noise_ind, splits["train"], splits["test"], made_from, rows)
        return dataclasses.replace(
            made, noise=made.noise if self.options.noise else "",
            validation=Split(splits["validation"].x, y["validation"]) if "validation" in raw else made.validation,
            class_names=self.prepared.class_names, notes=self.prepared.notes,
            preparation=Preparation(self.task, made.dim, self.prepared.classes, columns, flat=self.prepared.flat),
        )  # fmt: skip

    def _noisy_images(self, columns: Any, level: int | float, parts: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return images as float32 rows (n, d) by part; noise is added to high frequencies or replaces low ones.

        The noise is drawn for all images of the data, so that it does not depend on the selection of rows.

        Args:
            columns: Conversion of inputs to rows, for images that are not bytes.
            level: The noise level.
            parts: Selection of rows by part, which is applied after the noise.
        """
        whole = {name: rows.take(slice(None))[0] for name, rows in self.prepared.rows.items()}
        whole = {name: columns(x) if x.dtype.kind == "f" else x for name, x in whole.items()}
        noisy = noise.noisy_images(self.options.noise, whole, self.image_shape, level)
        return {name: noisy[name][part] for name, part in parts.items()}

    def _fitted(self, x: Any) -> Any:
        """Return the conversion of inputs to rows (n, d), fitted on `x`, the train rows without validation rows.

        Missing values are filled in if `--missing=mean`.
        """
        impute = self.options.missing == "mean"
        if hasattr(x, "iloc"):
            return fit_columns(x, impute=impute)
        return fit_arrays(x, self.image_shape, impute=impute, pixels=self.prepared.pixels)

    def row_length(self, **rows: Any) -> int:
        """Return the length of the rows that `load` returns.

        Args:
            **rows: Arguments of `load`. Only tables are loaded, because the length of their rows depends on the
                categories of the selected train rows.
        """
        x = self.prepared.rows["train"].x
        return self.load(**rows).dim if hasattr(x, "iloc") else int(np.prod(x.shape[1:]))


def _numbers(rows: LazyRows, part: slice | np.ndarray) -> np.ndarray:
    """Return the indices (from 0) that some rows have in the inputs as read from the file.

    Args:
        rows: Rows of one part of the data.
        part: Slice or indices that select rows of this part.
    """
    numbers = rows.numbers(part)
    return np.arange(len(rows.x))[numbers]


def own_source(options: OwnDataSettings, seed: int) -> OwnSource:
    """Return the user's own data, read and split into train and test rows.

    The results of the last four calls with different options, seed or content are kept, and returned by equal calls.

    Args:
        options: Settings of the user's own data; `options.data` names the content.
        seed: Random-number seed of the split into train and test rows.

    Raises `UserError` for data that cannot be read or learned.
    """
    return _source(options, seed, content_digest(options))


@functools.lru_cache(maxsize=4)
def _source(options: OwnDataSettings, seed: int, digest: str) -> OwnSource:
    reader = FORMATS.load(format_of(options.data))
    prepared = prepare(reader.read(options.data, options), options, seed)
    name = data_name(options.data)
    return OwnSource(
        name=name, title=f"{options.data}, {noise.TITLES[options.noise]}",
        noise_name=noise.NAMES[options.noise],
        noise_levels=noise.noise_levels(options, prepared.task, prepared.image_shape, name),
        task=prepared.task, num_classes=len(prepared.class_names), image_shape=prepared.image_shape, family=FAMILY,
        rows=(len(prepared.rows["train"]), len(prepared.rows["test"])), prepared=prepared, digest=digest,
        options=options,
    )  # fmt: skip
