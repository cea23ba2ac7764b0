"""A dense ReLU network against the bundled SNNK that stands in for it: parameters, rows a second, accuracy.

    python benchmarks/snnk_speed.py --width=2048 --features=512

The dense network is trained, each hidden layer is fitted by an SNNK on what it gets, the whole is trained on for a few
epochs, and bundled. Both answer the same batches, in turns, as graphs of the backend; the median time counts.
"""

import statistics
import time

import keras
import numpy as np
from absl import app, flags

from linearized import data
from linearized.layers.snnk.bundle import bundle
from linearized.layers.snnk.layer import SNNK
from linearized.layers.surgery.swap import swap
from linearized.models.backend import load_backend

WIDTH = flags.DEFINE_integer("width", 2048, "units of each of the two hidden layers")
FEATURES = flags.DEFINE_integer("features", 512, "random features of each SNNK")
DATASET = flags.DEFINE_string("dataset", "DIGITS", "the data")
EPOCHS = flags.DEFINE_integer("epochs", 20, "of the dense network, and half as many after the swap")
BATCH = flags.DEFINE_integer("batch", 256, "rows at once when timed")
REPEATS = flags.DEFINE_integer("repeats", 20, "timed turns")
NUM_TRAIN = flags.DEFINE_integer("num_train", 0, "train rows, 0: all")


def dense(dim, outputs, width):
    layers = [keras.layers.Dense(width, activation="relu", name=f"hidden_{i}") for i in (1, 2)]
    return keras.Sequential([keras.Input((dim,)), *layers, keras.layers.Dense(outputs, name="readout")])


def train(model, split, epochs, rate):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(split.x, split.y, batch_size=128, epochs=epochs, verbose=0)


def stand_in(model, x, features):
    """SNNKs for the hidden layers, each fitted on the activations that come to it."""
    inputs = {"hidden_1": x}
    inputs["hidden_2"] = keras.ops.convert_to_numpy(model.layers[0](x))

    def factory(layer):
        return SNNK.from_dense(layer, features, inputs=inputs[layer.name], seed=(0, int(layer.name[-1])))

    return swap(model, {keras.layers.Dense: factory}, where=lambda layer: layer.name in inputs)


def times(models, x, repeats):
    """Median seconds a batch of each model, in turns, so that a busy moment meets all."""
    found = [[] for _ in models]
    for model in models:
        model.predict_on_batch(x)
    for _ in range(repeats):
        for model, seconds in zip(models, found, strict=True):
            start = time.perf_counter()
            for _ in range(5):
                model.predict_on_batch(x)
            seconds.append((time.perf_counter() - start) / 5)
    return [statistics.median(seconds) for seconds in found]


def measure(dataset, width, features, epochs, batch, repeats):
    """Accuracies, parameters and seconds of the dense network and of the bundle."""
    keras.utils.set_random_seed(0)
    original = dense(dataset.dim, dataset.num_outputs, width)
    train(original, dataset.train, epochs, 1e-3)
    model = stand_in(original, dataset.train.x[: 8 * max(features, 500)], features)
    at_swap = accuracy(model, dataset.test)
    train(model, dataset.train, max(epochs // 2, 1), 3e-4)
    small = bundle(model)
    x = np.resize(dataset.test.x, (batch, dataset.dim))
    seconds = times([original, small], x, repeats)
    return {
        "accuracy": [accuracy(original, dataset.test), accuracy(small, dataset.test)], "at_swap": at_swap,
        "parameters": [original.count_params(), small.count_params()], "seconds": seconds,
    }  # fmt: skip


def accuracy(model, split):
    return float((model.predict(split.x, verbose=0).argmax(axis=1) == split.y).mean())


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Every setting is a flag. Received: {' '.join(argv[1:])}")
    load_backend()
    dataset = data.load(DATASET.value, num_train=NUM_TRAIN.value)
    found = measure(dataset, WIDTH.value, FEATURES.value, EPOCHS.value, BATCH.value, REPEATS.value)
    for name, place in (("dense", 0), ("bundle", 1)):
        rate = BATCH.value / found["seconds"][place]
        print(f"{name:7s} {found['parameters'][place]:10,d} parameters  {rate:10,.0f} rows/s  "
              f"accuracy {found['accuracy'][place]:.4f}")  # fmt: skip
    print(f"ratio   {found['parameters'][0] / found['parameters'][1]:10.1f} fewer       "
          f"{found['seconds'][0] / found['seconds'][1]:10.1f} times    at the swap {found['at_swap']:.4f}")  # fmt: skip


if __name__ == "__main__":
    app.run(main)
