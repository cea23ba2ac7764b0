"""Training of Keras models by momentum SGD, Adam or AdamW.

A stopped training can be resumed. Training ends early if the loss or the weights are no longer finite.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float32
from linearized.data.dataset import Dataset
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.training.batches import Batches
from linearized.solvers.training.curves import TestCurves
from linearized.solvers.training.declared import changing_weights, gradient_scales
from linearized.solvers.training.epochs import epochs_of, on_cpu_with_tensorflow
from linearized.solvers.training.objectives import RowLoss, RowMean, loss_kind
from linearized.solvers.training.recipe import Recipe
from linearized.solvers.training.scaled import ScaledAdam, ScaledAdamW, ScaledSGD
from linearized.solvers.training.schedule import batch_sizes

__all__ = ["FitResult", "batch_sizes", "fit", "predict"]

MOMENTUM = 0.9
LARGEST_PREDICTED = 1000  # rows per prediction: images take far more memory inside a CNN
OPTIMIZERS = ("sgd", "adam", "adamw")
REPORT_EVERY = 0.25  # seconds between two progress reports within an epoch
CHECK_EVERY = 16  # batches between two checks of the loss; each check waits for the device


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Diagnostics of a training run; the trained weights are in the model.

    Attributes:
        history: Dictionary of arrays with one number per epoch. "loss" (without the penalty) and, except for
            regression, "accuracy" are means over the rows, computed while the weights change. "penalty" and, with a
            validation split, "validation_loss" and "validation_accuracy" are those at the end of the epoch. The other
            keys are "learning_rate" and "seconds".
        epochs_done: Number of epochs that ended with a finite loss and finite weights.
        diverged: Whether the run was stopped because the loss or the weights were no longer finite. The model then has
            the last finite weights.
        message: Description of the end of the run.
    """

    history: dict[str, np.ndarray]
    epochs_done: int
    diverged: bool
    message: str


def fit(
    model: keras.Model,
    dataset: Dataset,
    *,
    learning_rate: float,
    epochs: int,
    batch_size: int | tuple[int, int],
    loss: str = "square",
    optimizer: str = "sgd",
    seed: int = 0,
    recipe: Recipe | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 30.0,
    key: str = "",
    progress: Callable[[int, int, dict], None] | None = None,
    tensorboard: Path | str | None = None,
    epoch_done: Callable[[int], None] | None = None,
) -> FitResult:
    """Train a model from its current weights, on the mean loss of the train rows plus the model's own penalty.

    Args:
        model: Model to train.
        dataset: Dataset whose train split is used; the validation split is scored after each epoch.
        learning_rate: Base rate of the schedule.
        epochs: Number of epochs.
        batch_size: Rows per batch, or two sizes: during the warm-up, and after it (see `schedule.batch_sizes`).
        loss: "square" or "cross_entropy" (of the logits; see `objectives`).
        optimizer: "sgd" (momentum 0.9, by the rule `recipe.momentum`), "adam" or "adamw". Gradients are multiplied by
            the scales of the layers, see `linearized.solvers.training.scaled`.
        seed: Random-number seed of the row order, dropout and augmentation, each a function of (seed, epoch).
        recipe: Schedule, label smoothing, weight decay and augmentation; None: the defaults of `Recipe`. Losses in the
            history are without the smoothing.
        checkpoint: Folder of the checkpoint, from which a later call with the same settings and `key` continues, with
            the same result. It is written at the end and after epochs, at most every `checkpoint_seconds` seconds. None
            stores nothing.
        checkpoint_seconds: Smallest number of seconds between two checkpoints.
        key: Identity of the run that the checkpoint belongs to.
        progress: Function called with the number of epochs done, `epochs`, and a dictionary. Within an epoch, the
            dictionary contains the mean loss of the epoch so far; after an epoch, the epoch's entries of the history.
        tensorboard: Folder of TensorBoard's logs: train, validation, and test for the scores of the test rows after
            each epoch, which do not affect any other result of this function.
        epoch_done: Function called with the number of epochs done: with 0 before the first epoch, and after each epoch.
            The model then has the weights of that epoch. The function may be called twice for an epoch, because the
            checkpoint is written later, and a resumed run repeats the epochs after the checkpoint.

    In addition to Keras' own memory, training takes memory for twice the weights.

    Raises:
        UserError: If a setting is invalid.
    """
    if optimizer not in OPTIMIZERS:
        raise UserError(f"Unknown optimizer {optimizer!r}. The choices are: {', '.join(OPTIMIZERS)}.")
    sizes = (batch_size, batch_size) if isinstance(batch_size, int) else batch_size
    if min(sizes) < 1:
        raise UserError(f"A batch has at least 1 row. Received: batch_size={batch_size}.")
    recipe = recipe or Recipe()
    if recipe.augments() and dataset.image_shape is None:
        raise UserError(f"The rows of {dataset.name} are no images: they cannot be cropped or flipped.")
    rates = recipe.rates(learning_rate, epochs)
    kind = loss_kind(loss, dataset.task)
    if recipe.label_smoothing and kind == "square":
        raise UserError("Labels are smoothed for the cross-entropy. Use it, or --label_smoothing=0.")
    _compile(model, kind, optimizer, recipe, with_accuracy=dataset.task != "regression")
    folder = None if checkpoint is None else Path(checkpoint)
    saved = Checkpoint(
        folder, key=key, model=model.name, data=dataset.fingerprint, loss=loss,
        optimizer=optimizer, learning_rate=learning_rate, epochs=epochs, batch_size=list(sizes), seed=seed,
        recipe=dataclasses.asdict(recipe),
    )  # fmt: skip
    run = _GradientRun(model, rates, seed, saved, checkpoint_seconds, progress, epoch_done)
    run.resume()
    if epoch_done is not None and run.done == 0 and not run.failure:
        epoch_done(0)
    callbacks = [run]
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(str(tensorboard), write_graph=False))
        callbacks.append(TestCurves(dataset, loss, Path(tensorboard) / "test", predict))
    targets = dataset.targets(dataset.train)
    held_out = dataset.validation
    validation = None if held_out is None else Batches(held_out.x, dataset.targets(held_out), LARGEST_PREDICTED)
    train = epochs_of(model, validation, callbacks, rows=float(epochs) * len(dataset.train))
    warm_up = recipe.warm_up_epochs(epochs)
    for stop, size in ((warm_up, sizes[0]), (epochs, sizes[1])):
        if run.failure or run.done >= stop:
            continue
        run.batches = Batches(dataset.train.x, targets, size, seed, recipe, dataset.image_shape)
        train(run.batches, run.done, stop)
    return run.finish()


