"""Parametrizations of NN and CNN: their outputs by formulas, and laws in the width and in the scale of the outputs."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from kernel_gen import gram
from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings
from linearized.models import cnn, nn
from linearized.models.common import load
from linearized.models.parametrization import ROLES, TABLE, rule
from linearized.settings.config import parse
from linearized.settings.model_settings import PARAMETRIZATIONS
from linearized.solvers.training import sgd
from linearized.solvers.training.declared import gradient_scales
from linearized.tangents.empirical import empirical_ntk, layer_features

DOCS = Path(__file__).parents[3] / "docs" / "parametrization.md"
RATE = 0.2


def unit_rows(data):
    """Put the rows of a dataset on the sphere of radius √d, as images are."""
    for split in data.splits().values():
        split.x[:] *= np.sqrt(data.dim) / np.linalg.norm(split.x, axis=1, keepdims=True)
    return data


def trained(model, data, epochs=1, rate=RATE):
    """Train by full batches; the single step of one epoch has the rate 2·rate. Return outputs and features, before
    and after, on the test rows."""
    before = sgd.predict(model, data.test.x), layer_features(model, data.test.x)
    result = sgd.fit(model, data, learning_rate=rate, epochs=epochs, batch_size=len(data.train))
    assert not result.diverged
    return (*before, sgd.predict(model, data.test.x), layer_features(model, data.test.x))


def changes(module, data, settings, *, epochs=1, rate=RATE, seeds=3):
    """Return the root-mean-square change of the outputs and the relative change of the last layer's features."""
    outputs, features = [], []
    for seed in range(seeds):
        model = module.build(settings(seed=seed), data)
        f0, h0, f1, h1 = trained(model, data, epochs, rate)
        outputs.append(np.square(f1 - f0).mean())
        features.append(np.square(h1 - h0).sum() / np.square(h0).sum())
    return np.sqrt(np.mean(outputs)), np.sqrt(np.mean(features))


def slope(values, widths):
    """Return the exponent p of values ~ widths^p."""
    return np.polyfit(np.log(widths), np.log(values), 1)[0]


@pytest.mark.parametrize("name, alpha", list(itertools.product(PARAMETRIZATIONS[1:], (None, 3.0))))
def test_nn_is_the_network_of_the_table(tiny, config, name, alpha):
    data = tiny()
    model = nn.build(config(num_layers=2, parametrization=name, output_scale=alpha), data, ridge=0.3)
    weights = [array.astype(np.float64) for array in model.get_weights()]
    assert [array.shape for array in weights] == [(16, 8), (8, 8), (8, 3)]  # no biases
    h, penalty = data.test.x.astype(np.float64), 0.0
    rates = []
    for role, w in zip(ROLES, weights, strict=True):
        entry = rule(name, role, *w.shape)
        h = entry.multiplier * h @ w
        rates.append(entry.rate)
        if role != "readout":
            h, penalty = np.maximum(h, 0), penalty + 0.3 / entry.rate * np.square(w).sum()
    expected = h * (alpha or 1)
    np.testing.assert_allclose(model.predict(data.test.x, verbose=0), expected, rtol=1e-5, atol=1e-5)
    assert float(sum(model.losses)) == pytest.approx(penalty, rel=1e-5)
    np.testing.assert_allclose(gradient_scales(model), np.array(rates) / (alpha or 1) ** 2)


@pytest.mark.parametrize("name", PARAMETRIZATIONS[1:])
def test_initial_weights_have_the_variance_of_the_table(tiny, config, name):
    made = config(num_units=300, num_layers=2, parametrization=name)
    networks = (nn.build(made, tiny(side=8)), cnn.build(config(num_units=40, parametrization=name), tiny(side=8)))
    for model in networks:
        kernels = model.get_weights()
        for place, w in enumerate(kernels):
            role = "input" if place == 0 else "readout" if place == len(kernels) - 1 else "hidden"
            stddev = rule(name, role, int(np.prod(w.shape[:-1])), w.shape[-1]).stddev
            assert abs(w.std() - stddev) < 5 * stddev / np.sqrt(2 * w.size)


