"""Fit several models to one data set and compare accuracy, ridge, time, memory and number of parameters.

    linearized compare --dataset=DIGITS --models="RF,NT,NN,krr:NTK,krr:polynomial(3),linear" --seeds=3
    linearized compare --data=table.npz
    linearized compare --models=KERV_CNN:kervolution_kernel=gaussian,KERV_CNN:kervolution_kernel=sigmoid

An entry of --models is a name of --model; or krr: with a name of --kernel; or linear, the best linear fit. Settings of
one entry follow it after colons; every other flag applies to all models. All models choose their ridge on the same
validation rows, a fifth of the train rows. Networks are trained by Adam at two ridges of their grid, for 60 epochs of
batches of 64 rows, or for 30 epochs of batches of 256 rows if there are at least 10,000 train rows. With few rows there
are more epochs, so that there are at least 1,000 steps. The learning rate falls to 0 along a cosine. Flags such as
--max_cg_iters (epochs) replace these values. Tables of your own are standardised. Each run has its own process, so that
its peak memory is measured separately. The table is stored below nn_dir as comparison.json, with comparison.png and the
page comparison.html beside it. Each run stores its own result: if a comparison is killed, the same command continues
with the missing runs.
"""

import dataclasses
import functools
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from absl import logging

from linearized.base.child_processes import spawned_pool
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.base.reading import read_json
from linearized.base.seals import write_json
from linearized.base.terminal import say_written
from linearized.data.loading import load_preprocessed
from linearized.data.own.memory import keep
from linearized.experiments import krr, select, train
from linearized.experiments import run as life
from linearized.experiments.compare_models import LINEAR_FIT, VALIDATION, Run, refuse_needs, seeded, settings_of, takes
from linearized.experiments.compare_table import NO, print_comparison
from linearized.experiments.fit_results import Result
from linearized.experiments.linear_baseline import linear_baseline
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting
from linearized.storage.files import refuse_claimed, whole_file
from linearized.storage.result_schema import convergence
from linearized.storage.results import COMPARISON, finished, load, peak_memory_gib

PROGRAM = "linearized compare"
COLUMNS = {
    "label": "model",
    "seed": "seed",
    "test_accuracy": "test accuracy",
    "test_r2": "test R²",
    "test_loss": "test loss",
    "trained_to_end": "trained to its end",
    "seconds": "seconds",
    "memory_gib": "peak memory, GiB",
    "ridge": "ridge",
    "trained_parameters": "trained parameters",
    "iterations": "epochs or steps",
    "loss_change": "last change of the loss, %",
    "train_accuracy": "train accuracy",
    "examples_per_second": "examples / s",
}
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
    field = train.TrainSettings.__dataclass_fields__[name]
    said = re.split("; (?:empty|unset):", field.metadata["help"])[0]
    return dataclasses.field(
        default=None, metadata={**field.metadata, "help": f"{said}; unset: {_REPLACED[name]}", "group": group}
    )


@dataclasses.dataclass(frozen=True)
class CompareSettings(train.TrainSettings):
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
                networks = (run for run in runs.values() if isinstance(run, train.TrainSettings))
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
        values = {name: getattr(self, name) for name in train.TrainSettings.__dataclass_fields__}
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

    def rows(self, seed: int) -> train.TrainSettings:
        """Return settings that select the rows of all models in the repetition `seed`, which is counted from 0."""
        return train.TrainSettings.draft(**{**self._given(), **self._common(), "seed": self.seed + seed})


def run(config: CompareSettings) -> Result:
    """Run every model in turn, or load its finished result, and return one table of all results.

    A finished comparison is loaded if all its runs still exist unchanged. `linearized.experiments.run` describes the
    steps.

    Returns:
        The folder, and the record that its `comparison.json` contains: `title`, `columns` (name -> title), `rows` (one
        per model and seed), and the entries that `experiments.run` adds.

    Raises:
        UserError: For errors that a user can correct.
        Busy: If another process holds the folder of a run.
    """
    labels = "_".join(label.replace(":", "-").replace("=", "-") for label in config.runs())
    name = slug(f"compare_{config.data_name()}_noise{config.noise_ind}_{labels}", 180)
    folder = directory("nn_dir") / config.exp_name / f"{name}_{config.key()}"
    store = life.Store(lambda folder: _read_back(folder, config), _save, _load, names=())
    return life.run(folder, config, PROGRAM, lambda _: _compared(config), store=store)