def predict(
    model: keras.Model, x: Float32[np.ndarray, "n d"], batch_size: int = LARGEST_PREDICTED
) -> Float32[np.ndarray, "n k"]:
    """Return the model's outputs for rows x, computed in batches, so that a memory-mapped x is never read whole.

    Args:
        model: Keras model; it is compiled if it is not yet.
        x: Rows.
        batch_size: Rows per batch; more than 1000 count as 1000.
    """
    if not model.compiled:
        model.compile(jit_compile=_compiled_by_xla())
    size = min(batch_size, LARGEST_PREDICTED)
    outputs = [model.predict_on_batch(np.asarray(x[start : start + size])) for start in range(0, len(x), size)]
    return np.concatenate(outputs).astype(np.float32)


def _compiled_by_xla() -> bool | str:
    """Return Keras' `jit_compile` argument: False for TensorFlow on a CPU, otherwise "auto".

    On a CPU, TensorFlow's own convolutions need almost no compilation time and are as fast as XLA's. `epochs_of`
    decides whether XLA compiles the training step of a dense network.
    """
    return False if on_cpu_with_tensorflow() else "auto"


def _compile(model: keras.Model, kind: str, optimizer: str, recipe: Recipe, *, with_accuracy: bool) -> None:
    scales = gradient_scales(model)
    if optimizer == "sgd":
        made = ScaledSGD(momentum=MOMENTUM, rule=recipe.momentum, scales=scales, l2_decay=recipe.l2_decay)
    elif optimizer == "adam":
        made = ScaledAdam(beta_2=recipe.beta_2, scales=scales, l2_decay=recipe.l2_decay)
    else:
        made = ScaledAdamW(weight_decay=recipe.weight_decay, beta_2=recipe.beta_2, scales=scales)
    metrics = [RowMean(kind, what, name=f"row_{what}") for what in ("loss", "accuracy")[: 1 + with_accuracy]]
    model.compile(
        optimizer=made,
        loss=RowLoss(kind, smoothing=recipe.label_smoothing),
        metrics=metrics,
        jit_compile=_compiled_by_xla(),
    )
    made.build(model.trainable_variables)