def test_one_step_of_ntk_is_that_of_the_kernel_of_infinite_width(tiny, config):
    """f moves by -2·rate·(2/n) Θ (f - y) with the kernel of infinite width; the error falls as 1/√N."""
    data = unit_rows(tiny(n=24))
    x, y = data.train.x, data.targets(data.train)
    theta = gram("NTK", data.test.x, x, num_layers=1)
    widths, errors = (64, 256, 1024), []
    for width in widths:
        found = []
        for seed in range(4):
            model = nn.build(config(num_units=width, parametrization="ntk", seed=seed), data)
            start = sgd.predict(model, x)
            f0, _, f1, _ = trained(model, data)
            expected = -2 * RATE * (2 / len(x)) * theta @ (start - y)
            found.append(np.square(f1 - f0 - expected).sum() / np.square(expected).sum())
        errors.append(np.sqrt(np.mean(found)))
    assert errors[-1] < 0.15
    assert -0.75 < slope(errors, widths) < -0.25


LAWS = {  # exponents in the width of the changes of outputs and of features after one step
    "ntk": (0.0, -0.5), "mup": (0.0, 0.0), "mean_field": (0.0, 0.0), "standard": (1.0, -0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWS)
def test_nn_changes_by_its_law_in_the_width(tiny, config, name):
    data, widths = unit_rows(tiny(n=24)), (64, 256, 1024)
    rate = 1e-3 if name == "standard" else RATE
    found = [changes(nn, data, lambda seed, n=width: config(num_units=n, parametrization=name, seed=seed), rate=rate)
             for width in widths]  # fmt: skip
    outputs, features = (slope(values, widths) for values in zip(*found, strict=True))
    assert abs(outputs - LAWS[name][0]) < 0.2
    assert abs(features - LAWS[name][1]) < 0.2


@pytest.mark.parametrize("name", ["ntk", "mup"])
@pytest.mark.parametrize("module, layers, widths", [
    pytest.param(nn, {"num_layers": 3}, (64, 256, 1024), id="NN"),
    pytest.param(cnn, {}, (24, 96, 384), id="CNN", marks=pytest.mark.slow),
])  # fmt: skip
def test_deep_networks_change_by_their_law_in_the_width(tiny, config, module, layers, widths, name):
    """Outputs change alike at every width; features less in ntk, and as much in mup."""
    data = unit_rows(tiny(n=24, side=8))
    found = [changes(module, data, lambda seed, n=width: config(num_units=n, parametrization=name, seed=seed, **layers))
             for width in widths]  # fmt: skip
    outputs, features = (slope(values, widths) for values in zip(*found, strict=True))
    assert abs(outputs) < 0.25
    assert abs(features - LAWS[name][1]) < 0.25


def test_outputs_of_mean_field_vanish_with_the_width_in_deep_networks(tiny, config):
    """Every 1/N of a deeper layer averages weights of mean 0, which leaves 1/√N."""
    data, widths = unit_rows(tiny()), (64, 256, 1024)
    for layers in (1, 2, 3):
        made = {"num_layers": layers, "parametrization": "mean_field"}
        found = [
            [sgd.predict(nn.build(config(num_units=width, seed=seed, **made), data), data.test.x) for seed in range(4)]
            for width in widths
        ]
        assert abs(slope(np.sqrt(np.square(found).mean(axis=(1, 2, 3))), widths) + layers / 2) < 0.3


def test_mup_is_ntk_with_outputs_of_scale_one_over_the_root_of_the_width(tiny, config):
    data = unit_rows(tiny())
    rich = nn.build(config(num_units=64, num_layers=2, parametrization="mup", output_scale=1.0), data, ridge=64e-3)
    lazy = nn.build(config(num_units=64, num_layers=2, parametrization="ntk", output_scale=1 / 8), data, ridge=1e-3)
    one, two = trained(rich, data, 20), trained(lazy, data, 20)
    np.testing.assert_allclose(one[2], two[2], rtol=1e-3, atol=1e-4)
    assert np.abs(one[2]).max() > 0.1


@pytest.mark.parametrize("module, more, name", [
    (nn, {"num_units": 128}, "mup"), (nn, {"num_units": 128, "num_layers": 2}, "standard"),
    (cnn, {"num_units": 16}, "mup"),
])  # fmt: skip
def test_features_change_as_one_over_the_scale_of_the_outputs(tiny, config, module, more, name):
    """With loss / α² the outputs move at the same rate for every α, and start at 0."""
    data, scales = unit_rows(tiny(n=24, side=8)), (4.0, 16.0, 64.0)
    rate = 2e-3 if name == "standard" else RATE
    for alpha in (0.5, 64.0):
        model = module.build(config(parametrization=name, output_scale=alpha, **more), data)
        assert np.abs(sgd.predict(model, data.test.x)).max() < 1e-4 * alpha
        assert np.abs(layer_features(model, data.test.x)).max() > 1e-3
    more = {"parametrization": name, **more}
    found = [changes(module, data, lambda seed, a=alpha: config(output_scale=a, seed=seed, **more),
                     epochs=5, rate=rate, seeds=2) for alpha in scales]  # fmt: skip
    outputs, features = zip(*found, strict=True)
    np.testing.assert_allclose(outputs, outputs[-1], rtol=0.1)
    assert abs(slope(features, scales) + 1) < 0.15


def test_the_empirical_ntk_of_ntk_tends_to_the_kernel_of_infinite_width(tiny, config):
    data = unit_rows(tiny())
    theta = gram("NTK", data.test.x, num_layers=1)
    model = nn.build(config(num_units=4096, parametrization="ntk"), data)
    np.testing.assert_allclose(empirical_ntk(model, data.test.x, outputs=0), theta, atol=0.1 * theta.max())


def test_the_documented_table_is_the_one_in_use():
    values = {"1": lambda n, m: 1, "1/n": lambda n, m: 1 / n, "1/√n": lambda n, m: n**-0.5, "m": lambda n, m: m,
              "n": lambda n, m: n, "n·m": lambda n, m: n * m}  # fmt: skip
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\S+) \| (\S+) \| (\S+) \|$", DOCS.read_text("utf-8"), re.MULTILINE)[1:]
    assert [row[:2] for row in rows] == list(itertools.product(TABLE, ROLES))
    assert tuple(TABLE) == PARAMETRIZATIONS[1:]
    for name, role, *columns in rows:
        entry = rule(name, role, 6, 10)
        expected = [values[column](6, 10) for column in columns]
        np.testing.assert_allclose([entry.stddev**2, entry.multiplier, entry.rate], expected)


