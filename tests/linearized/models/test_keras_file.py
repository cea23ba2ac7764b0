"""`--model=path.keras`: a model file of the user's own, trained further or anew, and what does not fit."""

import types
import zipfile

import keras
import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.experiments import train
from linearized.experiments.compare import CompareSettings
from linearized.models import keras_file, nn
from linearized.models.common import load
from linearized.settings.config import parse

from .model_files import saved

ROWS = {"num_train": 100, "num_test": 40, "solver": "adam", "max_batch_size": 20}


@keras.saving.register_keras_serializable("tests")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x


@pytest.fixture
def mlp(tmp_path):
    """A saved network of digits, 64 -> 16 -> 10."""
    path = tmp_path / "mlp.keras"
    saved(path, keras.layers.Dense(16, "relu"), keras.layers.Dense(10))
    return path


def config(path, **more):
    return train.TrainSettings(**{**ROWS, "model": str(path), "max_cg_iters": 3, "learning_rate": 3e-3, **more})


def losses(result):
    return result.record["ridges"][0]["train_loss"], result.record["ridges"][0]["test_loss"]


def test_a_file_is_trained_further_and_its_content_names_the_run(directories, mlp, tmp_path):
    short = train.run(config(mlp))
    fitted = short.folder / "model.keras"
    longer = train.run(config(fitted))
    assert losses(longer)[0] < losses(short)[0]
    assert short.record["title"].startswith("mlp on DIGITS") and "_mlp_noise0_" in short.folder.name
    assert list(short.record["made_by"]["code"]) == ["model"]
    elsewhere = tmp_path / "sub" / "mlp.keras"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(mlp.read_bytes())
    assert config(elsewhere).key() == config(mlp).key() != config(fitted).key()
    assert config(mlp, init="fresh").key() != config(mlp).key()
    kept = load(short.folder / "model.keras")
    assert [layer.name for layer in kept.layers] == [layer.name for layer in load(mlp).layers]


def test_the_weights_are_those_of_the_file_or_new_ones(tiny, tmp_path):
    path, data = tmp_path / "a.keras", tiny()
    model = saved(path, keras.layers.Dense(4), keras.layers.Dense(3), shape=(16,))

    def built(**settings):
        made = {"model": str(path), "init": "file", "seed": 0, "loss": "square", **settings}
        return keras_file.build(types.SimpleNamespace(**made), data, ridge=0.25)

    np.testing.assert_array_equal(built().get_weights()[0], model.get_weights()[0])
    first, again, other = (built(init="fresh", seed=seed).get_weights()[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, model.get_weights()[0]) and not np.array_equal(first, other)
    assert first.std() == pytest.approx(np.sqrt(2 / 20), rel=0.4)  # Glorot's
    squares = sum(np.square(weights).sum() for weights in built().get_weights()[::2])
    assert float(sum(built().losses)) == pytest.approx(0.25 * squares, rel=1e-5)


def test_a_file_of_our_network_trains_as_our_network(directories, tmp_path):
    """NN saved before training, and NN by name: the same steps to the same losses, without a penalty that matters."""
    named = config("NN", num_units=16, schedule="cosine")
    data = train.load_preprocessed(named, 0)
    path = tmp_path / "nn.keras"
    nn.build(named, data, ridge=0.0).save(path)
    given = config(path, schedule="cosine", max_batch_size=20)
    ours, theirs = train.run(named), train.run(given)
    assert losses(theirs) == pytest.approx(losses(ours), rel=1e-2)


@pytest.mark.parametrize("shape", [(8, 8, 1), (None, None, 1), (8, 8)])
def test_images_go_into_models_of_images(directories, tmp_path, shape):
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()] if len(shape) == 3 else [
        keras.layers.Flatten()]  # fmt: skip
    path = tmp_path / "images.keras"
    saved(path, *layers, keras.layers.Dense(10), shape=shape)
    result = train.run(config(path, max_cg_iters=1))
    assert load(result.folder / "model.keras").input_shape == (None, 64)


