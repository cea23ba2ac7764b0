"""Swapping in functional, sequential, nested and subclassed models: what changes, what stays, what comes back."""

import keras
import numpy as np
import pytest

from linearized.layers.surgery.swap import swap
from linearized.layers.surgery.swapped import SwappedLayer, SwappedModel, at, parts, put, walk

Conv2D, Dense = keras.layers.Conv2D, keras.layers.Dense
SHAPE = (6, 6, 3)


@keras.saving.register_keras_serializable("test_swap")
class Block(keras.layers.Layer):
    """Layers in a list and in a dictionary, one of them twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = [Conv2D(4, 3, padding="same", activation="relu") for _ in range(2)]
        self.named = {"last": Conv2D(4, 1), "again": self.convolutions[1]}

    def build(self, shape):
        self.convolutions[0].build(shape)
        for layer in (self.convolutions[1], self.named["last"]):
            layer.build((*shape[:-1], 4))
        self.built = True

    def call(self, x):
        return self.named["again"](self.named["last"](self.convolutions[1](self.convolutions[0](x))))


@keras.saving.register_keras_serializable("test_swap")
class Subclassed(keras.Model):
    """A block, a sequential part and a layer, in attributes."""

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.block, self.width = Block(), width
        self.tail = keras.Sequential([Conv2D(width, 3), keras.layers.Flatten()])
        self.readout = Dense(2)

    def call(self, x):
        return self.readout(self.tail(self.block(x)))


@keras.saving.register_keras_serializable("test_swap")
class TellsTooMuch(keras.layers.Layer):
    """Its configuration has a derived size, as some of keras_hub's have: Keras cannot make it from that."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dense = units, Dense(units)

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "twice": 2 * self.units}


def doubled(layer):
    """The same layer with weights twice as large."""
    new = type(layer).from_config(layer.get_config())
    new.build(layer.get_build_config()["input_shape"])
    new.set_weights([2 * weight for weight in layer.get_weights()])
    return new


def functional():
    inputs = keras.Input(SHAPE)
    x = Block(name="block")(inputs)
    shared = Conv2D(4, 1, name="shared")
    x = shared(shared(x) + 1.0) * x
    return keras.Model(inputs, Dense(2, name="readout")(keras.layers.Flatten()(x)))


def nested():
    inputs, inner = keras.Input(SHAPE), functional()
    return keras.Model(inputs, Dense(2)(inner(inputs)))


def sequential():
    return keras.Sequential([keras.Input(SHAPE), Block(), Conv2D(2, 3), keras.layers.Flatten(), Dense(2)])


def subclassed():
    model = Subclassed()
    model(np.zeros((1, *SHAPE), np.float32))
    return model


MAKERS = {"functional": functional, "nested": nested, "sequential": sequential, "subclassed": subclassed}


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("kind", MAKERS)
def test_swapped_layers_change_and_the_rest_stays(kind, x, tmp_path):
    model = MAKERS[kind]()
    before = model.predict(x, verbose=0)
    made = []

    def factory(layer):
        made.append(layer)
        return doubled(layer)

    new = swap(model, {Conv2D: factory})
    convolutions = [layer for layer in walk(model) if type(layer) is Conv2D]
    assert len(made) == len(convolutions) == len({id(layer) for layer in made})  # a shared layer once
    assert not {id(layer) for layer in walk(new)} & {id(layer) for layer in walk(model)}
    assert new.count_params() == model.count_params()
    # By another road: the same weights doubled in place.
    expected = keras.models.clone_model(model) if kind != "subclassed" else subclassed()
    expected.set_weights(model.get_weights())
    for layer in walk(expected):
        if type(layer) is Conv2D:
            layer.set_weights([2 * weight for weight in layer.get_weights()])
    after = new.predict(x, verbose=0)
    np.testing.assert_allclose(after, expected.predict(x, verbose=0), rtol=1e-4, atol=1e-4)
    assert np.abs(after - before).max() > 1e-3
    new.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), after)
    assert again.count_params() == new.count_params()  # a shared layer comes back as one
    new.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=True)
    new.fit(x, before, verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)  # nothing is shared with the old one


