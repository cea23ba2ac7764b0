"""Data of the user's own with the interface of a published dataset's `Source`."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.data.dataset import Dataset, Split, check, chosen_rows
from linearized.data.own.formats import content_digest, format_of
from linearized.data.own.prepare import PreparedRows, matrix, prepare
from linearized.data.source import Source
from linearized.settings.own_settings import FORMATS, OwnDataSettings

RECIPE = 1  # counts the changes to what rows mean: part of the fingerprint
FAMILY = "OWN"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnSource(Source):
    """Rows that were read and divided; `load` takes those that are asked for."""

    prepared: PreparedRows
    digest: str
    options: OwnDataSettings

    @property
    def num_outputs(self) -> int:
        """As `Source.num_outputs`; regression may have several targets."""
        return self.prepared.num_outputs

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
    ) -> Dataset:
        """Return the dataset; see `ImageSource.load`. `directory` is not read: the data are where --data says.

        Raises `UserError` for inputs that are not finite.
        """
        self.level(noise_ind)
        splits = {}
        for name, rows in self.prepared.rows.items():
            count = {"train": num_train, "test": num_test}.get(name, 0)
            taken = chosen_rows(len(rows), count, subset=subset, seed=seed, what=f"num_{name}")
            x, y = rows.take(taken)
            y = y if self.task == "regression" else y[:, None].astype(np.float32)
            splits[name] = Split(matrix(x, self.image_shape), y)
            check(splits[name].x, splits[name].y, f"{self.options.data} ({name} rows)")
        if "validation" in splits and validation:
            raise UserError(f"{self.options.data} has validation rows of its own. Leave out --validation.")
        used = {name: value for name, value in self.options.to_dict().items() if name != "data"}
        taken = [len(splits["train"]), len(splits["test"]), subset, seed]
        made = self.dataset(
            noise_ind, splits["train"], splits["test"], validation, f"{self.digest} {RECIPE} {used}", taken
        )
        return dataclasses.replace(
            made, validation=splits.get("validation", made.validation), class_names=self.prepared.class_names,
            notes=self.prepared.notes,
        )  # fmt: skip

    def row_length(self, **rows) -> int:
        """Return the length of the rows that `load` would give with these settings."""
        x = self.prepared.rows["train"].x
        return int(np.prod(x.shape[1:]))


def own_source(options: OwnDataSettings, seed: int) -> OwnSource:
    """Return the source that `options.data` names; read once per process, content, options and seed.

    Raises `UserError` for what cannot be read or learned.
    """
    return _source(options, seed, content_digest(options))


@functools.lru_cache(maxsize=4)
def _source(options: OwnDataSettings, seed: int, digest: str) -> OwnSource:
    reader = FORMATS.load(format_of(options.data))
    prepared = prepare(reader.read(options.data, options), options, seed)
    return OwnSource(
        name=data_name(options.data), title=f"{options.data}, as it is", noise_name="noise", noise_levels=(0,),
        task=prepared.task, num_classes=len(prepared.class_names), image_shape=prepared.image_shape, family=FAMILY,
        rows=(len(prepared.rows["train"]), len(prepared.rows["test"])), prepared=prepared, digest=digest,
        options=options,
    )  # fmt: skip


def data_name(text: str) -> str:
    """Return the name of the user's data in titles and folders: that of the file, without folders and suffix."""
    path = Path(text)
    return slug(path.name.removesuffix("".join(path.suffixes)) or path.name or text, 60)
