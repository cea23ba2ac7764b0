"""Fine-tuning from a saved model to a result's folder: images in folders, GLUE's files, what is trained, resuming."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset, Split
from linearized.data.sources import glue, image_folder
from linearized.experiments import finetune_model
from linearized.experiments.customary_metrics import customary
from linearized.experiments.finetune import main, run
from linearized.experiments.finetune_data import load_data
from linearized.experiments.finetune_settings import FinetuneSettings as Config
from linearized.layers.kervolution import Kervolution2D
from linearized.layers.lambda_layer import LambdaLayer
from linearized.layers.snnk.adapter import Adapted, SNNKAdapter
from linearized.layers.snnk.layer import SNNK
from linearized.layers.surgery.swapped import walk
from linearized.models.transformers import bert, vit
from linearized.storage import results

from .. import warm_commands

ROOT = Path(__file__).resolve().parent.parent.parent


def write_images(folder, classes=("blue", "red"), count=12, size=10):
    """Images whose colour shows their class."""
    random = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 100, (size, size, 3), dtype=np.uint8)
            pixels[..., label % 3] += 120
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


def write_glue(folder):
    """RTE's columns; a pair is an entailment if it has the word "good"."""
    random = np.random.default_rng(0)
    for name, count in (("train.tsv", 40), ("dev.tsv", 12)):
        lines = ["index\tsentence1\tsentence2\tlabel"]
        for number in range(count):
            good = number % 2
            words = random.choice(["a", "tree", "stone", "river"], 3).tolist() + (["good"] if good else ["bad"])
            lines.append(f"{number}\t{' '.join(words)}.\tIt is so!\t{'entailment' if good else 'not_entailment'}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def images(tmp_path):
    keras.utils.set_random_seed(0)
    vit((8, 8, 3), 5, dim=8, width=16, layers=2, heads=2).save(tmp_path / "vit.keras")
    return {"model": str(tmp_path / "vit.keras"), "data": str(write_images(tmp_path / "photos")), "epochs": 3,
            "batch_size": 8, "learning_rate": 0.01}  # fmt: skip


@pytest.fixture
def texts(tmp_path):
    keras.utils.set_random_seed(0)
    bert(30, 12, 3, dim=8, width=16, layers=2, heads=2).save(tmp_path / "bert.keras")
    return {"model": str(tmp_path / "bert.keras"), "data": str(write_glue(tmp_path / "RTE")), "epochs": 12,
            "batch_size": 8, "learning_rate": 0.02}  # fmt: skip


def test_images_after_a_swap_end_in_a_whole_result(directories, images):
    result = run(Config(**images, swap="mlp", last=1, num_features=32, trainable="all"))
    assert result.chosen["test_accuracy"] > 0.7
    assert sorted(path.name for path in result.folder.iterdir()) == ["arrays.h5", "model.keras", "result.json"]
    model = keras.saving.load_model(result.folder / "model.keras", compile=False)
    assert sum(isinstance(layer, SNNK) for layer in walk(model)) == 1
    assert model.output_shape == (None, 2)  # the classifier of 5 was replaced
    data = image_folder.load(images["data"], (8, 8, 3))
    outputs = model.predict(data.test.x.reshape(-1, 8, 8, 3), verbose=0)
    np.testing.assert_allclose(outputs, results.load_arrays(result.folder)["predictions/test"], atol=1e-4)
    again = run(Config(**images, swap="mlp", last=1, num_features=32, trainable="all"))
    assert not again.fresh and again.record == result.record
    assert len(results.collect(directories / "nn_dir")) == 1


def test_without_its_model_a_run_has_the_same_result_and_says_what_is_missing(directories, images, capsys):
    settings = images | {"epochs": 1, "swap": "none", "trainable": "classifier"}
    whole = run(Config(**settings, exp_name="whole"))
    bare = run(Config(**settings, no_model=True))
    assert bare.folder.name == whole.folder.name  # the flag is no part of the run's identity
    assert sorted(path.name for path in bare.folder.iterdir()) == ["arrays.h5", "result.json"]
    assert bare.record["ridges"] == whole.record["ridges"]
    main(Config(**settings))
    assert "the run was made with --no_model" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="--no_model"):
        run(Config(**settings | {"model": str(bare.folder / "model.keras")}))


