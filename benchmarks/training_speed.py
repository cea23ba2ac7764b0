"""Trained examples per CPU second: ours beside `keras.Model.fit` and a step written in JAX, with the answers' distance.

    OPENBLAS_NUM_THREADS=1 taskset -c 0 python benchmarks/training_speed.py
    KERAS_BACKEND=jax taskset -c 0 python benchmarks/training_speed.py

All train the same ReLU network with one hidden layer and a penalty, from the same weights and on the same batches, by
the square loss and momentum in Keras' convention. They take turns; the median epoch counts, without the first of each
turn, which compiles. The distance is that of the weights after a turn to Keras', relative to the way they went. On
TensorFlow ours has two rows, because XLA compiles long runs alone (see `linearized.solvers.training.epochs`).
"""

import statistics
import time

import numpy as np
from absl import app, flags
from figures import record

from linearized.data.dataset import Dataset, Split, fingerprint

WIDTH = flags.DEFINE_integer("width", 1024, "units of the hidden layer")
ROWS = flags.DEFINE_integer("rows", 10_000, "train rows of 784 random numbers")
BATCHES = flags.DEFINE_list("batches", ["1000", "128"], "rows per batch")
EPOCHS = flags.DEFINE_integer("epochs", 4, "epochs of a turn, at least 2", lower_bound=2)
TURNS = flags.DEFINE_integer("turns", 3, "turns of each")
RATE, PENALTY, MOMENTUM = 1e-3, 1e-4, 0.9


def rows(count):
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((count, 784)).astype(np.float32), random.integers(0, 10, count)
    split = Split(x, labels.astype(np.float32)[:, None])
    return Dataset(
        name="random", noise_ind=0, train=split, validation=None, test=Split(x[:10], split.y[:10]), task="classes",
        num_classes=10, image_shape=None, family="OWN", fingerprint=fingerprint(x, split.y),
    )  # fmt: skip


def network(width):
    import keras

    penalty = keras.regularizers.L2(PENALTY)
    layers = [keras.layers.Dense(width, "relu", kernel_regularizer=penalty), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((784,)), *layers])


def turn(epochs, one):
    """CPU seconds of each epoch after the first; `one` trains an epoch and waits for its weights."""
    seconds = []
    for epoch in range(epochs):
        start = time.process_time()
        one(epoch)
        seconds.append(time.process_time() - start)
    return seconds[1:]


def ours(data, model, size, rates, worth_xla=float("inf")):
    from linearized.solvers.training import epochs, sgd

    ends, epochs.WORTH_XLA = [], worth_xla
    sgd.fit(
        model, data, learning_rate=RATE, epochs=len(rates), batch_size=size, recipe=sgd.Recipe(momentum="keras"),
        epoch_done=lambda _: ends.append(time.process_time()),
    )  # fmt: skip
    return list(np.diff(ends)[1:])


def ours_by_xla(data, model, size, rates):
    return ours(data, model, size, rates, worth_xla=0.0)


def by_keras(data, model, size, rates):
    import keras

    loss = lambda y, f: keras.ops.sum(keras.ops.square(y - f), axis=-1)  # noqa: E731 - of a row, as ours
    model.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss, metrics=["accuracy"])
    y, clock = data.targets(data.train), _clock()

    def one(epoch):
        order = np.random.default_rng([0, epoch]).permutation(len(y))
        model.optimizer.learning_rate = float(rates[epoch])
        model.fit(data.train.x[order], y[order], batch_size=size, shuffle=False, verbose=0, callbacks=[clock])

    turn(len(rates), one)
    return clock.seconds[1:]  # without the start of each call


def _clock():
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds, self.start = [], 0.0

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.process_time() - self.start)

    return Clock()


def plain(data, model, size, rates):
    import jax
    import jax.numpy as jnp

    def loss(weights, x, y):
        w, b, a, c = weights
        f = jax.nn.relu(x @ w + b) @ a + c
        return jnp.square(y - f).sum(axis=1).mean() + PENALTY * jnp.square(w).sum()

    @jax.jit
    def step(weights, velocity, rate, x, y):
        gradients = jax.grad(loss)(weights, x, y)
        velocity = [MOMENTUM * v - rate * g for v, g in zip(velocity, gradients, strict=True)]
        return [w + v for w, v in zip(weights, velocity, strict=True)], velocity

    y = data.targets(data.train)
    state = [jnp.asarray(w) for w in model.get_weights()], [jnp.zeros(w.shape) for w in model.get_weights()]

    def one(epoch):
        nonlocal state
        order = np.random.default_rng([0, epoch]).permutation(len(y))
        for start in range(0, len(y), size):
            batch = order[start : start + size]
            state = step(*state, rates[epoch], data.train.x[batch], y[batch])
        jax.block_until_ready(state)

    seconds = turn(len(rates), one)
    model.set_weights([np.asarray(w) for w in state[0]])
    return seconds


def measure(names, data, width, size, epochs, turns):
    """Examples per CPU second of each of the functions `names`, and the distance of its weights from those of Keras."""
    from linearized.solvers.training.recipe import Recipe

    rates = Recipe().rates(RATE, epochs)
    start = network(width).get_weights()
    seconds, ends = {work: [] for work in names}, {}
    for _ in range(turns):
        for work, found in seconds.items():
            model = network(width)
            model.set_weights(start)
            found += work(data, model, size, rates)
            ends[work] = np.concatenate([w.ravel() for w in model.get_weights()])
    way = np.linalg.norm(ends[by_keras] - np.concatenate([w.ravel() for w in start]))
    return {
        work: (len(data.train) / statistics.median(found), np.linalg.norm(ends[work] - ends[by_keras]) / way)
        for work, found in seconds.items()
    }


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Every setting is a flag. Received: {' '.join(argv[1:])}")
    from linearized.models.backend import load_backend

    backend, data = load_backend(), rows(ROWS.value)
    names = {ours: f"ours on {backend}", by_keras: f"Keras fit on {backend}", plain: "plain JAX step"}
    if backend == "tensorflow":
        names = {ours_by_xla: "ours on tensorflow, XLA", **names}
    print(f"{'batch':>6s}  {'':24s} {'examples/s':>10s}  {'distance':>9s}")
    for size in map(int, BATCHES.value):
        found = measure(names, data, WIDTH.value, size, EPOCHS.value, TURNS.value)
        for work, (speed, distance) in found.items():
            print(f"{size:6d}  {names[work]:24s} {speed:10,.0f}  {distance:9.1e}", flush=True)
        [(ours_speed, distance), *_] = found.values()
        rival = max((by_keras, plain), key=lambda work: found[work][0])
        said = f"training at width {WIDTH.value:,} in batches of {size:,}, {next(iter(names.values()))}"
        record(said, ours_speed, names[rival], found[rival][0], "rows/s", distance)


if __name__ == "__main__":
    app.run(main)
