"""Fits several models to one data set and puts accuracy, ridge, time, memory and parameters side by side.

    linearized compare --dataset=DIGITS --models=RF,NT,NN,krr:NTK,krr:polynomial(3),linear --seeds=3
    linearized compare --data=table.npz
    linearized compare --models=KERV_CNN:kervolution_kernel=gaussian,KERV_CNN:kervolution_kernel=sigmoid

An entry is a name of --model, krr: and a name of --kernel, or linear, with settings of its own after colons; every
other flag is for all models. All choose their ridge on the same validation rows. Networks are trained by Adam with a
cosine to 0, unless flags say otherwise. Each run has a process of its own, so that its peak memory is its own. The
table lies below nn_dir as comparison.json with comparison.png beside it; each run leaves its own result.
"""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from linearized.base.child_processes import spawned_pool
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.base.reading import read_json
from linearized.base.seals import write_json
from linearized.base.terminal import say_written
from linearized.data.loading import load_preprocessed
from linearized.data.own.memory import keep
from linearized.experiments import krr, train
from linearized.experiments import run as life
from linearized.experiments.compare_models import LINEAR_FIT, VALIDATION, Run, seeded, settings_of, takes
from linearized.experiments.compare_table import print_comparison
from linearized.experiments.fit_results import Result
from linearized.experiments.linear_baseline import linear_baseline
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting
from linearized.storage.files import refuse_claimed, whole_file
from linearized.storage.result_schema import convergence
from linearized.storage.results import finished, load, peak_memory_gib