def test_an_own_activation_swaps_in_as_ours(directories, images, tmp_path, monkeypatch):
    (tmp_path / "finetuned_activation.py").write_text("def tanh(x, xp): return xp.tanh(x)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    settings = images | {"epochs": 1, "swap": "mlp", "last": 1, "num_features": 32}
    own, ours = (run(Config(**settings, activation=name)) for name in ("finetuned_activation:tanh", "tanh"))
    assert own.folder != ours.folder and list(own.record["made_by"]["code"]) == ["activation"]
    assert own.chosen["test_loss"] == pytest.approx(ours.chosen["test_loss"], rel=1e-4)


def test_bad_pictures_are_named_or_skipped_and_listed(directories, images):
    folder = Path(images["data"])
    (folder / "red" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad.png .*--skip_bad"):
        image_folder.load(folder, (8, 8, 3))
    data = image_folder.load(folder, (8, 8, 3), skip_bad=True)
    assert len(data.train) + len(data.test) == 24
    assert data.notes == {"pictures_skipped": 1, "pictures_skipped_names": "red/bad.png"}
    result = run(Config(**images | {"epochs": 1}, skip_bad=True, num_train=8))
    assert result.record["data"]["pictures_skipped_names"] == "red/bad.png"
    with pytest.raises(UserError, match="--skip_bad is read with"):
        Config(model=images["model"], dataset="DIGITS", skip_bad=True)


def test_glue_with_adapters_learns(directories, texts):
    result = run(Config(**texts, swap="adapters", trainable="adapters", num_features=16, bottleneck=4))
    counts = result.record["model"]
    assert counts["trained_parameters"] < 0.4 * counts["num_parameters"]
    assert result.chosen["train_accuracy"] > 0.75


@pytest.mark.parametrize("settings", [
    {"swap": "none", "trainable": "classifier"}, {"swap": "pooler", "trainable": "snnk"},
    {"swap": "pooler_bundled"}, {"swap": "adapters", "bottleneck": 0, "trainable": "adapters", "last": 1},
    {"swap": "mlp", "trainable": "snnk", "activation": "sin"},
], ids=str)  # fmt: skip
def test_every_road_ends_in_a_result(directories, images, settings):
    assert np.isfinite(run(Config(**{**images, "epochs": 1}, **settings)).chosen["test_loss"])


@pytest.mark.parametrize(("settings", "kind", "count"), [
    ({"swap": "kervolution", "kernel": "gaussian"}, Kervolution2D, 3),
    ({"swap": "kervolution", "kernel_variant": "published", "places": "inner"}, Kervolution2D, 1),
    ({"swap": "lambda", "keys": 2, "scope": 3}, LambdaLayer, 1),
], ids=str)  # fmt: skip
def test_convolutions_are_exchanged_and_trained(directories, images, tmp_path, settings, kind, count):
    network = keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="first"), keras.layers.Conv2D(4, 1),
        keras.layers.Conv2D(4, 3, padding="same"), keras.layers.BatchNormalization(), keras.layers.Flatten(),
        keras.layers.Dense(2),
    ])  # fmt: skip
    network.save(tmp_path / "cnn.keras")
    result = run(Config(**{**images, "model": str(tmp_path / "cnn.keras"), "epochs": 1}, **settings))
    model = keras.saving.load_model(result.folder / "model.keras", compile=False)
    exchanged = [layer for layer in walk(model) if isinstance(layer, kind)]
    assert len(exchanged) == count
    assert settings["swap"] == "lambda" or exchanged[0].variant == settings.get("kernel_variant", "standard")


@pytest.mark.parametrize("what, swap", [("adapters", "adapters"), ("snnk", "mlp"), ("classifier", "none")])
def test_only_what_is_chosen_moves(what, swap, images):
    config = Config(**images, swap=swap, trainable=what)
    original = keras.saving.load_model(config.model)
    data = image_folder.load(config.data, (8, 8, 3))
    model = finetune_model.swapped(config, original, data)
    finetune_model.choose_trainable(model, what)
    kinds = {"adapters": SNNKAdapter, "snnk": SNNK, "classifier": ()}[what]
    chosen = [layer for layer in walk(model) if isinstance(layer, kinds)] + [model.get_layer("classifier")]
    expected = {id(variable) for layer in chosen for variable in layer.trainable_variables}
    assert {id(variable) for variable in model.trainable_variables} == expected
    before = {id(v): keras.ops.convert_to_numpy(v) for v in model.weights}
    rows = finetune_model.from_rows(model)
    rows.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True))
    rows.fit(data.train.x, data.train.y, epochs=2, verbose=0)
    for variable in model.weights:
        moved = np.any(before[id(variable)] != keras.ops.convert_to_numpy(variable))
        assert moved == (id(variable) in expected), variable.path


