"""The NN with any activation: its outputs by the formula, what is saved, and that only the NN takes one."""

import keras
import numpy as np
import pytest

from linearized.base.activations import ACTIVATIONS, parse
from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings as Config
from linearized.layers import MeanFieldDense


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_hidden_layer_is_its_activation_of_the_product(name):
    text = {"polynomial": "polynomial(0,1,0.5)"}.get(name, name)
    layer = MeanFieldDense(5, "deep", seed=3, activation=text)
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    found = keras.ops.convert_to_numpy(layer(x))
    product = x @ keras.ops.convert_to_numpy(layer.kernel) + keras.ops.convert_to_numpy(layer.bias)
    np.testing.assert_allclose(found, parse(text)(product, np) / 5, rtol=1e-4, atol=1e-6)


def test_the_activation_is_saved_with_the_layer():
    layer = MeanFieldDense(5, activation="leaky_relu(0.1)")
    again = MeanFieldDense.from_config(layer.get_config())
    assert again.activation == layer.activation == parse("leaky_relu(alpha=0.1)")
    with pytest.raises(UserError, match="Unknown activation"):
        MeanFieldDense(5, activation="gelo")


@keras.saving.register_keras_serializable("tests")
def cube(x):
    return x * x * x


def test_a_function_is_an_activation_and_saved_if_keras_knows_it(tmp_path):
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    ours, named = (MeanFieldDense(5, seed=3, activation=given) for given in (cube, "monomial(3)"))
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(layer(x)) for layer in (ours, named)), rtol=1e-5)
    model = keras.Sequential([keras.Input((4,)), ours])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(ValueError, match="a name or a function"):
        MeanFieldDense(5, activation=3)


def test_settings_take_it_for_the_nn_alone():
    assert Config(model="NN", activation="GELU").activation == "gelu"
    assert Config(model="NN", activation="gelu").key() != Config(model="NN").key()
    with pytest.raises(UserError, match="--activation is read by --model=NN"):
        Config(model="RF", activation="gelu")
