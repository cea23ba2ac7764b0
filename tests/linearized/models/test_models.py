"""Each model's outputs and penalty against loops in NumPy, its parameters, and what it refuses."""

import itertools

import keras
import numpy as np
import pytest
from scipy.signal import correlate2d

from linearized.base.errors import UserError
from linearized.base.weights import first_layer, tangent_layers
from linearized.experiments.train import TrainSettings
from linearized.models import cnn, nn, nt, rf
from linearized.models.common import load


def randomised(model, seed=1, scale=0.3):
    """Gives every trained variable random values, so that no part of the model is silent."""
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(scale * random.standard_normal(variable.shape))
    return model


def weights_of(model, layer):
    return [array.astype(np.float64) for array in model.get_layer(layer).get_weights()]


def test_rf_is_a_linear_readout_of_relu_features(tiny, config):
    data = tiny()
    model = randomised(rf.build(config(), data, ridge=0.3))
    w = first_layer(16, 8).astype(float)
    parameters = rf.get_parameters(model).astype(float)
    for row, output in zip(data.test.x, model.predict(data.test.x, verbose=0), strict=True):
        features = [max(0.0, sum(row[j] * w[j, i] for j in range(16))) for i in range(8)]
        np.testing.assert_allclose(output, np.array([*features, 1.0]) @ parameters, rtol=2e-5, atol=1e-5)
    assert float(sum(model.losses)) == pytest.approx(0.3 * (parameters[:-1] ** 2).sum(), rel=1e-5)


@pytest.mark.parametrize("directions", ["shared", "per_class"])
@pytest.mark.parametrize("task", ["classes", "binary"])
def test_nt_is_the_sum_over_units_that_the_paper_writes(tiny, config, directions, task):
    data = tiny(task)
    model = randomised(nt.build(config(directions=directions), data, ridge=0.3))
    k = data.num_outputs
    w, start = tangent_layers(16, 8, k)
    flat = nt.get_parameters(model)[:, 0]
    assert flat.shape == (8 * k + k + 8 * 16 * (1 if directions == "shared" else k),)
    a, c, g = flat[: 8 * k].reshape(8, k), flat[8 * k : 9 * k], flat[9 * k :].reshape(-1, 8, 16)
    for row, output in zip(data.test.x, model.predict(data.test.x, verbose=0), strict=True):
        expected = c.astype(np.float64)
        for i, j in itertools.product(range(8), range(k)):
            before = float(row @ w[:, i])
            of_class = g[0] if directions == "shared" else g[j]
            expected[j] += max(before, 0) * a[i, j] + start[j, i] * (before > 0) * float(of_class[i] @ row)
        np.testing.assert_allclose(output, expected, rtol=2e-5, atol=2e-5)
    assert float(sum(model.losses)) == pytest.approx(0.3 * float((g**2).sum()), rel=1e-5)


