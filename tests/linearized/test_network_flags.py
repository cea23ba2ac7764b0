"""Flags of kervolutional and residual networks and of their training: each changes what it should, or is refused."""

import os
import signal
from pathlib import Path

import keras
import numpy as np
import pytest

from linearized import data
from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings as Config
from linearized.experiments.train import hidden_layers, run
from linearized.models.common import build
from linearized.settings.config import parse
from linearized.storage import results

from .. import warm_commands

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = {"num_train": 80, "num_test": 40, "max_cg_iters": 2, "loss": "cross_entropy", "learning_rate": 0.01}
RESNET = {**SMALL, "num_units": 4, "resnet_depth": 18, "resnet_stem": "small"}
MODELS = {
    "KERV_CNN": ({"num_units": 4}, [
        {}, *({"kervolution_kernel": kernel} for kernel in ("linear", "gaussian", "sigmoid", "l1", "l2")),
        {"kervolution_degree": 2}, {"kervolution_offset": 0.5}, {"kervolution_layers": 1}, {"num_units": 5},
        {"depth": 7}, {"kervolution_kernel": "gaussian", "kervolution_gamma": 0.1}, {"seed": 1},
        {"kervolution_variant": "published"},
    ]),
    "RESNET": ({"num_units": 4, "resnet_depth": 18}, [
        {}, {"kervolution_kernel": "polynomial"}, {"kervolution_kernel": "gaussian"}, {"resnet_padding": "same"},
        {"kervolution_kernel": "gaussian", "kervolution_places": "inner"}, {"resnet_depth": 50},
        {"resnet_depth": 50, "resnet_width": 2},
        {"kervolution_kernel": "gaussian", "kervolution_variant": "published"},
    ]),
    "LAMBDA_RESNET": ({"num_units": 4, "resnet_depth": 18}, [
        {}, {"lambda_stages": "CCLL"}, {"lambda_heads": 2}, {"lambda_keys": 8}, {"lambda_intra": 2},
        {"lambda_scope": 3}, {"lambda_variant": "published"}, {"lambda_variant": "unpermuted"},
        {"resnet_stem": "small"}, {"resnet_depth": 50}, {"seed": 1},
    ]),
}  # fmt: skip
TRAINING = [
    {}, {"weight_decay": 10.0}, {"beta_2": 0.5}, {"label_smoothing": 0.3}, {"augment_crop": 1}, {"augment_flip": True},
    {"mixed_precision": True}, {"schedule": "cosine"}, {"schedule": "cosine", "warm_up_epochs": 1},
    {"schedule": "lambda"},
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_every_flag_of_a_model_changes_it(tiny, model):
    """What it makes of two images in training mode, with all scales at 1: blocks start as identities."""
    base, variants = MODELS[model]
    data = tiny("classes", side=16)
    outputs = []
    for variant in variants:
        network = build(Config(model=model, **{**base, **variant}), data, 0.0)
        for variable in network.trainable_variables:
            if variable.name == "gamma":
                variable.assign(np.ones(variable.shape))
        outputs.append(tuple(np.asarray(network(data.test.x[:8], training=True)).ravel().tolist()))
    assert np.isfinite(outputs).all()
    assert len(set(outputs)) == len(variants)


def test_every_flag_of_training_changes_the_result(directories):
    base = {**SMALL, "model": "CNN", "num_units": 4, "solver": "adamw"}
    done = [run(Config(**{**base, **variant})).chosen["test_loss"] for variant in TRAINING]
    assert len(set(done)) == len(done), dict(zip(map(str, TRAINING), done, strict=True))


def test_a_learnable_kernel_is_trained(directories):
    result = run(Config(**SMALL, model="KERV_CNN", num_units=4, kervolution_learnable=True))
    model = keras.models.load_model(result.folder / "model.keras")
    learned = [float(weight.numpy()) for weight in model.weights if weight.name == "offset_weight"]
    assert len(learned) == 4
    assert all(value != 1.0 for value in learned)


@pytest.mark.parametrize("settings, word", [
    ({"kervolution_kernel": "l2"}, "KERV_CNN, RESNET"), ({"model": "RESNET", "kervolution_gamma": 1.0}, "kernel"),
    ({"model": "KERV_CNN", "kervolution_places": "inner"}, "RESNET"),
    ({"model": "RESNET", "kervolution_layers": 1, "kervolution_kernel": "l2"}, "KERV_CNN"),
    ({"model": "CNN", "kervolution_kernel": "gaussian"}, "KERV_CNN"),
    ({"model": "RESNET", "lambda_keys": 8}, "LAMBDA_RESNET"),
    ({"model": "CNN", "resnet_depth": 18}, "RESNET"), ({"label_smoothing": 0.1}, "solver"),
    ({"model": "CNN", "label_smoothing": 0.1}, "cross_entropy"), ({"model": "CNN", "weight_decay": 0.1}, "adamw"),
    ({"model": "CNN", "l2_decay": 0.1, "solver": "adamw"}, "adam"),
    ({"model": "CNN", "beta_2": 0.99}, "adam"), ({"model": "CNN", "warm_up_epochs": 3}, "cosine"),
    ({"mixed_precision": True}, "solver"),
    ({"model": "KERV_CNN", "mixed_precision": True, "max_ncg_iters": 2}, "Newton"),
    ({"model": "RF", "augment_flip": True}, "solver"), ({"model": "CNN", "schedule": "steps"}, "cosine"),
])  # fmt: skip
def test_flags_that_would_do_nothing_are_refused(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**settings)


def test_kernels_refuse_what_they_do_not_have(directories):
    with pytest.raises(UserError, match="degree"):
        run(Config(model="KERV_CNN", kervolution_kernel="gaussian", kervolution_degree=2, **SMALL))


def test_defaults_are_the_models_own():
    units = {name: Config(model=name).num_units for name in ("RF", "NN", "CNN", "KERV_CNN", "RESNET", "LAMBDA_RESNET")}
    assert list(units.values()) == [4096, 4096, 32, 32, 64, 64]
    assert hidden_layers(Config(model="LAMBDA_RESNET", resnet_depth=18)) == 17
    assert hidden_layers(Config(model="KERV_CNN", depth=10)) == 9
    solvers = {name: Config(model=name).working_solver() for name in ("RF", "CNN", "KERV_CNN", "RESNET")}
    assert list(solvers.values()) == ["lanczos", "sgd", "adam", "adam"]


@pytest.mark.parametrize("model", ["KERV_CNN", pytest.param("LAMBDA_RESNET", marks=pytest.mark.slow)])
def test_scores_are_those_of_the_saved_model_in_inference(directories, model):
    """Row by row: in training mode the statistics of a batch would make each output depend on the others."""
    settings = RESNET if model == "LAMBDA_RESNET" else {**SMALL, "num_units": 4}
    result = run(Config(**{**settings, "model": model, "max_cg_iters": 4}))
    dataset = data.load("DIGITS", num_train=80, num_test=40)
    saved = keras.models.load_model(result.folder / "model.keras")
    rows = np.concatenate([np.asarray(saved(row[None], training=False)) for row in dataset.test.x])
    told = results.load_arrays(result.folder)["predictions/test"]
    np.testing.assert_allclose(rows, told, rtol=1e-3, atol=1e-3 * np.abs(told).max())
    hits = (rows.argmax(axis=1) == dataset.test.y).mean()
    assert hits == pytest.approx(result.chosen["test_accuracy"], abs=0.03)


def test_mixed_precision_keeps_float32_weights_and_outputs(directories):
    result = run(Config(**SMALL, model="KERV_CNN", kervolution_kernel="gaussian", num_units=4, mixed_precision=True))
    model = keras.models.load_model(result.folder / "model.keras")
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in model.weights} == {"float32"}
    assert model.get_layer("kervolution_2").compute_dtype == "bfloat16"
    assert model.get_layer("readout").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_kervolutions_learn_the_digits(directories):
    """The command's own defaults, for fewer epochs: far above the tenth of chance."""
    settings = {"num_units": 16, "num_train": 1000, "max_cg_iters": 15, "learning_rate": 0.005, "loss": "cross_entropy"}
    for kernel in ("polynomial", "gaussian"):
        assert run(Config(model="KERV_CNN", kervolution_kernel=kernel, **settings)).chosen["test_accuracy"] > 0.5