def test_what_does_not_fit_is_refused(directories, mlp, tmp_path):
    narrow, wide, text, soft = (tmp_path / f"{name}.keras" for name in ("narrow", "wide", "text", "soft"))
    saved(narrow, keras.layers.Dense(7), shape=(64,))
    saved(wide, keras.layers.Dense(10), shape=(65,))
    saved(soft, keras.layers.Dense(10, "softmax"))
    text.write_text("no model")
    for path, words in ((wide, r"takes inputs of shape \(65,\)"), (text, "is damaged or not"),
                        (tmp_path / "none.keras", "does not exist")):  # fmt: skip
        with pytest.raises(UserError, match=words):  # before Keras is needed
            config(path)
    with pytest.raises(UserError, match=r"outputs of shape \(n, 10\) .* Received: \(None, 7\)"):
        train.run(config(narrow))
    with pytest.raises(UserError, match="takes logits"):
        train.run(config(soft, loss="cross_entropy"))
    train.run(config(soft, max_cg_iters=1))
    assert not any((directories / "nn_dir").rglob("*narrow*"))


@pytest.mark.parametrize("init", ["file", "fresh"])
def test_targets_of_any_unit_are_predicted_in_it(directories, tmp_path, init):
    path, random = tmp_path / "targets.keras", np.random.default_rng(0)
    saved(path, keras.layers.Dense(2), shape=(3,))
    x = random.normal(size=(80, 3)).astype(np.float32)
    y = np.stack([1000 * x[:, 0], x[:, 1] + 7], axis=1)
    flags = {"solver": "adam", "max_cg_iters": 60, "learning_rate": 0.03, "max_batch_size": 16}
    result = linearized.train(model=str(path), init=init, data=(x, y), **flags)
    predicted = load(result.folder / "model.keras").predict(x, verbose=0)
    np.testing.assert_allclose(result.predict(x), predicted, rtol=1e-5, atol=1e-4)
    if init == "fresh":  # trained on targets of variance 1
        assert np.corrcoef(predicted[:, 0], y[:, 0])[0, 1] > 0.9
    else:  # the outputs of the file go on in their unit
        start = load(path).predict(x, verbose=0)
        assert np.abs(predicted - start).max() < 100


def test_a_file_is_an_entry_of_a_comparison(directories, mlp):
    runs = CompareSettings(models=f"{mlp},{mlp}:init=fresh,RF", num_train=100, num_units=8).runs()
    kept, fresh, features = runs.values()
    assert (kept.model, kept.init, kept.solver, kept.num_units) == (str(mlp), "file", "adam", None)
    assert (fresh.init, features.num_units) == ("fresh", 8)


def test_custom_layers_that_are_not_known_are_named(directories, tmp_path):
    path, unknown = tmp_path / "known.keras", tmp_path / "unknown.keras"
    saved(path, Twice(), keras.layers.Dense(10))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(unknown, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"Twice", b"Thrice"))
    with pytest.raises(UserError, match="Thrice"):
        train.run(config(unknown))
    train.run(config(path, max_cg_iters=1))


@pytest.mark.parametrize("flag", ["--num_units=8", "--num_layers=2", "--activation=gelu", "--drop_rate=0.5"])
def test_settings_of_other_models_are_refused(directories, mlp, flag):
    with pytest.raises(UserError, match=f"{flag.split('=')[0]} is read by"):
        parse(train.TrainSettings, [f"--model={mlp}", flag])


def test_init_is_refused_for_models_of_the_table(directories, mlp):
    with pytest.raises(UserError, match=r"--init is read by --model=FILE.keras"):
        train.TrainSettings(model="NN", init="fresh")
    with pytest.raises(UserError, match="--mixed_precision changes nothing"):
        config(mlp, mixed_precision=True)
