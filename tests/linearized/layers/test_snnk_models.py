"""SNNKs in models: bundling, adapters, uptraining and poolers, on small Transformers and on keras_hub's."""

import importlib.util
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from linearized import data
from linearized.layers.snnk import uptrain as snnk_uptrain
from linearized.layers.snnk.adapter import Adapted, SNNKAdapter, adapted
from linearized.layers.snnk.bundle import bundle
from linearized.layers.snnk.layer import SNNK
from linearized.layers.snnk.universal import UniversalFeatures
from linearized.layers.snnk.uptrain import errors_of, mlp_blocks, replace_pooler, uptrain
from linearized.layers.surgery.swap import swap
from linearized.layers.surgery.swapped import walk
from linearized.models.transformers import bert, vit

Dense = keras.layers.Dense


def chain(*layers, dim=10):
    return keras.Sequential([keras.Input((dim,)), *layers])


def rows(n=20, dim=10, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def outputs(model, x, part=None):
    """At inference; of several, the one of that name."""
    found = model(x, training=False)
    return keras.ops.convert_to_numpy(found if part is None else found[part])


def same(model, other, x, tolerance=1e-5):
    one, two = outputs(model, x), outputs(other, x)
    assert np.abs(one - two).max() < tolerance * max(np.abs(one).max(), 1.0)


def randomise(model, seed=0):
    """As after training: biases are not 0."""
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * random.standard_normal(variable.shape))
    return model


def through(hidden):
    """A functional model in which two layers take the SNNK's output, and it is an output too, if asked for."""
    inputs = keras.Input((10,))
    first = SNNK(40, 16)(inputs)
    one, other = Dense(4)(first), Dense(4)(first)
    return keras.Model(inputs, [one + other, first] if hidden else one + other)


UF = "UniversalFeatures"
CHAINS = {
    "snnk dense": ([SNNK(200, 16), Dense(5)], [UF, "Dense"], 10 * 16 + 16 + 16 * 5 + 5),
    "dense snnk dense": (
        [Dense(30), SNNK(200, 16), Dense(5)], ["Identity", UF, "Dense"], 10 * 16 + 16 + 16 * 5 + 5),
    "snnk snnk": ([SNNK(200, 16), SNNK(7, 16, seed=1)], [UF, "SNNK"], 2 * 16 + 10 * 16 + 16 * 16 + 112),
    "three with dropout": (
        [SNNK(200, 16), keras.layers.Dropout(0.5), SNNK(200, 12, seed=1), Dense(50, use_bias=False),
         SNNK(9, 8, seed=2)],
        [UF, "Identity", UF, "Identity", "SNNK"], 176 + 12 * 17 + 8 * 13 + 8 * 9),
    "powers": ([Dense(30), SNNK(90, 16, "tanh", degree=3), Dense(5)], ["Identity", UF, "Dense"], None),
    "frequencies": ([Dense(6), SNNK(90, 16, "sin", normalize=1.0), Dense(5)], ["Dense", UF, "Dense"], None),
    "tower": ([SNNK(90, 16, trained="weights"), Dense(5)], [UF, "Dense"], 176 + 85),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_bundle_is_smaller_and_equal(name, tmp_path):
    layers, kinds, count = CHAINS[name]
    model = randomise(chain(*(type(layer).from_config(layer.get_config()) for layer in layers)))
    new = bundle(model)
    assert [type(layer).__name__ for layer in new.layers] == kinds
    assert new.count_params() < model.count_params()
    assert count is None or new.count_params() == count
    same(model, new, rows())
    new.save(tmp_path / "bundle.keras")
    again = keras.saving.load_model(tmp_path / "bundle.keras")
    np.testing.assert_array_equal(outputs(again, rows()), outputs(new, rows()))


@pytest.mark.parametrize("model", [
    chain(Dense(30, activation="relu"), Dense(5)), chain(SNNK(40, 16), keras.layers.LayerNormalization(), Dense(5)),
    chain(SNNK(4, 16), Dense(50)), through(False), through(True),
], ids=["no SNNK", "norm between", "grows", "two readers", "an output too"])  # fmt: skip
def test_what_would_change_or_grow_is_not_folded(model):
    with pytest.raises(ValueError, match="no SNNK"):
        bundle(model)


@pytest.mark.parametrize("options", [
    {}, {"bottleneck": 0}, {"norm_before": False, "activation": "sin", "normalize": 1.0},
], ids=str)  # fmt: skip
def test_adapters_start_as_the_identity_and_learn(options):
    adapter = SNNKAdapter(num_features=8, **options)
    x = rows()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(adapter(x)), x)
    model = chain(adapter)
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=True)
    goal = np.abs(x)
    before = model.evaluate(x, goal, verbose=0)
    model.fit(x, goal, epochs=30, verbose=0)
    assert model.evaluate(x, goal, verbose=0) < 0.9 * before
    near = SNNKAdapter(num_features=8, start=1e-3, **options)
    change = np.abs(keras.ops.convert_to_numpy(near(x)) - x).max()
    assert 0 < change < 0.05