FLAGS = ["--checkpoint_seconds=0", "--num_train=120", "--num_test=40", "--num_units=4", "--max_cg_iters=12",
         "--loss=cross_entropy", "--solver=adamw", "--weight_decay=0.01", "--schedule=cosine", "--augment_crop=1",
         "--label_smoothing=0.1"]  # fmt: skip


@pytest.mark.parametrize("model", [
    ["--model=KERV_CNN", "--kervolution_kernel=gaussian"],
    pytest.param(["--model=LAMBDA_RESNET", "--resnet_depth=18"], marks=pytest.mark.slow),
], ids=lambda flags: flags[0][8:])  # fmt: skip
def test_a_killed_run_goes_on_to_the_same_result(directories, model):
    """Weights, running statistics, the optimizer's state and the augmentation's draws come back."""
    command = [ROOT / "train.py", *FLAGS, *model, "--exp_name=killed"]
    run(parse(Config, [*FLAGS, *model, "--exp_name=straight"]))
    folder = directories / "nn_dir" / "killed"
    killed = warm_commands.run(
        command, cwd=ROOT, kill_when=lambda: any("training.npz" in files for *_, files in os.walk(folder))
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(folder.rglob("training.npz")), "it was done before it could be killed"
    resumed = warm_commands.run(command, cwd=ROOT, timeout=400)
    assert resumed.returncode == 0, resumed.stderr
    one, other = (
        results.load(next((directories / "nn_dir" / name).rglob("result.json")).parent)["ridges"][0]
        for name in ("straight", "killed")
    )
    assert other["test_loss"] == pytest.approx(one["test_loss"], rel=1e-4)
    assert other["iterations"] == one["iterations"] == 12