class _GradientRun(keras.callbacks.Callback):
    """Keras callback that controls one training run: rates, seeds, history, checkpoints, and the stop on divergence.

    Args:
        model: Model to train.
        rates: Learning rate of each epoch.
        seed: Random-number seed of dropout.
        checkpoint: Checkpoint of the run.
        checkpoint_seconds: Smallest number of seconds between two checkpoints.
        progress: Function called during and after each epoch, as for `fit`; None: none.
        epoch_done: Function called after each epoch with the number of epochs done; None: none.
    """

    def __init__(
        self,
        model: keras.Model,
        rates: np.ndarray,
        seed: int,
        checkpoint: Checkpoint,
        checkpoint_seconds: float,
        progress: Callable[[int, int, dict], None] | None,
        epoch_done: Callable[[int], None] | None,
    ):
        super().__init__()
        self.trained, self.rates, self.seed, self.progress = model, rates, seed, progress
        self.epoch_done = epoch_done
        self.checkpoint, self.checkpoint_seconds, self.written = checkpoint, checkpoint_seconds, time.monotonic()
        self.batches: Batches | None = None
        self.weights = changing_weights(model)
        self.good = _values(self.weights)
        self.history: dict[str, list[float]] = {}
        self.done, self.failure = 0, ""
        self.started = self.reported = 0.0

    def resume(self) -> None:
        """Restore the weights, the optimizer and the history from the checkpoint, if there is one of this run."""
        arrays = self.checkpoint.load("training")
        if arrays is None:
            return
        state = json.loads(str(arrays["state"]))
        self.history, self.done, self.failure = state["history"], state["done"], state["failure"]
        variables = [*self.weights, *self.trained.optimizer.variables]
        _assign(variables, [arrays[f"variable_{number}"] for number in range(len(variables))])
        self.good = _values(self.weights)

    def save(self) -> None:
        """Write a checkpoint: the last finite weights, the optimizer's variables and the history."""
        state = {"history": self.history, "done": self.done, "failure": self.failure}
        values = [*self.good, *_values(self.trained.optimizer.variables)]
        arrays = {f"variable_{number}": value for number, value in enumerate(values)}
        self.checkpoint.save("training", {**arrays, "state": np.array(json.dumps(state))})
        self.written = time.monotonic()

    def finish(self) -> FitResult:
        """Write the checkpoint and return the result; after a failure, first restore the last finite weights."""
        if self.failure:
            _assign(self.weights, self.good)
        self.save()
        history = {name: np.array(values) for name, values in self.history.items()}
        return FitResult(history, self.done, bool(self.failure), self.failure or f"{self.done} epochs done")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Set the row order, the learning rate and the dropout seeds of an epoch; Keras calls this before the epoch."""
        self.started = time.perf_counter()
        self.batches.start(epoch)
        self.trained.optimizer.learning_rate = float(self.rates[epoch])
        # Dropout's state depends only on the seed and the epoch, so that a resumed run drops the same units.
        states = [variable for variable in self.trained.variables if variable.name == "seed_generator_state"]
        for number, state in enumerate(states):
            state.assign(np.random.SeedSequence([self.seed, epoch, number]).generate_state(2))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stop training if the loss is not finite, and report the progress; Keras calls this after each batch.

        To save time, only every 16th batch is used, and progress is reported at most four times a second.
        """
        if batch % CHECK_EVERY:
            return
        if not np.isfinite(float(logs["loss"])):
            self.trained.stop_training = True  # `on_epoch_end` stores the reason
        elif self.progress is not None and time.perf_counter() - self.reported > REPORT_EVERY:
            self.reported = time.perf_counter()
            self.progress(self.done, len(self.rates), {"loss": float(logs["row_loss"]), "batch": batch + 1})

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Store the weights and the history of an epoch, or stop training if the weights or the loss are not finite.

        Then `epoch_done` is called, a checkpoint is written if the last one is older than `checkpoint_seconds`, and
        `progress` is called.
        """
        values = _values(self.weights)
        penalty = sum((float(loss) for loss in self.trained.losses), start=0.0)
        if not all(np.isfinite(array).all() for array in [*values, logs["loss"], penalty]):
            kept = f" The weights after epoch {self.done} are kept." if self.done else ""
            self.failure = f"The loss or the weights were not finite in epoch {epoch + 1}.{kept} Lower --learning_rate."
            self.trained.stop_training = True
            return
        self.good, self.done = values, epoch + 1
        self._record(epoch, logs, penalty)
        if self.epoch_done is not None:
            self.epoch_done(self.done)
        if time.monotonic() - self.written >= self.checkpoint_seconds:
            self.save()
        if self.progress is not None:
            last = {name: values[-1] for name, values in self.history.items()}
            self.progress(self.done, len(self.rates), last)

    def _record(self, epoch: int, logs: dict, penalty: float) -> None:
        record = {"learning_rate": self.rates[epoch], "penalty": penalty, "seconds": time.perf_counter() - self.started}
        for ours, theirs in (("", ""), ("validation_", "val_")):
            for what in ("loss", "accuracy"):
                if f"{theirs}row_{what}" in logs:
                    record[ours + what] = logs[f"{theirs}row_{what}"]
        for name, value in record.items():
            self.history.setdefault(name, []).append(float(value))


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