def test_norms_of_an_adapter_stand_where_they_are_asked_for():
    x = rows()
    after = SNNKAdapter(num_features=8, norm_after=True)
    sums = keras.ops.convert_to_numpy(after(x))
    np.testing.assert_allclose(sums.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(sums.var(axis=1), 1, atol=0.01)
    before, plain = (SNNKAdapter(num_features=8, start=1.0, norm_before=norm) for norm in (True, False))
    np.testing.assert_allclose(before(3 * x + 1) - (3 * x + 1), before(x) - x, rtol=1e-2, atol=2e-3)
    assert np.abs((plain(3 * x + 1) - (3 * x + 1)) - (plain(x) - x)).max() > 0.1


def test_norms_of_an_adapter_add_the_published_constant_to_the_variance():
    """At a variance of 1e-5, Keras' own constant of 1e-3 would give outputs seven times as small."""
    x = 0.003 * rows()
    found = SNNKAdapter(num_features=8, norm_after=True)(x)  # the identity at the start, and the norm after it
    expected = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def small(kind):
    """An untrained Transformer and six inputs; `typical` has more of them."""
    model = bert if kind == "bert" else vit
    size = (50, 9, 3) if kind == "bert" else ((8, 8, 3), 3)
    return model(*size, dim=16, width=40, layers=3, heads=2), typical(kind, 6, 0)


def typical(kind, count=400, seed=1):
    random = np.random.default_rng(seed)
    if kind == "bert":
        return random.integers(0, 50, (count, 9))
    return random.standard_normal((count, 8, 8, 3)).astype(np.float32)


def test_padding_does_not_change_what_bert_says():
    model = bert(50, 9, 3, dim=16, width=40, layers=2, heads=2)
    x = np.array([[2, 7, 8, 3, 0, 0, 0, 0, 0]])
    positions = model.get_layer("positions")
    before = outputs(model, x)
    table = keras.ops.convert_to_numpy(positions.table)
    table[4:] += 1.0  # the places of the padding
    positions.table.assign(table)
    np.testing.assert_allclose(outputs(model, x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_uptraining_replaces_the_last_blocks_by_layers_of_their_own(kind, tmp_path):
    model, x = small(kind)
    assert [block.expand.name for block in mlp_blocks(model)] == [f"block_{i}_expand" for i in range(3)]
    new = uptrain(model, 2, 128, inputs=typical(kind))
    layers = [layer for layer in walk(new) if isinstance(layer, SNNK)]
    assert [layer.name for layer in layers] == ["block_1_expand", "block_2_expand"]
    one, other = layers
    assert not {id(variable) for variable in one.variables} & {id(variable) for variable in other.variables}
    assert np.abs(one.features.projection - other.features.projection).max() > 0.1
    before = outputs(model, x)
    wrong = np.linalg.norm(outputs(new, x) - before) / np.linalg.norm(before)
    errors = errors_of(new)
    assert list(errors) == ["block_1_expand", "block_2_expand"] and max(errors.values()) < 0.3
    blind = uptrain(model, 2, 16, fit=False)
    for layer in walk(blind):
        if isinstance(layer, SNNK):
            layer.psi.assign(keras.ops.zeros_like(layer.psi))
    lost = np.linalg.norm(outputs(blind, x) - before) / np.linalg.norm(before)
    assert wrong < 0.5 * lost
    kept = keras.ops.convert_to_numpy(one.psi)
    other.psi.assign(other.psi + 1.0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(one.psi), kept)
    bundled = uptrain(model, 2, 16, bundled=True)
    same(uptrain(model, 2, 16), bundled, x)
    assert bundled.count_params() < model.count_params()
    bundled.save(tmp_path / "new.keras")
    same(bundled, keras.saving.load_model(tmp_path / "new.keras"), x, 1e-7)
    new.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(True), jit_compile=True)
    assert np.isfinite(new.fit(x, np.arange(6) % 3, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_the_pooler_becomes_an_snnk_plain_and_bundled(kind):
    model, x = small(kind)
    plain, bundled = (replace_pooler(model, 12, bundled=bundled) for bundled in (False, True))
    assert isinstance(plain.get_layer("pooler"), SNNK)
    assert isinstance(bundled.get_layer("pooler"), UniversalFeatures)
    assert bundled.count_params() < plain.count_params()
    same(plain, bundled, x)
    before = outputs(model, x)
    assert errors_of(plain) == errors_of(bundled) != {}
    for activation in ("relu", "sin"):
        found = {}
        for m in (16, 128):
            fine = replace_pooler(model, m, activation=activation, inputs=typical(kind))
            found[m] = errors_of(fine)["pooler"]
            wrong = np.linalg.norm(outputs(fine, x) - before) / np.linalg.norm(before)
        assert found[128] < min(0.35, 0.7 * found[16]) and wrong < 0.5, (activation, found, wrong)


@pytest.mark.parametrize("kind", [pytest.param("bert", marks=pytest.mark.slow), "vit"])
def test_the_default_number_of_features_brings_errors_below_a_fifth(kind):
    """Each layer by itself: the last doubling was needed, as half as many features err by more than .2."""
    model, _ = small(kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The SNNK in the place of")
        new = replace_pooler(model, inputs=typical(kind))
    pooler = new.get_layer("pooler")
    count = pooler.features.num_features
    assert errors_of(new)["pooler"] <= 0.2 and count in (64, 128, 256, 512, 1024)
    fewer = replace_pooler(model, count // 2, inputs=typical(kind))
    assert count == 64 or errors_of(fewer)["pooler"] > 0.2


def test_features_that_do_not_suffice_end_at_the_cap_with_a_warning(monkeypatch):
    monkeypatch.setattr(snnk_uptrain, "FEWEST", 4)
    monkeypatch.setattr(snnk_uptrain, "MOST", 8)
    model, _ = small("vit")
    with pytest.warns(UserWarning, match="errs by") as given:
        new = uptrain(model, 2, inputs=typical("vit"))
    errors = [str(one.message) for one in given if "errs by" in str(one.message)]
    assert len(errors) == 2  # of the last fit of each block, not of those before
    assert [layer.features.num_features for layer in walk(new) if isinstance(layer, SNNK)] == [8, 8]


def test_unfitted_replacements_have_256_features_by_default():
    new = uptrain(small("vit")[0], 1, fit=False)
    assert [layer.features.num_features for layer in walk(new) if isinstance(layer, SNNK)] == [256]


def test_adapters_go_after_dense_layers_and_keep_the_outputs():
    model, x = small("vit")
    chosen = [id(block.contract) for block in mlp_blocks(model)]
    new = swap(model, {Dense: lambda layer: adapted(layer, num_features=8, bottleneck=4)},
               where=lambda layer: id(layer) in chosen)  # fmt: skip
    assert sum(isinstance(layer, Adapted) for layer in new.layers) == 3
    np.testing.assert_array_equal(outputs(new, x), outputs(model, x))


def test_replacements_need_inputs_or_a_model_that_states_them():
    model, x = small("vit")
    with pytest.raises(ValueError, match="fit=False"):
        uptrain(model, 1, 8, fit=False, inputs=x)
    errors = errors_of(replace_pooler(model, 64))  # made-up images
    assert 0 < errors["pooler"] < 0.6

    class Wrapped(keras.Model):
        def __init__(self, inner=None, **kwargs):
            super().__init__(**kwargs)
            self.inner = Dense(8, activation="tanh") if inner is None else inner

        def call(self, x):
            return self.inner(x)

    wrapped = Wrapped()
    wrapped(rows())
    with pytest.raises(ValueError, match="Give `inputs`"):
        replace_pooler(wrapped, 8)
    assert errors_of(replace_pooler(wrapped, 8, inputs=rows(100)))


@pytest.mark.parametrize("last", [0, 4])
def test_as_many_blocks_as_there_are(last):
    with pytest.raises(ValueError, match=r"1\.\.3"):
        uptrain(small("vit")[0], last, 16)
    with pytest.raises(ValueError, match="tanh"):
        replace_pooler(chain(Dense(3)), 16)


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_keras_hub_backbones_take_the_same_road(kind, tmp_path):
    hub = pytest.importorskip("keras_hub")
    random = np.random.default_rng(0)
    if kind == "bert":
        model = hub.models.BertBackbone(50, 3, 2, 16, 40, max_sequence_length=9)
        x = {"token_ids": random.integers(0, 50, (4, 9)), "segment_ids": np.zeros((4, 9), int),
             "padding_mask": np.ones((4, 9), int)}  # fmt: skip
        part = "sequence_output"
    else:
        model = hub.models.ViTBackbone((8, 8, 3), 4, 3, 2, 16, 40)
        x = random.standard_normal((4, 8, 8, 3)).astype(np.float32)
        part = None
    assert len(mlp_blocks(model)) == 3
    new = uptrain(model, 2, 12)
    assert sum(isinstance(layer, SNNK) for layer in walk(new)) == 2
    bundled = uptrain(model, 2, 12, bundled=True)
    assert bundled.count_params() < new.count_params()
    np.testing.assert_allclose(outputs(bundled, x, part), outputs(new, x, part), rtol=1e-4, atol=1e-5)
    bundled.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(outputs(again, x, part), outputs(bundled, x, part))
    if kind == "bert":
        assert isinstance(replace_pooler(model, 12).get_layer("pooled_dense"), SNNK)


@pytest.mark.slow
def test_a_bundle_is_five_times_smaller_at_the_same_accuracy():
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "snnk_speed.py"
    spec = importlib.util.spec_from_file_location("snnk_speed", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.measure(data.load("DIGITS"), width=2048, features=512, epochs=20, batch=256, repeats=1)
    assert found["parameters"][0] > 5 * found["parameters"][1]
    assert found["accuracy"][1] > found["accuracy"][0] - 0.01
