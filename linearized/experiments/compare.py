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

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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
from linearized.experiments.compare_models import LINEAR_FIT, Run, refuse_needs
from linearized.experiments.compare_settings import CompareSettings
from linearized.experiments.compare_table import NO, print_comparison
from linearized.experiments.fit_results import Result
from linearized.experiments.krr_settings import KernelFitSettings
from linearized.experiments.linear_baseline import linear_baseline
from linearized.experiments.train_settings import TrainSettings
from linearized.settings.command import run_command
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
    """Return the content of `comparison.json` of a finished comparison.

    The result is None if there is no such file, or if a run of the comparison is missing or has changed since.

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
    kernel = isinstance(settings, KernelFitSettings)
    with select.called(name):
        return (krr.run(settings)[0] if kernel else train.run(settings)).folder


def _linear(settings: TrainSettings) -> dict[str, Any]:
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
