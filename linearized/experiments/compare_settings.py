"""The settings of `linearized compare`: the models to compare, and flags for all of them."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from linearized.base.errors import UserError
from linearized.experiments.compare_models import VALIDATION, Run, seeded, settings_of, takes
from linearized.experiments.train_settings import TrainSettings
from linearized.settings.config import Settings, setting

_REPLACED = {
    "max_cg_iters": "for networks 60 or more, 30 from 10,000 rows on", "solver": "adam for networks, auto for others",
    "schedule": "cosine for networks", "learning_rate": "0.003 for networks, 0.01 for NN",
    "max_batch_size": "64 or 256 for networks", "reg_index": "two of the grid for networks, all for others",
    "preprocess": "standard for own data that are no images, else none",
    "validation": f"{VALIDATION:g}, or the data's own validation rows",
}  # fmt: skip


def _unset(name: str, group: str) -> Any:
    """Return a setting of `linearized train` with None as its default, so that a given value can be recognised.

    Args:
        name: Name of the setting.
        group: Group of its flag in `--help`.
    """
    field = TrainSettings.__dataclass_fields__[name]
    said = re.split("; (?:empty|unset):", field.metadata["help"])[0]
    return dataclasses.field(
        default=None, metadata={**field.metadata, "help": f"{said}; unset: {_REPLACED[name]}", "group": group}
    )


@dataclasses.dataclass(frozen=True)
class CompareSettings(TrainSettings):
    """Settings of `linearized compare`.

    They are --models (the models to compare), --seeds (the number of runs of each) and all flags of `linearized train`,
    which apply to every model that reads them.
    """

    models: str = setting(
        "RF,NT,NN,krr:NTK,linear",
        "comma-separated: names of --model, krr:KERNEL, linear, each with :flag=value of its own",
    )
    seeds: int = setting(1, "runs of each model, with the seeds --seed, --seed + 1 and so on", minimum=1, maximum=1000)
    max_cg_iters: int | None = _unset("max_cg_iters", "Solver")
    solver: str | None = _unset("solver", "Solver")
    schedule: str | None = _unset("schedule", "Solver")
    learning_rate: float | None = _unset("learning_rate", "Solver")
    max_batch_size: int | None = _unset("max_batch_size", "Solver")
    reg_index: str | None = _unset("reg_index", "Solver")
    preprocess: str | None = _unset("preprocess", "Data")
    validation: float | None = _unset("validation", "Data")

    def __post_init__(self):
        """Check each value by itself, and that the settings of every compared model fit together.

        The checks of `TrainSettings` are left out, because they concern the single model that --model names.
        """
        self.take_number()
        Settings.__post_init__(self)

    def complete(self) -> None:
        """Set nothing: values that follow from the model are set in the settings of each run."""

    def refuse_unread(self, given: Iterable[str]) -> None:
        """Raise `UserError` for a flag that none of the compared models reads.

        Args:
            given: Names of the flags that the user gave.
        """
        runs = self.runs()
        for flag in given:
            if flag not in ("models", "seeds") and not any(takes(run, flag) for run in runs.values()):
                networks = (run for run in runs.values() if isinstance(run, TrainSettings))
                where = next((f", but {words}" + f"; {run.model} has --solver={run.solver} here" * ("--solver" in words)
                              for run in networks for words in [run.where_read(flag)]), "")  # fmt: skip
                raise UserError(f"--{flag} is read by none of --models={self.models}{where}. Leave it out.")

    def reads(self, name: str) -> bool:
        """Return whether the setting `name` has an effect: whether at least one of the compared models reads it."""
        return name in ("models", "seeds") or any(takes(run, name) for run in self.runs().values())

    def key(self) -> str:
        """Return eight hex digits that identify the comparison: a digest of the labels, seeds and settings of all runs.

        The label of a run is its entry of --models.
        """
        rows = self.rows(0).key()
        said = [[*entry, run.key() if run else rows] for entry, run in self.seeded_runs().items()]
        return hashlib.blake2b(json.dumps(said).encode(), digest_size=4).hexdigest()

    def runs(self) -> dict[str, Run | None]:
        """Return a dictionary from each entry of --models to the settings of its run; None for the linear fit.

        Raises:
            UserError: If --model is given, if there are fewer than two different entries, if an entry cannot be read,
                or if the settings of an entry do not fit together.
        """
        return self._runs

    @functools.cached_property
    def _runs(self) -> dict[str, Run | None]:
        given = self._given()
        if "model" in given:
            raise UserError(f"compare reads --models. Received: --model={given['model']}.")
        given |= self._common()
        labels = list(filter(None, (piece.strip() for piece in self.models.split(","))))
        made = {label: settings_of(label, given) for label in labels}
        if len(made) < 2:
            raise UserError(f"--models takes at least two different models. Received: --models={self.models}.")
        return made

    def _given(self) -> dict[str, Any]:
        """Return the settings of `linearized train`, by name, that differ from the defaults of `linearized compare`."""
        own = self.__dataclass_fields__
        values = {name: getattr(self, name) for name in TrainSettings.__dataclass_fields__}
        return {name: value for name, value in values.items() if value != own[name].default}

    def _common(self) -> dict[str, Any]:
        """Return the values of --validation and --preprocess by name, which are equal in all runs.

        Thus all models are fitted to the same rows.

        Raises:
            UserError: For --validation=0, unless the data have validation rows of their own.
        """
        source = self.described()
        own_part = bool(self.data) and "validation" in source.prepared.rows
        validation = (0.0 if own_part else VALIDATION) if self.validation is None else self.validation
        if not validation and not own_part:
            raise UserError(
                "compare chooses ridges on validation rows, the same for all models. Give --validation, a fraction or "
                f"a count of the train rows. Received: --validation={validation:g}."
            )
        table = bool(self.data) and source.image_shape is None
        return {"validation": validation, "preprocess": self.preprocess or ("standard" if table else "none")}

    def seeded_runs(self) -> dict[tuple[str, int], Run | None]:
        """Return a dictionary from (entry of --models, repetition) to the settings of the run; None for the linear fit.

        Repetitions are counted from 0. They differ in their random-number seeds.
        """
        return {(label, seed): settings and seeded(settings, seed)
                for label, settings in self.runs().items() for seed in range(self.seeds)}  # fmt: skip

    def rows(self, seed: int) -> TrainSettings:
        """Return settings that select the rows of all models in the repetition `seed`, which is counted from 0."""
        return TrainSettings.draft(**{**self._given(), **self._common(), "seed": self.seed + seed})