def _compared(config: CompareSettings) -> life.Outcome:
    """Carry out all runs of a comparison, each in a process of its own, and return the table of their results.

    Runs that are finished already are loaded.
    """
    rows, runs = [], config.seeded_runs()
    keep(config.data)
    for settings in filter(None, runs.values()):
        refuse_claimed(settings.folder())
        if not finished(settings.folder()):
            refuse_needs(settings)
    for number, ((label, seed), settings) in enumerate(runs.items(), start=1):
        logging.info("%d of %d: %s, seed %d", number, len(runs), label, config.seed + seed)
        try:
            with spawned_pool(1) as alone:
                if settings is None:
                    rows.append({**_EMPTY, **alone.submit(_linear, config.rows(seed)).result(),
                                 "seed": config.seed + seed})  # fmt: skip
                    continue
                folder = alone.submit(_run, settings, f"{label} (seed {config.seed + seed})").result()
        except BrokenProcessPool as error:
            raise UserError(
                f"The process that trained {label} was killed, perhaps by the system because memory ran out. Lower "
                "--num_units, --num_train or --max_batch_size, and run again: finished models are kept."
            ) from error
        rows.append(_row(label, folder, config.seed + seed))
    title = config.data_name()
    if len(config.described().noise_levels) > 1:
        title += f", noise level {config.noise_ind}"
    return life.Outcome({"title": title, "columns": COLUMNS, "rows": rows})


_EMPTY = dict.fromkeys((*COLUMNS, "flaw", "edge", "folder", "kernel_found"))


def _read_back(folder: Path, config: CompareSettings) -> dict[str, Any] | None:
    """Return the record of a finished comparison; None if there is none, or if its runs have changed since.

    Args:
        folder: Folder of the comparison.
        config: Settings of the comparison.
    """
    runs = {key: settings for key, settings in config.seeded_runs().items() if settings}
    if not (folder / COMPARISON).is_file() or not all(finished(settings.folder()) for settings in runs.values()):
        return None
    record = _load(folder)
    rows = [_row(label, settings.folder(), config.seed + seed) for (label, seed), settings in runs.items()]
    kept = [row for row in record.get("rows", ()) if row.get("label") != LINEAR_FIT]
    return record if kept == rows else None


def _save(folder: Path, record: Mapping[str, Any], _arrays: Mapping[str, Any]) -> None:
    with whole_file(folder / COMPARISON) as path:
        write_json(path, record)


def _load(folder: Path) -> dict[str, Any]:
    return read_json(folder / COMPARISON, "Remove its folder and run again.")


def _run(settings: Run, name: str) -> Path:
    """Do one run in this process, a child of the comparison, and return its folder.

    Args:
        settings: Settings of the run.
        name: Name of the run in warnings.
    """
    kernel = isinstance(settings, krr.KernelFitSettings)
    with select.called(name):
        return (krr.run(settings)[0] if kernel else train.run(settings)).folder


def _linear(settings: train.TrainSettings) -> dict[str, Any]:
    """Fit the best linear function with an intercept, and return its row of the table.

    The ridge is chosen on the validation rows.

    Args:
        settings: Settings that select the rows.
    """
    start = time.monotonic()
    dataset = load_preprocessed(settings, settings.level())
    best = linear_baseline(dataset, "validation", settings.choose_by)
    own = {"label": LINEAR_FIT, "seconds": time.monotonic() - start, "memory_gib": peak_memory_gib()}
    own["trained_parameters"] = (dataset.dim + 1) * dataset.num_outputs
    own |= {"test_r2": _r2(best), "trained_to_end": "yes", "flaw": "", "edge": ""}
    return {**{name: best.get(name) for name in COLUMNS}, **own}


def _row(label: str, folder: Path, seed: int) -> dict[str, Any]:
    record = load(folder)
    chosen = record["ridges"][record["chosen"]["position"]]
    fits = sum(entry.get("fit_seconds") or 0.0 for entry in record["ridges"])  # includes those of killed processes
    own = {"label": label, "seed": seed, "folder": str(folder), "memory_gib": record["peak_memory_gib"],
           "seconds": max(record["seconds"], fits), "test_r2": _r2(chosen)}  # fmt: skip
    own["flaw"], own["edge"] = record["chosen"].get("flaw", ""), record["chosen"].get("edge", "")
    own["kernel_found"] = record.get("kernel", {}).get("found", False)
    own["trained_to_end"] = {True: "yes", False: NO, None: "-"}[convergence(chosen)]
    own["trained_parameters"] = record["model"].get("trained_parameters")
    row = own | {name: chosen.get(name) for name in COLUMNS if name not in own}
    return row | {"loss_change": None if row["loss_change"] is None else 100 * row["loss_change"]}


def _r2(scores: Mapping[str, Any]) -> float | None:
    """Return R² on the test rows, which is 1 minus the normalised test loss; None for classification.

    Args:
        scores: Scores by name, such as `test_normalised_loss` (the test loss divided by the test loss of a constant)
            and `test_accuracy`.
    """
    normalised = scores.get("test_normalised_loss")
    return None if scores.get("test_accuracy") is not None or normalised is None else 1 - normalised


def main(config: CompareSettings) -> None:
    """Compare the models, print the table, and draw the picture and the page."""
    result = run(config)
    folder = result.folder
    print_comparison(result.record)
    files = [f"--out={folder / 'comparison.png'}", f"--page={folder / 'comparison.html'}"]
    words = [sys.executable, "-m", "linearized.report.comparison", f"--directory={folder}", *files]
    if code := subprocess.run(words, check=False).returncode:
        raise UserError(
            f"The figure and the page could not be drawn: linearized.report.comparison ended with exit code {code}. "
            f"The table is in {folder}."
        )
    say_written(folder)


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(CompareSettings, __doc__, main, arguments)
