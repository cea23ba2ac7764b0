"""Training of a model by first-order methods and, if requested, Newton-CG, at one ridge after the other.

Each finished ridge is saved, so that a killed run continues with the next one.
"""

import json
import shutil
import time
from pathlib import Path

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.reading import Absent, Unreadable, parse_json
from linearized.data.dataset import Dataset
from linearized.experiments.fit_results import RidgeFit
from linearized.experiments.infinite_width import infinite_width
from linearized.experiments.needs import refuse_endless_training
from linearized.experiments.refusals import read_weights
from linearized.experiments.step_progress import progress_line
from linearized.experiments.tangent_measures import TangentMeasures
from linearized.experiments.target_units import TargetUnits
from linearized.models import declared
from linearized.models.common import build
from linearized.models.published_weights import take_up
from linearized.solvers.training import newton_cg, sgd
from linearized.solvers.training.epochs import operations
from linearized.solvers.training.recipe import Recipe
from linearized.solvers.training.schedule import LARGEST_BATCH
from linearized.storage.array_files import open_hdf5
from linearized.storage.files import whole_hdf5
from linearized.storage.result_schema import settled


def fit(config, dataset: Dataset, ridges: dict[int, float], folder: Path) -> tuple[list[RidgeFit], dict]:
    """Train the model at every ridge in turn. Ridges that an interrupted run finished are loaded.

    If the user's own data have regression targets, these are standardised for training (see
    `linearized.experiments.target_units`). The returned predictions are in the units of the targets; the returned
    parameters belong to the model that predicts standardised targets.

    Args:
        config: `TrainSettings` of the run.
        dataset: Rows and labels.
        ridges: Index of the ridge in the grid -> λ.
        folder: Folder of checkpoints and finished ridges until the run is done.

    Returns:
        The fits in the order of the ridges, and the entries of the record about the solver.

    Raises:
        UserError: If training diverges in the first epoch, or would take more than a month.
    """
    import keras

    units = TargetUnits.of(dataset, config)
    if units is not None:
        dataset = units.standardised(dataset)
    name = config.working_solver()
    key = f"{dataset.fingerprint}-{config.key()}-{keras.backend.backend()}"  # random numbers differ between backends
    fits = []
    for place, (index, ridge) in enumerate(ridges.items(), start=1):
        path = folder / f"ridge_{index:03d}.h5"
        done = _load(path, key)
        if done is None:
            logging.info("ridge %d of %d: λ = %.3e (index %d) by %s", place, len(ridges), ridge, index, name)
            done = _fit_one(config, dataset, index, ridge, name, folder / f"checkpoint_{index:03d}", key)
            _save(path, done, key)
        if units is not None:
            done.predictions = {split: units.restored(outputs) for split, outputs in done.predictions.items()}
        fits.append(done)
    about = {
        "name": name,
        "step": "Newton step" if name == "newton_cg" else "epoch",
        "history": "train loss with penalty" + (" of the standardised targets" if units is not None else ""),
    }
    return fits, about


def _fit_one(config, dataset: Dataset, index: int, ridge: float, name: str, checkpoint: Path, key: str) -> RidgeFit:
    start = time.monotonic()
    batch_size = sgd.batch_sizes(declared(config).batches, dataset.family, config.max_batch_size)
    model = build(config, dataset, ridge)
    refuse_endless_training(config, len(dataset.train), operations(model))
    if arrays := read_weights(config):
        take_up(model, arrays)
    evidence = {"converged": False, "diverged": False, "iterations": 0, "residual": None, "message": ""}
    history = validation = np.zeros(0)
    tangents = TangentMeasures(config, model, dataset, checkpoint, f"{key}-{index}") if config.tangent_at else None
    if name != "newton_cg":
        with progress_line(f"{config.model}, λ = {ridge:.1e}", config.max_cg_iters) as report:
            result = sgd.fit(
                model, dataset, loss=config.loss, optimizer=name, learning_rate=config.learning_rate,
                epochs=config.max_cg_iters, batch_size=batch_size, seed=config.seed,
                recipe=Recipe(**config.recipe_settings()),
                checkpoint=checkpoint,
                key=f"{key}-{index}", checkpoint_seconds=config.checkpoint_seconds,
                progress=lambda epoch, total, logs: report(epoch, f"loss {logs['loss']:.4f}"),
                tensorboard=checkpoint.parents[1] / "tensorboard" / f"{index:03d}" if config.tensorboard else None,
                epoch_done=None if tangents is None else tangents.epoch_done,
            )  # fmt: skip
        if result.epochs_done == 0:  # nothing was learned, so neither a result nor a checkpoint is useful
            shutil.rmtree(checkpoint, ignore_errors=True)
            raise UserError(f"{config.model}, λ = {ridge:.1e}: {result.message}")
        history = np.asarray(result.history["loss"]) + np.asarray(result.history["penalty"])
        validation = np.asarray(result.history.get("validation_loss", ()), float)
        evidence |= {"diverged": result.diverged, "iterations": result.epochs_done, "message": result.message}
        evidence["loss_change"] = loss_change(history)
        warm_up = Recipe(**config.recipe_settings()).warm_up_epochs(config.max_cg_iters)
        evidence["converged"] = not result.diverged and settled(evidence["loss_change"], result.epochs_done, warm_up)
        evidence["examples_per_second"] = _speed(len(dataset.train), result.history["seconds"])
    if config.max_ncg_iters and not evidence["diverged"]:
        with progress_line(f"Newton-CG, λ = {ridge:.1e}", config.max_ncg_iters) as report:
            newton = newton_cg.minimise(
                model, dataset, loss=config.loss, max_iterations=config.max_ncg_iters,
                max_batch_size=config.max_batch_size or LARGEST_BATCH, checkpoint=checkpoint, key=f"{key}-{index}",
                checkpoint_seconds=config.checkpoint_seconds,
                progress=lambda step, total, logs: report(step, f"loss {logs['loss']:.4f}"),
            )  # fmt: skip
        history = np.concatenate([history, newton.history])
        evidence |= {
            "converged": newton.converged, "residual": newton.gradient_norm, "message": newton.message,
            "iterations": evidence["iterations"] + newton.iterations,
        }  # fmt: skip
    if evidence["diverged"]:
        logging.warning("ridge %d (λ = %.3e): %s", index, ridge, evidence["message"])
    predictions = {split: sgd.predict(model, rows.x) for split, rows in dataset.splits().items()}
    measured = None if tangents is None else _measured(config, tangents, evidence["iterations"])
    return RidgeFit(index, ridge, predictions, model.get_weights(), evidence, history, time.monotonic() - start,
                    validation, measured)  # fmt: skip