def test_nt_gate_is_one_half_on_the_edge(tiny, config):
    data = tiny("binary")
    model = randomised(nt.build(config(), data))
    model.get_layer("tangent").kernel.assign(np.zeros((16, 8), np.float32))
    _, start = tangent_layers(16, 8, 1)
    layer = model.get_layer("tangent")
    g, c = keras.ops.convert_to_numpy(layer.tangent), keras.ops.convert_to_numpy(layer.bias)
    expected = c + 0.5 * data.test.x @ (start[0] @ g)[:, None]
    np.testing.assert_allclose(model.predict(data.test.x, verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [rf, nt])
def test_parameters_go_in_as_they_come_out(tiny, config, module):
    data = tiny()
    model, other = randomised(module.build(config(), data)), module.build(config(), data)
    values = module.get_parameters(model)
    module.set_parameters(other, values)
    np.testing.assert_array_equal(other.predict(data.test.x, verbose=0), model.predict(data.test.x, verbose=0))
    module.set_parameters(other, np.zeros(values.size))
    assert np.all(other.predict(data.test.x, verbose=0) == 0)
    with pytest.raises(ValueError, match="Expected"):
        module.set_parameters(model, values.ravel()[1:])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_nn_is_the_mean_field_network(tiny, config, layers):
    data = tiny()
    model = nn.build(config(num_layers=layers), data, ridge=0.3)
    h = data.test.x.astype(np.float64)
    expected_penalty = 0.0
    for layer in range(layers):
        w, b = weights_of(model, f"hidden_{layer + 1}")
        assert np.all(b == np.float32(0.01))
        h = np.maximum(h @ w + b, 0)
        h, share = (h, 1.0) if layer == 0 else (h / 8, 1 / np.sqrt(8))
        expected_penalty += 0.3 * share * (w**2).sum()
    a, c = weights_of(model, "readout")
    assert np.all(c == 0)
    np.testing.assert_allclose(model.predict(data.test.x, verbose=0), h @ a / 8 + c, rtol=1e-5, atol=1e-7)
    assert float(sum(model.losses)) == pytest.approx(expected_penalty, rel=1e-5)


def test_nn_weights_have_the_published_spread(tiny, config):
    model = nn.build(config(num_units=300, num_layers=2), tiny(side=8), ridge=0.0)
    for name, stddev, in (("hidden_1", 1 / 8), ("hidden_2", 1.0), ("readout", 1.0)):  # fmt: skip
        kernel = weights_of(model, name)[0]
        five_errors = 5 * stddev / np.sqrt(2 * kernel.size)
        assert abs(kernel.std() - stddev) < five_errors
        assert abs(kernel.mean()) < 5 * stddev / np.sqrt(kernel.size)
    assert model.losses == []


def test_layers_draw_from_streams_of_their_own(tiny, config):
    model = nn.build(config(num_units=16, num_layers=2), tiny(side=4))
    first, second = weights_of(model, "hidden_1")[0], weights_of(model, "hidden_2")[0]
    assert first.shape == second.shape
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.4
    again, other = (nn.build(config(num_units=16, seed=seed), tiny(side=4)) for seed in (0, 1))
    np.testing.assert_array_equal(weights_of(again, "hidden_1")[0], first)
    assert np.any(weights_of(other, "hidden_1")[0] != first)


def pooled(image):
    """Averages of 2x2 blocks; a block over the edge averages what there is of it."""
    height, width = image.shape
    return np.array([[image[i : i + 2, j : j + 2].mean() for j in range(0, width, 2)] for i in range(0, height, 2)])


@pytest.mark.parametrize(("depth", "side", "channels"), [(5, 8, 3), (7, 5, 1), (10, 8, 1)])
def test_cnn_is_convolutions_and_pools(tiny, config, depth, side, channels):
    data = tiny(side=side, channels=channels)
    model = cnn.build(config(depth=depth, num_units=4), data, ridge=0.3)
    x = data.test.x[0].reshape(side, side, channels).astype(np.float64)
    maps = [x[:, :, channel] for channel in range(channels)]
    layer, penalty = 0, 0.0
    for convolutions in {5: (2, 1, 1, 0, 0), 7: (2, 2, 2, 0, 0), 10: (3, 3, 3, 0, 0)}[depth]:
        for _ in range(convolutions):
            layer += 1
            kernel, bias = weights_of(model, f"conv_{layer}")
            penalty += 0.3 * (kernel**2).sum()
            assert np.all(bias == np.float32(0.01))
            maps = [
                np.maximum(sum(correlate2d(m, kernel[:, :, i, o], "same") for i, m in enumerate(maps)) + bias[o], 0)
                for o in range(4)
            ]
        maps = [pooled(m) for m in maps]
    weights, bias = weights_of(model, "readout")
    expected = np.stack(maps, axis=-1).ravel() @ weights + bias
    np.testing.assert_allclose(model.predict(data.test.x[:1], verbose=0)[0], expected, rtol=1e-4, atol=1e-6)
    assert float(sum(model.losses)) == pytest.approx(penalty, rel=1e-5)


def test_cnn_weights_have_the_published_spread(tiny, config):
    model = cnn.build(config(num_units=64), tiny(side=32, channels=3, n=2))
    for name, stddev in (("conv_2", np.sqrt(2 / (9 * 64))), ("readout", 1 / np.sqrt(64))):
        kernel = weights_of(model, name)[0]
        assert abs(kernel.std() - stddev) < 5 * stddev / np.sqrt(2 * kernel.size)


def test_what_a_model_does_not_have_is_refused(tiny, config):
    with pytest.raises(UserError, match="drop_rate"):
        TrainSettings(model="RF", drop_rate=0.5)
    with pytest.raises(UserError, match="num_layers"):
        TrainSettings(model="NT", num_layers=2)
    with pytest.raises(UserError, match="images"):
        cnn.build(config(), tiny(images=False))
    with pytest.raises(UserError, match="depth"):
        cnn.build(config(depth=6), tiny())
    with pytest.raises(UserError, match="negative"):
        nn.build(config(), tiny(), ridge=-1.0)


def test_dropout_acts_in_training_alone(tiny, config):
    data = tiny()
    model, plain = nn.build(config(drop_rate=0.5, num_layers=2), data), nn.build(config(num_layers=2), data)
    np.testing.assert_array_equal(model(data.test.x, training=False), plain(data.test.x, training=False))
    assert np.any(np.asarray(model(data.test.x, training=True)) != np.asarray(plain(data.test.x, training=True)))


def test_a_saved_model_is_read_back(tiny, config, tmp_path):
    data = tiny()
    model = randomised(nn.build(config(num_layers=2, drop_rate=0.1), data, ridge=0.1))
    model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(data.test.x, verbose=0), model.predict(data.test.x, verbose=0))
    assert float(sum(again.losses)) == pytest.approx(float(sum(model.losses)))