@pytest.mark.slow
def test_every_setting_that_decides_the_result_changes_it(directories, images):
    base = {**images, "epochs": 1, "swap": "adapters", "num_features": 8, "bottleneck": 2}
    changes = [{}, {"num_features": 12}, {"bottleneck": 0}, {"activation": "sin"}, {"last": 1}, {"seed": 1},
               {"swap": "mlp", "bottleneck": 16}, {"trainable": "adapters"}, {"learning_rate": 0.1}, {"epochs": 2},
               {"weight_decay": 0.9}, {"batch_size": 4}, {"num_train": 8}, {"num_test": 2},
               {"scaling": "symmetric"}, {"adapt": "attention"}, {"adapt": "both"}, {"orthogonal": False},
               {"normalize": 2.0}, {"augment_crop": 2}, {"augment_flip": True}, {"validation": 0.25}]  # fmt: skip
    losses = [run(Config(**{**base, **change})).chosen["test_loss"] for change in changes]
    moved = [abs(loss - losses[0]) > 1e-7 for loss in losses[1:]]
    assert all(moved), dict(zip(map(str, changes), losses, strict=True))


def test_a_score_is_regression_and_dropped_rows_are_printed_and_recorded(directories, tmp_path, texts, capsys):
    folder = tmp_path / "STS-B"
    folder.mkdir()
    for name in ("train.tsv", "dev.tsv"):
        rows = [f"{i}\ta tree\t{'a tree' if i % 2 else 'no stone'}\t{5.0 * (i % 2)}" for i in range(16)]
        empty = ["98\ta tree\tno score\t"] if name == "train.tsv" else []
        (folder / name).write_text("\n".join(["index\tsentence1\tsentence2\tscore", *rows, *empty]))
    config = Config(**{**texts, "data": str(folder)})
    main(config)
    assert "train: 1 rows without a label were dropped" in capsys.readouterr().out
    result = run(config)
    assert result.record["data"]["n_train"] == 16 and result.record["data"]["train_rows_unlabelled"] == 1
    assert result.record["data"]["casing"] == "uncased"
    assert result.chosen["test_accuracy"] is None
    assert result.chosen["test_loss"] < 6.3  # the variance of the scores is 6.25


def test_published_data_with_validation_and_augmentation(directories, tmp_path):
    rng = np.random.default_rng(0)
    models = {}
    for name, layers in (("images", [keras.Input((8, 8, 1)), keras.layers.Flatten()]), ("rows", [keras.Input((64,))])):
        model = keras.Sequential([*layers, keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(3)])
        model.set_weights([0.1 * rng.standard_normal(weight.shape) for weight in model.get_weights()])
        models[name] = str(tmp_path / f"{name}.keras")
        model.save(models[name])
    base = {"dataset": "DIGITS", "num_train": 200, "num_test": 50, "validation": 0.25, "epochs": 2,
            "learning_rate": 0.01}  # fmt: skip
    result = run(Config(model=models["images"], **base))
    assert {f"n_{name}": result.record["data"][f"n_{name}"] for name in ("train", "validation", "test")} == {
        "n_train": 150, "n_validation": 50, "n_test": 50}  # fmt: skip
    assert result.chosen["validation_loss"] != result.chosen["test_loss"]
    assert "DIGITS_noise0" in result.folder.name
    rows = run(Config(model=models["rows"], **base))
    assert rows.chosen["test_accuracy"] is not None
    for change in ({"augment_flip": True}, {"augment_crop": 2}, {"noise_ind": 5}):
        changed = run(Config(model=models["images"], **base, **change))
        assert abs(changed.chosen["train_loss"] - result.chosen["train_loss"]) > 1e-6, change
    with pytest.raises(UserError, match=r"shape \(28, 28, 1\)"):
        run(Config(model=models["images"], dataset="FMNIST"))


