"""Fine-tune a saved Keras model on a folder of images, GLUE's TSV files or a data set by name.

    linearized finetune --model=vit.keras --data=photos --swap=mlp --last=2 --trainable=snnk
    linearized finetune --model=bert.keras --data=glue/RTE --swap=adapters --trainable=adapters
    linearized finetune --model=cnn.keras --dataset=NFMNIST --noise_ind=6 --validation=0.1

The inputs of the model are images, vectors or token numbers, its outputs are logits. Its last linear layer is replaced
if the number of classes differs. --swap changes the model before the training: it replaces MLP blocks or the pooler by
scalable neural network kernels (SNNKs), or convolutions by kervolutions or lambda layers, or it inserts adapters. The
result lies under nn_dir of directories.txt: result.json, arrays.h5, model.keras (not with --no_model). The same command
continues a run that was stopped; when the run is finished, it shows the result.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.terminal import say, say_written
from linearized.data.dataset import Dataset, Split
from linearized.experiments import run as life
from linearized.experiments import select
from linearized.experiments.finetune_data import load_data, refuse_missing_files, refuse_unfit_inputs
from linearized.experiments.finetune_settings import FinetuneSettings
from linearized.experiments.fit_results import Result
from linearized.models.saved_model import input_shape
from linearized.settings.command import run_command
from linearized.settings.model_files import LEFT_OUT, MODEL_FILE, advice
from linearized.settings.operations import refuse_endless
from linearized.storage.result_schema import settled

PROGRAM = "linearized finetune"


def run(config: FinetuneSettings) -> Result:
    """Load the saved model, replace layers as `--swap` states, fine-tune it, score all splits and save the result.

    A finished run is loaded, a killed one is resumed, see `linearized.experiments.run`.

    Raises:
        UserError: For errors that a user can correct.
        Busy: If another process holds the run's folder; raised before data and frameworks are loaded.
    """
    path = Path(config.model)
    if not path.is_file():
        raise UserError(f"{path} is no file. {advice(path)}")
    digest = hashlib.blake2b(path.read_bytes(), digest_size=4).hexdigest()
    folder = directory("nn_dir") / config.exp_name / config.run_name(digest)
    return life.run(folder, config, PROGRAM, lambda unfinished: _tuned(config, path, digest, unfinished))


def _tuned(config: FinetuneSettings, path: Path, digest: str, unfinished: Path) -> life.Outcome:
    """Fine-tune the model, and return the model and the contents of `result.json` and `arrays.h5` to save.

    Args:
        config: Settings of the command.
        path: Model file.
        digest: Digest of its content.
        unfinished: Folder of checkpoints.
    """
    if (shape := input_shape(path)) is not None:
        refuse_unfit_inputs(config, shape)
    refuse_missing_files(config)

    from linearized.models.backend import load_backend

    load_backend()
    from linearized.experiments import finetune_model
    from linearized.experiments.gradient_fit import loss_change
    from linearized.layers.snnk.uptrain import errors_of
    from linearized.models.common import load
    from linearized.solvers.training import sgd
    from linearized.solvers.training.epochs import operations
    from linearized.solvers.training.recipe import Recipe

    original = load(path)
    dataset = load_data(config, original)
    model = finetune_model.swapped(config, original, dataset)
    finetune_model.choose_trainable(model, config.trainable)
    refuse_endless(
        operations(model) * config.epochs * len(dataset.train),
        f"{path.name} with --epochs={config.epochs} of {len(dataset.train):,} train rows", "Lower --epochs.",
    )  # fmt: skip
    rows = finetune_model.from_rows(model)
    counts = {"num_parameters": int(model.count_params()), "original_parameters": int(original.count_params()),
              "trained_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables)}  # fmt: skip
    errors = errors_of(model)
    logging.info("%s: %d train rows, %s, errors of the SNNKs %s", path.name, len(dataset.train), counts, errors)
    loss = "square" if dataset.task == "regression" else "cross_entropy"
    done = sgd.fit(
        rows, dataset, learning_rate=config.learning_rate, epochs=config.epochs, batch_size=config.batch_size,
        loss=loss, optimizer="adamw", seed=config.seed,
        recipe=Recipe(schedule="cosine", warm_up=min(1, config.epochs - 1), weight_decay=config.weight_decay,
                      augment_crop=config.augment_crop, augment_flip=config.augment_flip),
        checkpoint=unfinished / "checkpoint", checkpoint_seconds=config.checkpoint_seconds,
        key=f"{dataset.fingerprint}-{config.key()}-{digest}",
    )  # fmt: skip
    if done.diverged and done.epochs_done == 0:
        raise UserError(done.message)
    predictions = {name: sgd.predict(rows, split.x) for name, split in dataset.splits().items()}
    scores = {
        f"{name}_{metric}": value
        for name, split in dataset.splits().items()
        for metric, value in scored(predictions[name], split, dataset, loss).items()
    }
    change = loss_change(np.asarray(done.history["loss"]) + np.asarray(done.history["penalty"]))
    entries = [{
        "index": 0, "ridge": 0.0, "converged": not done.diverged and settled(change), "diverged": done.diverged,
        "residual": None, "loss_change": change, "iterations": done.epochs_done, "message": done.message, **scores,
    }]  # fmt: skip
    choice = select.choose(entries)
    select.warn(path.stem, choice, entries, "Give more --epochs, or another --learning_rate.")
    record = {
        "title": f"{path.stem} on {dataset.name}, swap {config.swap}, trained {config.trainable}",
        "settings": config.to_dict(),
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "dim": dataset.dim,
                 **{f"n_{name}": len(split) for name, split in dataset.splits().items()}, **dataset.notes},
        "model": {"name": path.stem, **counts, "snnk_errors": errors},
        "solver": {"name": "adamw", "step": "epoch", "history": "train loss", "loss": loss},
        "ridges": entries,
        **select.recorded(choice, entries),
    }  # fmt: skip
    arrays = {f"predictions/{name}": values for name, values in predictions.items()}
    arrays |= {f"history/{name}": values for name, values in done.history.items()}
    return life.Outcome(record, arrays, {} if config.no_model else {MODEL_FILE: model.save})


def scored(predictions: np.ndarray, split: Split, dataset: Dataset, loss: str) -> dict[str, float | None]:
    """Return loss and accuracy of a model's outputs on a split, and further scores that are customary for its task.

    Args:
        predictions: Outputs (n, k) of the model.
        split: Rows and labels.
        dataset: Data set that the split belongs to, whose `metrics` name the further scores, such as "f1".
        loss: "square" or "cross_entropy".
    """
    scores = dataset.score(split, predictions, loss=loss)
    if dataset.metrics:
        from linearized.experiments.customary_metrics import customary  # scikit-learn's metrics take a second to import

        scores |= customary(dataset, split.y.reshape(-1), predictions)
    return scores


def main(config: FinetuneSettings) -> None:
    """Run the command, print the scores and draw the pictures."""
    result = run(config)
    chosen: dict[str, Any] = result.chosen
    counts = result.record["model"]
    say(f"{counts['trained_parameters']:,} of {counts['num_parameters']:,} parameters trained "
        f"({counts['original_parameters']:,} before the swap)")  # fmt: skip
    for split in ("train", "test"):
        for reason, words in (("unlabelled", "without a label"), ("odd_columns", "with another number of columns")):
            if count := result.record["data"].get(f"{split}_rows_{reason}"):
                say(f"{split}: {count} rows {words} were dropped")
    for name, error in counts.get("snnk_errors", {}).items():
        say(f"{name}: replaced with a relative error of {error:.3f} on held-out rows, before training")
    for name in ("train", "validation", "test"):
        found = {key.removeprefix(f"{name}_"): value for key, value in chosen.items() if key.startswith(f"{name}_")}
        shown = [f"{metric.replace('_', ' ')} {value:.4f}" for metric, value in found.items() if value is not None]
        if shown:
            say(f"{name}: {', '.join(shown)}")
    draw(result.folder)
    say_written(result.folder)
    if not config.no_model and result.record["settings"].get("no_model"):
        say(LEFT_OUT)


def draw(folder: Path) -> None:
    """Draw `curves.png` and `training.png` into the folder of a result if one is missing.

    Raises:
        UserError: If the report cannot draw them.
    """
    if all((folder / name).is_file() for name in ("curves.png", "training.png")):
        return
    if subprocess.run([sys.executable, "-m", "linearized.report.run_pictures", f"--directory={folder}"]).returncode:
        raise UserError(f"The figures of {folder} cannot be drawn, see above. The result itself is complete.")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(FinetuneSettings, __doc__, main, arguments)