PROGRAM, NAME = "linearized compare", "comparison.json"
COLUMNS = {
    "label": "model",
    "seed": "seed",
    "ridge": "ridge",
    "trained_to_end": "trained to its end",
    "trained_parameters": "trained parameters",
    "examples_per_second": "examples / s",
    "memory_gib": "peak memory, GiB",
    "seconds": "seconds",
    "iterations": "epochs or steps",
    "loss_change": "last change of the loss, %",
    "train_accuracy": "train accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}


@dataclasses.dataclass(frozen=True)
class CompareSettings(train.TrainSettings):
    """Settings of `linearized compare`: --models, and those of train.py for every model that reads them."""

    models: str = setting(
        "RF,NT,NN,krr:NTK,linear",
        "comma-separated: names of --model, krr:KERNEL, linear, each with :flag=value of its own",
    )
    seeds: int = setting(1, "runs of each model, with seeds that count up from --seed", minimum=1, maximum=1000)

    def __post_init__(self):
        """Check each value by itself, and that the settings of each run go together: models come from --models."""
        self.take_number()
        Settings.__post_init__(self)

    def complete(self) -> None:
        """Set nothing: what follows from the settings of a run is set for each run."""

    def refuse_unread(self, given: Iterable[str]) -> None:
        """Raise `UserError` for a flag that none of the models reads."""
        runs = self.runs()
        for flag in given:
            if flag not in ("models", "seeds") and not any(takes(run, flag) for run in runs.values()):
                raise UserError(f"--{flag} is read by none of --models={self.models}. Leave it out.")

    def runs(self) -> dict[str, Run | None]:
        """The settings of each run by its label, None for the linear fit; see `compare_models.settings_of`."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(train.TrainSettings)
            if getattr(self, field.name) != field.default
        }
        if "model" in given:
            raise UserError(f"compare reads --models. Received: --model={given['model']}.")
        given["validation"] = self.rows(0).validation
        labels = list(filter(None, (piece.strip() for piece in self.models.split(","))))
        made = {label: settings_of(label, given) for label in labels}
        if len(made) < 2:
            raise UserError(f"--models takes at least two different models. Received: --models={self.models}.")
        return made

    def seeded_runs(self) -> dict[tuple[str, int], Run | None]:
        """The settings of each run by its label and seed, from 0; the linear fit's are those of its rows."""
        return {(label, seed): settings and seeded(settings, seed)
                for label, settings in self.runs().items() for seed in range(self.seeds)}  # fmt: skip

    def rows(self, seed: int) -> train.TrainSettings:
        """Return settings of the rows that all models of a seed have."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(train.TrainSettings)}
        parts = self.described().prepared.rows if self.data else ()
        if not self.validation and "validation" not in parts:
            values["validation"] = VALIDATION
        return train.TrainSettings.draft(**{**values, "seed": self.seed + seed})


def run(config: CompareSettings) -> Result:
    """Train every model in turn, or read it back, and put them side by side; see `experiments.run`.

    A finished comparison is read back while all its runs are there as they were.

    Returns: The folder, and the record that its `comparison.json` holds: `title`, `columns`, `rows`, and what made it.

    Raises `UserError` for what a user can mend, and `Busy` if another process holds the folder of one of the runs.
    """
    labels = "_".join(label.replace(":", "-").replace("=", "-") for label in config.runs())
    name = slug(f"compare_{config.data_name()}_noise{config.noise_ind}_{labels}", 180)
    folder = directory("nn_dir") / config.exp_name / f"{name}_{config.key()}"
    store = life.Store(lambda folder: _read_back(folder, config), _save, _load, names=())
    return life.run(folder, config, PROGRAM, lambda _: _compared(config), store=store)


def _compared(config: CompareSettings) -> life.Outcome:
    """Return the table of all runs, each done or read back in a process of its own."""
    rows, runs = [], config.seeded_runs()
    keep(config.data)
    for settings in filter(None, runs.values()):
        refuse_claimed(settings.folder())
    for (label, seed), settings in runs.items():
        try:
            with spawned_pool(1) as alone:
                if settings is None:
                    rows.append({**_EMPTY, **alone.submit(_linear, config.rows(seed)).result(), "seed": seed})
                    continue
                folder = alone.submit(_run, settings).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"The process that trained {label} was killed, by the system for want of memory perhaps. Lower "
                "--num_units, --num_train or --max_batch_size, and run again: the models before it are kept."
            ) from error
        rows.append(_row(label, folder, seed))
    title = f"{config.data_name()}, noise level {config.noise_ind}"
    return life.Outcome({"title": title, "columns": COLUMNS, "rows": rows})


_EMPTY = dict.fromkeys((*COLUMNS, "flaw", "folder"))


def _read_back(folder: Path, config: CompareSettings) -> dict[str, Any] | None:
    """Return the record of a finished comparison; None where there is none, or its runs are not those of now."""
    runs = {key: settings for key, settings in config.seeded_runs().items() if settings}
    if not (folder / NAME).is_file() or not all(finished(settings.folder()) for settings in runs.values()):
        return None
    record = _load(folder)
    rows = [_row(label, settings.folder(), seed) for (label, seed), settings in runs.items()]
    kept = [row for row in record.get("rows", ()) if row.get("label") != LINEAR_FIT]
    return record if kept == rows else None


def _save(folder: Path, record: Mapping[str, Any], _arrays: Mapping[str, Any]) -> None:
    with whole_file(folder / NAME) as path:
        write_json(path, record)


def _load(folder: Path) -> dict[str, Any]:
    return read_json(folder / NAME, "Remove its folder and run again.")


def _run(settings: Run) -> Path:
    """A run in a process of its own, where a user's errors travel back and are told once."""
    kernel = isinstance(settings, krr.KernelFitSettings)
    return (krr.run(settings)[0] if kernel else train.run(settings)).folder


def _linear(settings: train.TrainSettings) -> dict[str, Any]:
    """Return the row of the best linear fit, whose ridge the validation rows choose."""
    start = time.monotonic()
    dataset = load_preprocessed(settings, settings.level())
    best = linear_baseline(dataset, "validation")
    own = {"label": LINEAR_FIT, "seconds": time.monotonic() - start, "memory_gib": peak_memory_gib()}
    own["trained_parameters"] = (dataset.dim + 1) * dataset.num_outputs
    return {**{name: best.get(name) for name in COLUMNS}, **own, "trained_to_end": "yes", "flaw": ""}


def _row(label: str, folder: Path, seed: int) -> dict[str, Any]:
    record = load(folder)
    chosen = record["ridges"][record["chosen"]["position"]]
    own = {"label": label, "seed": seed, "folder": str(folder), "memory_gib": record["peak_memory_gib"],
           "seconds": record["seconds"]}  # fmt: skip
    own["flaw"] = record["chosen"].get("flaw", "")
    own["trained_to_end"] = {True: "yes", False: "NO", None: "-"}[convergence(chosen)]
    own["trained_parameters"] = record["model"].get("trained_parameters")
    row = own | {name: chosen.get(name) for name in COLUMNS if name not in own}
    return row | {"loss_change": None if row["loss_change"] is None else 100 * row["loss_change"]}


def main(config: CompareSettings) -> None:
    """Trains, prints, writes, draws."""
    result = run(config)
    folder = result.folder
    print_comparison(result.record)
    picture = folder / "comparison.png"
    words = [sys.executable, "-m", "linearized.report.comparison", f"--directory={folder}", f"--out={picture}"]
    if code := subprocess.run(words, check=False).returncode:
        raise UserError(
            f"{picture} is not drawn: linearized.report.comparison ended with code {code}. The table is in {folder}."
        )
    say_written(folder)


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(CompareSettings, __doc__, main, arguments)