def test_validation_rows_are_not_trained_on(directories, images):
    config = Config(**images, validation=4.0)
    whole = load_data(Config(**images), keras.saving.load_model(config.model))
    held = load_data(config, keras.saving.load_model(config.model))
    assert len(held.validation) == 4 and len(held.train) == len(whole.train) - 4
    rows = {row.tobytes() for row in held.train.x} | {row.tobytes() for row in held.validation.x}
    assert rows == {row.tobytes() for row in whole.train.x}
    assert {row.tobytes() for row in held.train.x}.isdisjoint(row.tobytes() for row in held.validation.x)


@pytest.mark.parametrize("adapt, after", [("attention", 1), ("mlp", 1), ("both", 2)])
@pytest.mark.parametrize("last", [0, 1])
def test_adapters_follow_attention_layers_and_mlp_blocks(adapt, after, last, texts, tmp_path):
    original = keras.saving.load_model(texts["model"])
    config = Config(**texts, swap="adapters", adapt=adapt, last=last, bottleneck=2, num_features=8)
    data = glue.load(texts["data"], 12, 30)
    model = finetune_model.swapped(config, original, data)
    assert sum(isinstance(layer, Adapted) for layer in walk(model)) == after * (last or 2)
    tokens = data.test.x.astype(int)
    head = keras.Model(original.input, original.get_layer("pooler").output)
    new = keras.Model(model.input, model.get_layer("pooler").output)
    np.testing.assert_allclose(new(tokens), head(tokens), atol=1e-6)  # adapters start as the identity
    model.save(tmp_path / "adapted.keras")
    again = keras.saving.load_model(tmp_path / "adapted.keras")
    np.testing.assert_allclose(again(tokens), model(tokens), atol=1e-6)


@pytest.mark.parametrize("settings", [{"orthogonal": False}, {"normalize": 2.0}], ids=str)
def test_options_of_the_features_reach_every_swap(settings, images):
    data = image_folder.load(images["data"], (8, 8, 3))
    original = keras.saving.load_model(images["model"])
    for swap in ("mlp", "pooler", "adapters"):
        model = finetune_model.swapped(Config(**images, swap=swap, num_features=8, **settings), original, data)
        layers = [layer for layer in walk(model) if isinstance(layer, SNNK)]
        for name, value in settings.items():
            assert layers and all(getattr(layer.features, name) == value for layer in layers)


def test_an_unset_number_of_features_is_that_of_adapters_or_found_by_the_error(images):
    data = image_folder.load(images["data"], (8, 8, 3))
    original = keras.saving.load_model(images["model"])
    for swap in ("adapters", "pooler"):
        model = finetune_model.swapped(Config(**images, swap=swap), original, data)
        found = [layer for layer in walk(model) if isinstance(layer, SNNK)]
        counts = {layer.features.num_features for layer in found}
        assert counts == {64} if swap == "adapters" else all(layer.error <= 0.2 for layer in found), (swap, counts)


def test_customary_metrics_equal_their_formulas():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 60), rng.standard_normal((60, 2))
    base = dataclasses.replace(digits_like(), metrics=("matthews", "f1"))
    found = customary(base, labels, logits)
    guess = logits.argmax(axis=1)
    tp, fp = ((labels == truth) & (guess == 1) for truth in (1, 0))
    tp, fp, fn, tn = tp.sum(), fp.sum(), ((labels == 1) & (guess == 0)).sum(), ((labels == 0) & (guess == 0)).sum()
    product = np.sqrt(float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    np.testing.assert_allclose(found["matthews"], (tp * tn - fp * fn) / product)
    np.testing.assert_allclose(found["f1"], 2 * tp / (2 * tp + fp + fn))
    scores, values = rng.standard_normal(40), rng.standard_normal((40, 1))
    base = dataclasses.replace(base, metrics=("pearson", "spearman"))
    found = customary(base, scores, values)
    ranks = [np.argsort(np.argsort(v)) for v in (scores, values[:, 0])]
    np.testing.assert_allclose(found["pearson"], np.corrcoef(scores, values[:, 0])[0, 1])
    np.testing.assert_allclose(found["spearman"], np.corrcoef(*ranks)[0, 1])
    assert customary(base, scores, np.ones((40, 1))) == {"pearson": None, "spearman": None}


def digits_like():
    """A dataset of which only the metrics matter."""
    split = Split(np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32))
    return Dataset("tiny", 0, split, None, split, "classes", 2, None, "FMNIST", "0")