def test_flags_are_refused_where_they_change_nothing():
    assert TrainSettings(model="CNN", dataset="PATCHES", parametrization="mup").parametrization == "mup"
    for model in ("RF", "NT", "SNNK_MLP"):
        with pytest.raises(UserError, match="--parametrization is read by --model=NN, CNN"):
            TrainSettings(model=model, parametrization="ntk")
    with pytest.raises(UserError, match="with --solver=auto or sgd"):
        TrainSettings(model="NN", solver="adam", parametrization="ntk")
    with pytest.raises(UserError, match="--output_scale is read by --model=NN with --parametrization=standard or ntk"):
        TrainSettings(model="NN", output_scale=2.0)  # the published layout has no such scale
    with pytest.raises(UserError, match=r"even --num_units\. Received: --num_units=9"):
        TrainSettings(model="NN", num_units=9, parametrization="mup", output_scale=1.0)
    with pytest.raises(UserError, match="at least 1e-06"):
        parse(TrainSettings, ["--model=NN", "--parametrization=mup", "--output_scale=0"])


def test_keys_of_published_runs_stay():
    published = TrainSettings(model="NN", num_units=64)
    assert "parametrization" not in " ".join(published.flags())
    assert published.key() == TrainSettings(model="NN", num_units=64, parametrization="published").key() == "11182de5"
    keys = {TrainSettings(model="NN", num_units=64, parametrization=name, output_scale=alpha).key()
            for name in PARAMETRIZATIONS[1:] for alpha in (None, 1.0, 2.0)}  # fmt: skip
    assert len(keys) == 12


def test_any_activation_is_computed_and_saved(tiny, config, tmp_path):
    data = tiny()
    model = nn.build(config(activation="leaky_relu(0.1)", parametrization="ntk"), data)
    w, a = model.get_weights()
    h = data.test.x @ w / 4
    np.testing.assert_allclose(
        model.predict(data.test.x, verbose=0), np.where(h > 0, h, 0.1 * h) @ a / 8**0.5, atol=1e-5
    )
    model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(data.test.x, verbose=0), model.predict(data.test.x, verbose=0))
    assert gradient_scales(again) == gradient_scales(model)
