"""Fine-tuning from a saved model to a result's folder: images in folders, GLUE's files, what is trained, resuming."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from data import glue, image_folder, results
from data.errors import UserError
from linearized import finetune_model
from linearized.finetune import Config, run
from linearized.layers.snnk import SNNK
from linearized.layers.snnk_adapter import SNNKAdapter
from linearized.layers.swapped import walk
from linearized.models.transformers import bert, vit

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
               {"scaling": "symmetric"}]  # fmt: skip
    losses = [run(Config(**{**base, **change})).chosen["test_loss"] for change in changes]
    moved = [abs(loss - losses[0]) > 1e-7 for loss in losses[1:]]
    assert all(moved), dict(zip(map(str, changes), losses, strict=True))


def test_a_vocabulary_changes_the_tokens(texts, tmp_path):
    pieces = [*glue.SPECIAL, "riv", "##er", "good", "tree"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    known = glue.Vocabulary.from_file(tmp_path / "vocab.txt")
    assert known.cut("river") == [4, 5] and known.cut("rivers") == [1] and known.cut("good") == [6]
    assert known.row(("Good river!", "trée"), 9) == [2, 6, 4, 5, 1, 3, 7, 3, 0]
    assert known.row(("good good good good", "tree"), 6) == [2, 6, 6, 3, 7, 3]
    own, given = (glue.load(texts["data"], 12, 30, name) for name in ("", tmp_path / "vocab.txt"))
    assert own.fingerprint != given.fingerprint and own.num_classes == 2
    with pytest.raises(UserError, match="8 pieces"):
        glue.load(texts["data"], 12, 5, tmp_path / "vocab.txt")


@pytest.mark.parametrize("lines, texts, labels, scored", [
    ("gj04\t1\t\tOur friends.\ngj04\t0\t*\tHe go", [("Our friends.",), ("He go",)], ["1", "0"], False),
    ("sentence\tlabel\nhide \"new\t0", [("hide \"new",)], ["0"], False),
    ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tA b\tC d\r", [("A b", "C d")], ["1"], False),
    ("id\tquestion1\tquestion2\tis_duplicate\n0\tA\tB\t0", [("A", "B")], ["0"], False),
    ("index\tquestion\tsentence\tlabel\n0\tQ?\tS\tentailment", [("Q?", "S")], ["entailment"], False),
    ("index\tgenre\tsentence1\tsentence2\tscore\n0\tx\tA\tB\t2.5", [("A", "B")], ["2.5"], True),
    ("index\tsentence1\tsentence2\tlabel1\tgold_label\n0\tA\tB\tneutral\tno", [("A", "B")], ["no"],
     False),
], ids=["CoLA", "SST-2", "MRPC", "QQP", "QNLI", "STS-B", "MNLI"])  # fmt: skip
def test_the_tasks_of_glue_are_told_apart(tmp_path, lines, texts, labels, scored):
    (tmp_path / "train.tsv").write_text(lines + "\n", encoding="utf-8")
    assert glue.read(tmp_path / "train.tsv") == (texts, labels, scored)


def test_a_score_is_regression(directories, tmp_path, texts):
    folder = tmp_path / "STS-B"
    folder.mkdir()
    for name in ("train.tsv", "dev.tsv"):
        rows = [f"{i}\ta tree\t{'a tree' if i % 2 else 'no stone'}\t{5.0 * (i % 2)}" for i in range(16)]
        (folder / name).write_text("\n".join(["index\tsentence1\tsentence2\tscore", *rows]))
    result = run(Config(**{**texts, "data": str(folder)}))
    assert result.chosen["test_accuracy"] is None
    assert result.chosen["test_loss"] < 6.3  # the variance of the scores is 6.25


def test_images_are_read_scaled_and_split(tmp_path):
    write_images(tmp_path / "one", count=5)
    data = image_folder.load(tmp_path / "one", (10, 10, 3))
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.train.x.min() >= 0 and data.train.x.max() <= 1
    np.testing.assert_allclose(image_folder.load(tmp_path / "one", (10, 10, 3), scaling="symmetric").train.x,
                               2 * data.train.x - 1, atol=1e-6)  # fmt: skip
    with Image.open(tmp_path / "one" / "red" / "00.png") as image:
        pixels = np.asarray(image).ravel() / 255
    both = np.concatenate([data.train.x, data.test.x])
    assert np.abs(both - pixels).max(axis=1).min() < 1e-6
    for name in ("train", "val"):
        write_images(tmp_path / "two" / name, count=3)
    assert len(image_folder.load(tmp_path / "two", (4, 4, 1)).test) == 6
    write_images(tmp_path / "two" / "val", classes=("green",), count=1)
    with pytest.raises(UserError, match="green"):
        image_folder.load(tmp_path / "two", (4, 4, 1))
    (tmp_path / "one" / "red" / "99.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"99\.png"):
        image_folder.load(tmp_path / "one", (4, 4, 1))


@pytest.mark.parametrize("settings, word", [
    ({"model": ""}, "needed"), ({"trainable": "snnk"}, "swap=mlp"), ({"trainable": "adapters"}, "swap=adapters"),
    ({"swap": "none", "last": 1}, "last"), ({"swap": "mlp", "bottleneck": 3}, "bottleneck"),
    ({"swap": "both"}, "adapters"),
])  # fmt: skip
def test_bad_settings_are_refused_at_once(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**{"model": "m.keras", "data": "d", **settings})


def test_what_a_user_can_mend_is_told(directories, images, tmp_path):
    with pytest.raises(UserError, match="no file"):
        run(Config(**{**images, "model": "none.keras"}))
    (tmp_path / "bad.keras").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        run(Config(**{**images, "model": str(tmp_path / "bad.keras")}))
    with pytest.raises(UserError, match="does not fit"):
        run(Config(**images, swap="mlp", last=9))
    with pytest.raises(UserError, match="no folder"):
        run(Config(**{**images, "data": str(tmp_path / "nowhere")}))


def test_a_killed_run_goes_on_and_ends_the_same(directories, images):
    settings = {**images, "epochs": 12, "swap": "mlp", "num_features": 16, "checkpoint_seconds": 0.0}
    run(Config(**settings, exp_name="straight"))
    flags = [f"--{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "linearized.finetune", *flags, "--exp_name=killed"]
    folder = directories / "nn_dir" / "killed"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not list(folder.rglob("training.npz")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.rglob("training.npz"))
    resumed = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert resumed.returncode == 0, resumed.stderr
    one, other = (results.load(next((directories / "nn_dir" / name).rglob("result.json")).parent)
                  for name in ("straight", "killed"))  # fmt: skip
    assert other["ridges"][0]["test_loss"] == pytest.approx(one["ridges"][0]["test_loss"], rel=1e-5)


def test_help_needs_no_framework():
    probe = "import sys, linearized.finetune; assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-m", "linearized.finetune", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    for field in dataclasses.fields(Config):
        assert f"--{field.name}=" in done.stdout