@pytest.mark.parametrize("header, row, metrics", [
    ("", "gj04\t{label}\t\tword {word}", {"matthews"}),
    ("index\tsentence1\tsentence2\tscore\n", "{number}\ta {word}\tb\t{label}.5", {"pearson", "spearman"}),
], ids=["CoLA", "STS-B"])  # fmt: skip
def test_each_task_of_glue_has_its_own_metrics(directories, texts, tmp_path, header, row, metrics):
    for name in ("train.tsv", "dev.tsv"):
        rows = [row.format(number=i, label=i % 2, word=("bad", "good")[i % 2]) for i in range(24)]
        (tmp_path / name).write_text(header + "\n".join(rows))
    result = run(Config(**{**texts, "data": str(tmp_path), "epochs": 1}))
    named = {key.removeprefix("test_") for key in result.chosen if key.startswith("test_")}
    assert metrics == named - {"loss", "accuracy", "normalised_loss"}


@pytest.mark.parametrize("settings, word", [
    ({"swap": "mlp", "kernel": "gaussian"}, "kervolution"), ({"swap": "kervolution", "heads": 2}, "lambda"),
    ({"swap": "lambda", "num_features": 8}, "mlp"),
    ({"model": ""}, "needed"), ({"trainable": "snnk"}, "swap=mlp"), ({"trainable": "adapters"}, "swap=adapters"),
    ({"swap": "none", "last": 1}, "last"), ({"swap": "mlp", "bottleneck": 3}, "bottleneck"),
    ({"swap": "both"}, "adapters"), ({"dataset": "DIGITS"}, "either"), ({"noise_ind": 2}, "noise_ind"),
    ({"data": "", "dataset": "DIGITS", "scaling": "bytes"}, "scaling"), ({"data": "", "dataset": "SYNTH"}, "no images"),
    ({"data": "", "dataset": "DIGITS", "noise_ind": 99}, "noise levels"), ({"swap": "mlp", "adapt": "both"}, "adapt"),
    ({"normalize": 1.0}, "normalize"), ({"orthogonal": False}, "orthogonal"), ({"validation": -1.0}, "validation"),
])  # fmt: skip
def test_bad_settings_are_refused_at_once(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**{"model": "m.keras", "data": "d", **settings})


@pytest.mark.parametrize("kind, settings", [("images", {"vocabulary": "vocab.txt"}), ("texts", {"scaling": "bytes"}),
                                            ("texts", {"augment_flip": True})])  # fmt: skip
def test_settings_that_the_model_s_inputs_make_idle_are_refused(kind, settings, directories, request):
    with pytest.raises(UserError, match=next(iter(settings))):
        run(Config(**request.getfixturevalue(kind), **settings))
    assert not list((directories / "nn_dir").rglob("*.*"))


def test_what_a_user_can_mend_is_told(directories, images, tmp_path):
    with pytest.raises(UserError, match="no file"):
        run(Config(**{**images, "model": "none.keras"}))
    (tmp_path / "bad.keras").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a model that Keras can load"):
        run(Config(**{**images, "model": str(tmp_path / "bad.keras")}))
    with pytest.raises(UserError, match="does not fit"):
        run(Config(**images, swap="mlp", last=9))
    with pytest.raises(UserError, match="no folder"):
        run(Config(**{**images, "data": str(tmp_path / "nowhere")}))


def test_a_killed_run_goes_on_and_ends_the_same(directories, images):
    settings = {**images, "epochs": 12, "swap": "mlp", "num_features": 16, "checkpoint_seconds": 0.0}
    run(Config(**settings, exp_name="straight"))
    flags = [f"--{key}={value}" for key, value in settings.items()]
    command = ["-m", "linearized", "finetune", *flags, "--exp_name=killed"]
    folder = directories / "nn_dir" / "killed"
    killed = warm_commands.run(
        command, cwd=ROOT, kill_when=lambda: any("training.npz" in files for _, _, files in os.walk(folder))
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(folder.rglob("training.npz"))
    resumed = warm_commands.run(command, cwd=ROOT)
    assert resumed.returncode == 0, resumed.stderr
    one, other = (results.load(next((directories / "nn_dir" / name).rglob("result.json")).parent)
                  for name in ("straight", "killed"))  # fmt: skip
    assert other["ridges"][0]["test_loss"] == pytest.approx(one["ridges"][0]["test_loss"], rel=1e-5)


def test_help_needs_no_framework():
    probe = "import sys, linearized.experiments.finetune; assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-m", "linearized", "finetune", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    for field in dataclasses.fields(Config):
        assert f"--{field.name}=" in done.stdout
