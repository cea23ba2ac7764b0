"""Convolutions of a trained model exchanged for kervolutions, which keep its weights, and for lambda layers."""

import keras
import numpy as np
import pytest

from linearized.layers.kervolution import Kervolution2D
from linearized.layers.lambda_layer import LambdaLayer
from linearized.layers.surgery.exchange import kervolved, with_lambda_layers


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(8, 3, padding="same", name="first"),
        keras.layers.Conv2D(8, 1, name="point"),
        keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="space"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(12, 3, strides=2, padding="same", name="strided"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2),
    ])  # fmt: skip


X = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(("options", "exchanged"), [
    ({}, ["first", "point", "space", "strided"]), ({"places": "inner"}, ["space", "strided"]),
    ({"places": "inner", "last": 1}, ["strided"]), ({"last": 3}, ["point", "space", "strided"]),
])  # fmt: skip
def test_kervolutions_keep_the_weights_of_the_convolutions(options, exchanged):
    model = network()
    new = kervolved(model, "gaussian", gamma=0.3, **options)
    assert [layer.name for layer in new.layers if isinstance(layer, Kervolution2D)] == exchanged
    for ours, theirs in zip(new.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.allclose(new(X), model(X))
    np.testing.assert_allclose(kervolved(model, "linear", **options)(X), model(X), rtol=1e-5, atol=1e-6)


def test_lambda_layers_take_the_places_of_spatial_convolutions():
    model = network()
    new = with_lambda_layers(model, heads=4, keys=3)
    layers = [layer for layer in new.layers if isinstance(layer, LambdaLayer)]
    assert [(layer.name, layer.strides, layer.filters) for layer in layers] == [("space", 1, 8), ("strided", 2, 12)]
    assert not np.array_equal(layers[0].to_keys, layers[1].to_keys)
    assert new(X).shape == (4, 2)
    np.testing.assert_array_equal(new.get_layer("first").kernel, model.get_layer("first").kernel)
    assert len(with_lambda_layers(model, last=1).layers) == len(model.layers)
    assert [type(layer) for layer in with_lambda_layers(model, heads=8).layers].count(LambdaLayer) == 1


@pytest.mark.parametrize(("exchange", "options"), [
    (kervolved, {"last": 5}), (with_lambda_layers, {"heads": 5}), (with_lambda_layers, {"last": 3}),
])  # fmt: skip
def test_models_without_enough_convolutions_are_refused(exchange, options):
    with pytest.raises(ValueError, match="Received: last="):
        exchange(network(), **options)
