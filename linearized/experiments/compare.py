"""Trains several models on one data set and puts parameters, speed, memory and accuracy side by side.

    linearized compare --models=CNN,KERV_CNN --dataset=DIGITS --max_cg_iters=10
    linearized compare --models=KERV_CNN:kervolution_kernel=gaussian,KERV_CNN:kervolution_kernel=sigmoid

A model is a name of --model, with settings of its own after colons; every other flag of train.py is for all of them.
Each is trained in a process of its own, so that its peak memory is its own. The table lies below nn_dir as
comparison.json with comparison.png beside it; each run leaves its own result, and the same command shows them again.
"""

import dataclasses
import subprocess
import sys
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
from linearized.base.terminal import Column, print_columns, say, say_written
from linearized.data.own.memory import keep
from linearized.experiments import run as life
from linearized.experiments import train
from linearized.experiments.fit_results import Result
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting
from linearized.settings.flags import read_flags
from linearized.storage.files import refuse_claimed, whole_file
from linearized.storage.result_schema import SETTLED
from linearized.storage.results import finished, load

PROGRAM, NAME = "linearized compare", "comparison.json"
COLUMNS = {
    "label": "model",
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
RANKS = {"label": 0, "iterations": 7, "loss_change": 7,
          "test_accuracy": 0, "test_loss": 1, "train_accuracy": 6, "memory_gib": 5, "examples_per_second": 4,
         "seconds": 3}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CompareSettings(train.TrainSettings):
    """Settings of `linearized compare`: --models, and those of train.py for every model that reads them."""

    models: str = setting("CNN,KERV_CNN", "names of --model, comma-separated, each with :flag=value of its own")

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
            if flag != "models" and not any(run.reads(flag) for run in runs.values()):
                raise UserError(f"--{flag} is read by none of --models={self.models}. Leave it out.")

    def runs(self) -> dict[str, train.TrainSettings]:
        """The settings of each run by its label; flags for all are left out where a model does not read them."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(train.TrainSettings)
            if getattr(self, field.name) != field.default
        }
        if "model" in given:
            raise UserError(f"compare reads --models. Received: --model={given['model']}.")
        made = {}
        for label in filter(None, (piece.strip() for piece in self.models.split(","))):
            name, *own = label.split(":")
            found, _ = read_flags(train.TrainSettings, [f"--{piece}" for piece in own])
            draft = train.TrainSettings.draft(**{**given, **found, "model": name})
            settings = {flag: value for flag, value in given.items() if draft.reads(flag)}
            made[label] = train.TrainSettings(**{**settings, **found, "model": name})
            made[label].level()  # one, for all models alike
        if len(made) < 2:
            raise UserError(f"--models takes at least two different models. Received: --models={self.models}.")
        return made


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
    """Return the table of all runs, each trained or read back in a process of its own."""
    rows, runs = [], config.runs()
    keep(config.data)
    for settings in runs.values():
        refuse_claimed(settings.folder())
    for label, settings in runs.items():
        try:
            with spawned_pool(1) as alone:
                folder = alone.submit(_train, settings).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"The process that trained {label} was killed, by the system for want of memory perhaps. Lower "
                "--num_units, --num_train or --max_batch_size, and run again: the models before it are kept."
            ) from error
        rows.append(_row(label, folder))
    title = f"{config.data_name()}, noise level {config.noise_ind}"
    return life.Outcome({"title": title, "columns": COLUMNS, "rows": rows})


def _read_back(folder: Path, config: CompareSettings) -> dict[str, Any] | None:
    """Return the record of a finished comparison; None where there is none, or its runs are not those of now."""
    if not (folder / NAME).is_file() or not all(finished(settings.folder()) for settings in config.runs().values()):
        return None
    record = _load(folder)
    rows = [_row(label, settings.folder()) for label, settings in config.runs().items()]
    return record if record.get("rows") == rows else None


def _save(folder: Path, record: Mapping[str, Any], _arrays: Mapping[str, Any]) -> None:
    with whole_file(folder / NAME) as path:
        write_json(path, record)


def _load(folder: Path) -> dict[str, Any]:
    return read_json(folder / NAME, "Remove its folder and run again.")


def _train(settings: train.TrainSettings) -> Path:
    """A run in a process of its own, where a user's errors travel back and are told once."""
    return train.run(settings).folder


def _row(label: str, folder: Path) -> dict[str, Any]:
    record = load(folder)
    chosen = record["ridges"][record["chosen"]["position"]]
    own = {"label": label, "folder": str(folder), "memory_gib": record["peak_memory_gib"], "seconds": record["seconds"]}
    own["flaw"] = record["chosen"].get("flaw", "")
    own["trained_parameters"] = record["model"]["trained_parameters"]
    row = own | {name: chosen.get(name) for name in COLUMNS if name not in own}
    return row | {"loss_change": None if row["loss_change"] is None else 100 * row["loss_change"]}


def print_comparison(record: dict[str, Any]) -> None:
    """Print the table of `run`; a narrow terminal leaves out columns, those of higher rank in `RANKS` first."""
    columns = [
        Column(title, [_shown(row[name]) for row in record["rows"]], RANKS.get(name, 2),
               text=any(isinstance(row[name], str) for row in record["rows"]))
        for name, title in record["columns"].items()
    ]  # fmt: skip
    print_columns(record["title"], columns)
    moving = [row["label"] for row in record["rows"] if abs(row.get("loss_change") or 0) > 100 * SETTLED]
    if moving:
        say(f"Not trained to their end: {', '.join(moving)}. The training loss still changed by more than "
            f"{SETTLED:.0%} over the last tenth of the epochs; give more of them with --max_cg_iters.")  # fmt: skip
    flawed = [row["label"] for row in record["rows"] if row.get("flaw") and row["label"] not in moving]
    if flawed:
        say(f"Their best ridge diverged or did not converge: {', '.join(flawed)}. See their own tables.")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


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