def test_kinds_stay_what_they_are():
    assert type(swap(functional(), {Dense: doubled})).__name__ == "Functional"
    assert isinstance(swap(sequential(), {Dense: doubled}), keras.Sequential)
    new = swap(subclassed(), {Conv2D: doubled})
    assert isinstance(new, SwappedModel) and isinstance(new.inner, Subclassed)
    assert new.changed_paths == ["block/convolutions.0", "block/convolutions.1", "block/named.last",
                                 "block/named.again", "tail"]  # fmt: skip
    assert new.inner.block.named["again"] is new.inner.block.convolutions[1]
    inside = swap(functional(), {Conv2D: doubled}).get_layer("block")
    assert isinstance(inside, SwappedLayer) and isinstance(inside.inner, Block)


def test_only_chosen_layers_are_exchanged(x):
    model = functional()
    new = swap(model, {Conv2D: doubled, Dense: doubled}, where=lambda layer: layer.name in ("shared", "readout"))
    for name in ("shared", "readout"):
        for ours, theirs in zip(new.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, 2 * theirs)
    for ours, theirs in zip(new.get_layer("block").get_weights(), model.get_layer("block").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert type(new.get_layer("block")) is Block  # nothing inside was chosen


def test_a_swapped_model_can_be_swapped_again(x):
    model = subclassed()
    twice = swap(swap(model, {Conv2D: doubled}), {Dense: doubled, Conv2D: doubled})
    readout = at(twice, "inner/inner/readout")
    for ours, theirs in zip(readout.get_weights(), model.readout.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, 2 * theirs)
    first = at(model, "block/convolutions.0").get_weights()[0]
    np.testing.assert_array_equal(at(twice, "inner/inner/block/convolutions.0").get_weights()[0], 4 * first)


def test_layers_that_tell_too_much_come_back_all_the_same(tmp_path):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, Dense(2)(TellsTooMuch(3, name="odd")(inputs)))
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    for where in (lambda layer: layer.units == 2, lambda layer: True):
        new = swap(model, {Dense: doubled}, where=where)
        new.save(tmp_path / "new.keras")
        again = keras.saving.load_model(tmp_path / "new.keras")
        np.testing.assert_array_equal(again.predict(x, verbose=0), new.predict(x, verbose=0))


def test_a_compiled_model_stays_compiled_and_policies_stay(x):
    model = subclassed()
    model.compile(keras.optimizers.Adam(0.02), "mse")
    assert float(swap(model, {Dense: doubled}).optimizer.learning_rate) == pytest.approx(0.02)
    half = keras.Sequential([keras.Input((4,)), Dense(3, dtype="mixed_bfloat16"), Dense(2)])
    assert [layer.compute_dtype for layer in swap(half, {Dense: doubled}).layers] == ["bfloat16", "float32"]


def test_resnet50_is_swapped_through():
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=5)
    count = sum(type(layer) is Conv2D for layer in model.layers)
    made = []

    def same(layer):
        made.append(layer.name)
        new = Conv2D.from_config(layer.get_config())
        new.build(layer.get_build_config()["input_shape"])
        new.set_weights(layer.get_weights())
        return new

    new = swap(model, {Conv2D: same})
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    assert len(made) == count == 53
    np.testing.assert_allclose(new(x, training=False), model(x, training=False), rtol=1e-4, atol=1e-6)


def test_put_replaces_what_at_finds():
    block = Block()
    block.build((None, *SHAPE))
    count = len(block.weights)
    new = Conv2D(4, 1, use_bias=False)
    new.build((None, 6, 6, 4))
    put(block, "named.last", new)
    assert at(block, "named.last") is new and parts(block)["named.last"] is new
    assert len(block.weights) == count - 1


@pytest.mark.parametrize("replacements, word", [
    ({keras.layers.LSTM: doubled}, "No layer was chosen"), ({Dense: lambda layer: layer}, "new layer"),
    ({Dense: lambda layer: None}, "new layer"),
])  # fmt: skip
def test_what_cannot_be_swapped_is_told(replacements, word):
    with pytest.raises(ValueError, match=word):
        swap(sequential(), replacements)


def test_an_unbuilt_model_and_a_factory_that_repeats_itself_are_refused():
    with pytest.raises(ValueError, match="built"):
        swap(Subclassed(), {Dense: doubled})
    one = Dense(2)
    model = keras.Sequential([keras.Input((2,)), Dense(2), Dense(2)])
    with pytest.raises(ValueError, match="new layer each time"):
        swap(model, {Dense: lambda layer: one})
