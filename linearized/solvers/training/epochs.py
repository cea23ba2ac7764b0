"""Functions that train a Keras model for some epochs, by Keras' `fit` or by a faster loop over its training step.

The loop is used with TensorFlow on a CPU, and `fit` otherwise. With TensorFlow, `fit` reads a `keras.utils.PyDataset`
by `tf.data.Dataset.from_generator`, which sets glibc's M_TRIM_THRESHOLD to 128 kB for the rest of the process
(`generator_dataset_op.cc`, TensorFlow 2.21). After this, a process had 20 times as many page faults, and training at
width 1,024 was slower by a quarter, even where `fit` read arrays. The loop calls the training step directly,
without tf.data. With an accelerator `fit` is better, because its pipeline prepares the next batch during a step. Keras
on JAX uses no tf.data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging

from linearized.settings.operations import WORTH_XLA
from linearized.solvers.training.batches import Batches
from linearized.solvers.training.declared import computes_rows

Epochs = Callable[[Batches, int, int], None]


def on_cpu_with_tensorflow() -> bool:
    """Return whether Keras computes with TensorFlow and finds no GPU."""
    return keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")


def operations(model: keras.Model) -> float:
    """Return a lower bound of the number of operations that training takes for one row in one epoch.

    The bound follows from the sizes of the weights. Each entry of a weight with two or more axes takes part in at least
    one multiplication and one addition. A trained entry takes part in as many again for its derivative. Embeddings are
    not counted, because a row uses only a few of their entries.

    Args:
        model: Keras model to train.
    """
    used = [weight for weight in model.weights if len(weight.shape) > 1 and "embedding" not in weight.path.lower()]
    return float(sum(math.prod(weight.shape) * (4 if weight.trainable else 2) for weight in used))


def epochs_of(
    model: keras.Model,
    validation: Batches | None,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    rows: float,
) -> Epochs:
    """Return a function (batches, done, stop) that trains a compiled model in the epochs `done` to `stop` - 1.

    Epochs are counted from 0. `batches` are the batches of an epoch; a callback sets their order at the start of each
    epoch. Training ends early if a callback sets `model.stop_training`.

    Args:
        model: Model to train.
        validation: Batches that are scored after each epoch, or None.
        callbacks: Callbacks of Keras. They are called at the same times and with the same logs by `fit` and by the loop
            of this module.
        rows: Number of rows of all epochs together. XLA compiles the training step of a dense network if there is
            enough work to make up for the time of the compilation.
    """
    if on_cpu_with_tensorflow():
        xla = operations(model) * rows >= WORTH_XLA and computes_rows(model)
        return _DirectSteps(model, validation, callbacks, xla)

    def by_fit(batches: Batches, done: int, stop: int) -> None:
        model.fit(
            batches,
            initial_epoch=done,
            epochs=stop,
            validation_data=validation,
            shuffle=False,  # the batches shuffle themselves
            callbacks=list(callbacks),
            verbose=0,
        )

    return by_fit


class _DirectSteps:
    """Function that trains a model by a loop over epochs and batches, which calls Keras' training step.

    TensorFlow traces the step once for all sizes of batches.

    With `xla` the step is compiled by XLA, which merges the passes over the weights for the penalty, the scales and the
    momentum. Use `xla` for dense networks only: on a CPU, XLA's convolutions are no faster than TensorFlow's and take
    long to compile. Validation is not compiled by XLA, because it updates no weights. If XLA cannot compile the step,
    for example because of a user's function in NumPy, a warning is logged and the step runs without XLA.
    """

    def __init__(
        self,
        model: keras.Model,
        validation: Batches | None,
        callbacks: Sequence[keras.callbacks.Callback],
        xla: bool,
    ):
        import tensorflow as tf

        self.model, self.validation, self.callbacks = model, validation, list(callbacks)
        every = tf.TensorSpec((None, *model.input_shape[1:])), tf.TensorSpec((None, *model.output_shape[1:]))

        def traced(step: Callable, xla: bool) -> Callable:
            return tf.function(lambda x, y: step((x, y)), input_signature=every, autograph=False, jit_compile=xla)

        self.train_step, self.test_step = traced(model.train_step, xla), traced(model.test_step, False)
        self._without_xla = (lambda: traced(model.train_step, False)) if xla else None
        self._uncompiled = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)

    def __call__(self, batches: Batches, done: int, stop: int) -> None:
        model = self.model
        calls = keras.callbacks.CallbackList(self.callbacks, model=model, epochs=stop, steps=len(batches), verbose=0)
        model.stop_training = False
        calls.on_train_begin()
        logs = {}
        for epoch in range(done, stop):
            model.reset_metrics()
            calls.on_epoch_begin(epoch)
            for number in range(len(batches)):
                calls.on_train_batch_begin(number)
                logs = self._step(*batches[number])
                calls.on_train_batch_end(number, logs)
                if model.stop_training:
                    break
            logs = _numbers(logs)
            if self.validation is not None:
                logs |= {f"val_{name}": value for name, value in self._scores(calls).items()}
            calls.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        calls.on_train_end(logs)

    def _step(self, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        """Train on a batch and return the logs; the first batch decides whether XLA can compile the step."""
        again, self._without_xla = self._without_xla, None
        if again is None:
            return self.train_step(x, y)
        try:
            return self.train_step(x, y)
        except self._uncompiled as error:  # while compiling, before anything was trained
            reason = str(error).split("\n")[0]
            logging.warning("Training goes on without XLA, which cannot compile the step: %s", reason)
            self.train_step = again()
            return self.train_step(x, y)

    def _scores(self, calls: keras.callbacks.CallbackList) -> dict[str, float]:
        self.model.reset_metrics()
        calls.on_test_begin()
        logs = {}
        for number in range(len(self.validation)):
            calls.on_test_batch_begin(number)
            logs = self.test_step(*self.validation[number])
            calls.on_test_batch_end(number, logs)
        logs = _numbers(logs)
        calls.on_test_end(logs)
        return logs


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}