def _measured(config, tangents: TangentMeasures, epochs: int) -> dict:
    """Return the measurements of `--tangent_at` and, under "infinite_width", the scores of the infinite-width kernel.

    These scores are None if this kernel is not known for the model.

    Args:
        config: Settings of the run.
        tangents: Measurements during training.
        epochs: Number of epochs that were done.
    """
    measured, infinite = tangents.finished(epochs), declared(config).infinite
    return measured | {"infinite_width": infinite and infinite_width(config, infinite(config), tangents.rows)}


def loss_change(history: np.ndarray) -> float | None:
    """Return the relative change of the train loss at the end of training, which is near 0 if training has settled.

    It is b/a - 1, where b is the mean loss over the last tenth of the epochs, and a the mean loss over the tenth before
    it. A tenth is at least one epoch.

    Args:
        history: Train loss of each epoch.

    Returns:
        The change, such as -0.01 for a loss that fell by 1 %; None if there are fewer than two epochs, or if a is 0.
    """
    tenth = max(1, len(history) // 10)
    if len(history) < 2 or not (before := float(np.mean(history[-2 * tenth : -tenth]))):
        return None
    return float(np.mean(history[-tenth:])) / before - 1


def _speed(rows: int, seconds: np.ndarray) -> float | None:
    """Return the number of train rows per second in the median epoch; None if there is only one epoch.

    The first epoch is left out, because it includes compilation.

    Args:
        rows: Number of train rows.
        seconds: Duration of each epoch.
    """
    return rows / float(np.median(seconds[1:])) if len(seconds) > 1 else None


def _save(path: Path, done: RidgeFit, key: str) -> None:
    with whole_hdf5(path) as file:
        file.attrs["key"] = key
        file.attrs["evidence"] = json.dumps(done.evidence)
        file.attrs.update(index=done.index, ridge=done.ridge, seconds=done.seconds)
        file["history"] = done.history
        file["validation"] = done.validation
        if done.tangents is not None:
            file.attrs["tangents"] = json.dumps(done.tangents)
        for split, values in done.predictions.items():
            file[f"predictions/{split}"] = values
        for place, value in enumerate(done.parameters):
            file[f"parameters/{place:04d}"] = value


def _load(path: Path, key: str) -> RidgeFit | None:
    """Return the stored fit of a ridge that an earlier process finished; None if there is none.

    A file of another run is ignored. A damaged file is ignored and logged.

    Args:
        path: File of the ridge.
        key: Text that identifies the run; the file must have the same.
    """
    try:
        with open_hdf5(path) as file:
            if file.attrs["key"] != key:
                return None
            predictions = {split: values[()] for split, values in file["predictions"].items()}
            parameters = [file["parameters"][name][()] for name in sorted(file["parameters"])]
            return RidgeFit(
                int(file.attrs["index"]), float(file.attrs["ridge"]), predictions, parameters,
                parse_json(file.attrs["evidence"]), file["history"][()], float(file.attrs["seconds"]),
                file["validation"][()] if "validation" in file else np.zeros(0),
                parse_json(file.attrs["tangents"]) if "tangents" in file.attrs else None,
            )  # fmt: skip
    except Absent:
        return None
    except Unreadable as error:
        logging.warning("a finished ridge is computed again: %s", error)
        return None
