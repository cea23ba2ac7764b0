"""The kernel of training: against row gradients times rates, and against what one step of SGD does."""

import itertools

import keras
import numpy as np
import pytest

from linearized.models import cnn, nn
from linearized.settings.model_settings import PARAMETRIZATIONS
from linearized.solvers.training import sgd
from linearized.solvers.training.declared import gradient_scales
from linearized.tangents.empirical import empirical_ntk
from linearized.tangents.training_kernel import training_kernels

MODELS = [
    pytest.param(
        module, name, id=f"{module.__name__[-3:]}-{name}",
        marks=pytest.mark.slow if module is cnn and name not in ("published", "mup") else (),
    )
    for module, name in itertools.product((nn, cnn), PARAMETRIZATIONS)
]  # fmt: skip


def weighted_jacobian(model, x):
    """Rows √r ∂f_l(x)/∂w, (n, k, p), by one backward pass per row and output."""
    import tensorflow as tf

    rows, values = [], [variable.value for variable in model.trainable_variables]
    for row in x:
        with tf.GradientTape(persistent=True) as tape:
            outputs = tf.unstack(model(row[None], training=False)[0])
        parts = [np.stack(columns) for columns in zip(*(tape.gradient(one, values) for one in outputs), strict=True)]
        scaled = [np.sqrt(scale) * np.reshape(part, (len(outputs), -1))
                  for part, scale in zip(parts, gradient_scales(model), strict=True)]  # fmt: skip
        rows.append(np.concatenate(scaled, axis=1))
    return np.stack(rows).astype(np.float64)


@pytest.mark.parametrize("module, name", MODELS)
def test_it_is_the_product_of_row_gradients_with_the_rates(tiny, config, module, name):
    data = tiny()
    model = module.build(config(num_layers=2, parametrization=name), data)
    x, others = data.train.x[:4], data.test.x[:3]
    square, cross = training_kernels(model, x, others)
    one, two = weighted_jacobian(model, x), weighted_jacobian(model, others)
    for found, left in ((square, one), (cross, two)):
        expected = np.einsum("ikp,jkp->ij", left, one) / data.num_outputs
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_a_small_step_of_sgd_moves_the_outputs_by_it(tiny, config, name):
    data, rate = tiny("regression"), 1e-5
    model = nn.build(config(parametrization=name), data)
    x, y = data.train.x, data.targets(data.train)
    square, cross = training_kernels(model, x, data.test.x)
    before = {split: sgd.predict(model, rows.x) for split, rows in data.splits().items()}
    sgd.fit(model, data, learning_rate=rate, epochs=1, batch_size=len(x))  # one step at twice the rate
    moved = -2 * rate * 2 / len(x) * np.stack([*square, *cross]) @ (before["train"] - y)
    found = np.concatenate([sgd.predict(model, rows.x) - before[split] for split, rows in data.splits().items()])
    np.testing.assert_allclose(found, moved, rtol=0.02, atol=0.02 * np.abs(moved).max())


def test_no_layer_of_the_published_networks_needs_row_by_row_differentiation(tiny, config):
    data = tiny()
    for model in (nn.build(config(num_layers=3), data), cnn.build(config(), data)):
        paths = empirical_ntk(model, data.test.x, explain=True)
        assert set(paths["path"]) <= {"factors", "gradients"}
        before = keras.ops.convert_to_numpy(model(data.test.x))
        np.testing.assert_array_equal(sgd.predict(model, data.test.x), before)  # the taps are gone
