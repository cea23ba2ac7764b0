"""Running statistics that are right from the first batch on."""

import keras
import numpy as np
import pytest

from linearized.layers.batch_norm import SettledBatchNorm


def batches(count):
    return 5 + 3 * np.random.default_rng(0).standard_normal((count, 16, 4)).astype(np.float32)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_first_ten_batches_count_alike(compiled):
    layer, x = SettledBatchNorm(), batches(10)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=compiled)
    for batch in x:
        model.train_on_batch(batch, 0 * batch)
    np.testing.assert_allclose(layer.moving_mean, x.mean(1).mean(0), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, x.var(1).mean(0), rtol=1e-4)
    assert layer.momentum == 0.9


def test_later_ones_count_as_keras_has_it():
    ours, theirs, x = SettledBatchNorm(momentum=0.5), keras.layers.BatchNormalization(momentum=0.5), batches(8)
    ours(x[0], training=True)
    theirs.build(x[0].shape)
    theirs.set_weights(ours.get_weights()[:4])
    theirs.epsilon = ours.epsilon
    for batch in x[1:]:
        np.testing.assert_allclose(ours(batch, training=True), theirs(batch, training=True), rtol=1e-5, atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-5)
    before = float(ours.moving_count)
    ours(x[0], training=False)
    ours.trainable = False
    ours(x[0], training=True)
    assert float(ours.moving_count) == before == 8
