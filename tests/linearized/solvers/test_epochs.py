"""Training equals Keras' own `fit` on the same batches, is traced once, and starts no tf.data generator."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from linearized.models import nn
from linearized.solvers.training import epochs, sgd
from linearized.solvers.training.batches import Batches
from linearized.solvers.training.declared import computes_rows, gradient_scales
from linearized.solvers.training.objectives import RowLoss, RowMean
from linearized.solvers.training.scaled import ScaledAdam, ScaledSGD


def convolutional(data):
    """A network with convolution, penalty and running statistics; a bias before it would follow rounding alone."""
    x = inputs = keras.Input((data.dim,))
    x = keras.layers.Reshape((1, data.dim, 1))(x)
    start = keras.initializers.GlorotUniform(seed=1)
    x = keras.layers.Conv2D(4, (1, 2), use_bias=False, kernel_initializer=start, kernel_regularizer="l2")(x)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(data.num_outputs, kernel_initializer=start)(x))


def by_keras(model, data, optimizer, learning_rate, count, size, seed):
    """Train by `keras.Model.fit` on arrays in the order of each epoch; return the losses and validation losses."""
    scales = gradient_scales(model)
    made = ScaledSGD(momentum=0.9, scales=scales) if optimizer == "sgd" else ScaledAdam(scales=scales)
    model.compile(made, RowLoss("square"), metrics=[RowMean("square", "loss", name="row_loss")])
    found = []
    for epoch, rate in enumerate(sgd.Recipe().rates(learning_rate, count)):
        model.optimizer.learning_rate = float(rate)
        order = np.random.default_rng([seed, epoch]).permutation(len(data.train))
        x, y = data.train.x[order], data.targets(data.train)[order]
        held_out = (data.validation.x, data.targets(data.validation))
        logs = model.fit(x, y, batch_size=size, shuffle=False, validation_data=held_out, verbose=0).history
        found.append((logs["row_loss"][0], logs["val_row_loss"][0]))
    return np.array(found).T


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_weights_and_losses_equal_those_of_keras_fit(tiny, config, monkeypatch, kind, optimizer):
    monkeypatch.setattr(epochs, "WORTH_XLA", 0)
    data = tiny("classes", n=50, validation=True)
    ours, theirs = (
        nn.build(config(num_layers=2), data, ridge=0.05) if kind == "dense" else convolutional(data) for _ in range(2)
    )
    assert computes_rows(ours) == (kind == "dense")
    start = ours.get_weights()
    result = sgd.fit(ours, data, learning_rate=0.02, epochs=5, batch_size=20, optimizer=optimizer, seed=3)
    losses, validation = by_keras(theirs, data, optimizer, 0.02, 5, 20, seed=3)
    moved = max(np.abs(a - b).max() for a, b in zip(start, ours.get_weights(), strict=True))
    assert moved > 1e-2
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * moved)
    np.testing.assert_allclose(result.history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(result.history["validation_loss"], validation, rtol=1e-5)


def test_training_starts_no_generator_of_tensorflow(tiny, config, monkeypatch):
    """A generator changes how the whole process allocates memory, see `epochs`; Keras' `fit` would start one."""

    def refused(*_, **__):
        raise AssertionError("tf.data.Dataset.from_generator was called")

    monkeypatch.setattr(tf.data.Dataset, "from_generator", refused)
    data = tiny(validation=True)
    model = nn.build(config(), data)
    result = sgd.fit(model, data, learning_rate=0.01, epochs=2, batch_size=25)
    assert len(result.history["validation_loss"]) == 2
    with pytest.raises(AssertionError, match="from_generator"):
        model.fit(Batches(data.train.x, data.targets(data.train), 25), verbose=0)


def test_a_step_is_traced_once_for_all_sizes_of_batches(tiny, config):
    data = tiny(n=50)
    model = nn.build(config(), data)
    step, traced = model.train_step, []
    model.train_step = lambda batch: traced.append(batch[0].shape[0]) or step(batch)
    sgd.fit(model, data, learning_rate=0.01, epochs=8, batch_size=(20, 30))  # sizes 20, 10 and 30
    assert traced == [None]


@pytest.mark.parametrize("worth, compiled", [(1.0, True), (1.1, False)])
def test_xla_compiles_dense_networks_whose_work_is_worth_it(tiny, config, monkeypatch, worth, compiled):
    data = tiny(n=50)
    model = nn.build(config(), data)
    asked, function = [], tf.function
    monkeypatch.setattr(epochs, "WORTH_XLA", worth * epochs.operations(model) * 50 * 3)
    monkeypatch.setattr(tf, "function", lambda step, **options: asked.append(options) or function(step, **options))
    sgd.fit(model, data, learning_rate=0.01, epochs=3, batch_size=50)
    assert asked[0]["jit_compile"] == compiled


def test_a_step_that_xla_cannot_compile_runs_without_it(tiny, monkeypatch):
    data = tiny(n=50)
    monkeypatch.setattr(epochs, "WORTH_XLA", 0)

    def own(x):
        return tf.ensure_shape(tf.numpy_function(np.tanh, [x], tf.float32), x.shape) + x

    def made():
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [keras.Input((data.dim,)), keras.layers.Dense(8, own), keras.layers.Dense(data.num_outputs)]
        )

    warnings, models = [], [made(), made()]
    monkeypatch.setattr(epochs.logging, "warning", lambda text, *words: warnings.append(text))
    for model in models:
        sgd.fit(model, data, learning_rate=0.01, epochs=3, batch_size=20)
        monkeypatch.setattr(epochs, "WORTH_XLA", np.inf)
    assert len(warnings) == 1 and "without XLA" in warnings[0]
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gpus", [[], ["gpu:0"]])
def test_accelerators_keep_the_pipeline_of_keras(tiny, config, monkeypatch, gpus):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: gpus)
    assert epochs.on_cpu_with_tensorflow() == (not gpus)
    data = tiny()
    model = nn.build(config(), data)
    calls, fit = [], model.fit
    model.fit = lambda *arguments, **options: calls.append(options["epochs"]) or fit(*arguments, **options)
    sgd.fit(model, data, learning_rate=0.01, epochs=1, batch_size=25)
    assert calls == ([1] if gpus else [])


def test_dense_networks_are_those_of_rows_that_xla_can_compile():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.readout = keras.layers.Dense(1)

        def call(self, x):
            return self.readout(x)

    dense = keras.layers.Dense
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Reshape((2, 2)), keras.layers.Flatten(), dense(3)])
    without = dense(2)
    without.supports_jit = False
    assert computes_rows(keras.Sequential([keras.Input((4,)), dense(3, "relu"), keras.layers.Dropout(0.5), dense(1)]))
    assert not computes_rows(keras.Sequential([keras.Input((4,)), inner, dense(1)]))
    assert not computes_rows(keras.Sequential([keras.Input((4,)), without]))
    assert not computes_rows(Subclassed())
