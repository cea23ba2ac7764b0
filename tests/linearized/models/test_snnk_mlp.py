"""SNNK_MLP: every flag changes what it should, what goes with nothing is refused, and the trained model bundles."""

import keras
import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings as Config
from linearized.experiments.train import hidden_layers, run
from linearized.layers.snnk.bundle import bundle
from linearized.layers.snnk.layer import SNNK

SMALL = {"model": "SNNK_MLP", "num_units": 32, "num_train": 200, "num_test": 100, "max_cg_iters": 2,
         "snnk_features": 64, "solver": "adam", "reg_index": "5"}  # fmt: skip


def losses(*variants, **base):
    return [run(Config(**{**SMALL, **base, **variant})).chosen["test_loss"] for variant in variants]


@pytest.mark.parametrize("base, variants", [
    ({}, [{"snnk_features": 32}, {"snnk_trained": "weights"}, {"snnk_orthogonal": False}, {"snnk_normalize": 1.0},
          {"snnk_lengths": "fixed"}, {"snnk_constant": -5.0},
          {"snnk_activation": "gelu", "snnk_normalize": 1.0}, {"num_layers": 2}, {"drop_rate": 0.5}, {"weight_seed": 1},
          {"seed": 1}, {"reg_index": "19"}, {"num_units": 16}]),
    ({"snnk_activation": "gelu", "snnk_normalize": 1.0},
     [{"snnk_expansion": "fourier"}, {"snnk_reach": 1.5}, {"snnk_degree": 3}]),
    ({"snnk_activation": "sin", "snnk_normalize": 1.0},
     [{"snnk_kind": "symmetric"}, {"snnk_shift": 0.01}, {"snnk_scale": 0.8}]),
], ids=["relu", "gelu", "sin"])  # fmt: skip
def test_every_flag_changes_the_result(directories, base, variants):
    first, *others = losses({}, *variants, **base)
    assert np.isfinite([first, *others]).all()
    assert all(abs(loss - first) > 1e-6 for loss in others), dict(zip(map(str, variants), others, strict=True))


def test_flags_reach_the_layer(directories):
    config = Config(**SMALL, snnk_activation="tanh", snnk_degree=5, snnk_reach=2.0, snnk_orthogonal=False,
                    snnk_normalize=0.5, num_layers=3, weight_seed=7)  # fmt: skip
    result = run(config)
    model = keras.saving.load_model(result.folder / "model.keras")
    layers = [layer for layer in model.layers if isinstance(layer, SNNK)]
    assert hidden_layers(config) == len(layers) == result.record["model"]["hidden_layers"] == 3
    for number, layer in enumerate(layers, start=1):
        features = layer.features
        assert (features.degree, features.reach, features.orthogonal, features.normalize) == (5, 2.0, False, 0.5)
        assert features.seed == [7, number] and features.num_features == 64


def test_a_trained_model_is_bundled(directories):
    result = run(Config(**SMALL, num_layers=2))
    model = keras.saving.load_model(result.folder / "model.keras", compile=False)
    x = np.random.default_rng(0).standard_normal((20, 64)).astype(np.float32)
    before, after = model.predict(x, verbose=0), bundle(model).predict(x, verbose=0)
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()


@pytest.mark.parametrize("settings, word", [
    ({"model": "NN", "snnk_features": 8}, "SNNK_MLP"), ({"snnk_degree": 3}, "snnk_degree"),
    ({"snnk_expansion": "fourier"}, "snnk_expansion"), ({"snnk_shift": 0.1}, "snnk_shift"),
    ({"snnk_activation": "sin", "snnk_kind": "symmetric", "snnk_scale": 2.0}, "snnk_scale"),
    ({"snnk_activation": "gelu", "snnk_constant": 0.1}, "snnk_constant"),
    ({"snnk_orthogonal": False, "snnk_lengths": "fixed"}, "snnk_lengths"),
    ({"snnk_activation": "swish"}, "gelu"), ({"snnk_features": 1}, "at least 2"),
])  # fmt: skip
def test_what_does_nothing_or_is_unknown_is_refused(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**{**SMALL, **({"snnk_features": 256} if "model" in settings else {}), **settings})


def test_too_few_features_for_the_expansion_are_told(directories):
    with pytest.raises(UserError, match="too small"):
        run(Config(**{**SMALL, "snnk_features": 4}, snnk_activation="tanh"))
