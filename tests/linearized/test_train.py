"""The main job from settings to a result's folder, on the digits that need no download."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from linearized import data
from linearized.base.errors import UserError
from linearized.base.weights import first_layer
from linearized.data.loading import load_preprocessed
from linearized.experiments import finetune, krr, train
from linearized.experiments.finetune_settings import FinetuneSettings
from linearized.experiments.gradient_fit import loss_change
from linearized.experiments.krr import KernelFitSettings
from linearized.experiments.train import TrainSettings as Config
from linearized.experiments.train import run
from linearized.models.common import load as load_model
from linearized.settings.config import parse
from linearized.solvers import LEAST_SQUARES
from linearized.storage import results
from linearized.storage.result_schema import SETTLED, settled

from .. import warm_commands

ROOT = Path(__file__).resolve().parent.parent.parent
BY_CG = {"solver": "cg", "num_units": 8, "num_train": 100, "max_cg_iters": 700}
BY_LANCZOS = {"solver": "lanczos"}
SMALL = {"num_units": 32, "num_train": 200, "num_test": 100}
SYNTH = {"dataset": "SYNTH", "synth_n": 300, "synth_dim": 64, "synth_eta": 0.5}


def metrics(result):
    return [
        (entry["ridge"], entry["train_loss"], entry["test_loss"], entry["test_accuracy"])
        for entry in result.record["ridges"]
    ]


def test_rf_over_the_grid_leaves_a_whole_result(directories):
    result = run(Config(num_units=200, num_train=400, validation=0.25))
    record = result.record
    assert len(record["ridges"]) == 20
    assert record["data"]["n_train"] == 300
    assert record["data"]["n_validation"] == 100
    assert record["chosen"]["by"] == "validation accuracy"
    assert result.chosen["test_accuracy"] > 0.8
    best = max(entry["validation_accuracy"] for entry in record["ridges"])
    assert result.chosen["validation_accuracy"] == best
    assert sorted(path.name for path in result.folder.iterdir()) == ["arrays.h5", "model.keras", "result.json"]
    arrays = results.load_arrays(result.folder)
    dataset = data.load("DIGITS", num_train=400, validation=0.25)
    outputs = keras.models.load_model(result.folder / "model.keras").predict(dataset.test.x, verbose=0)
    np.testing.assert_allclose(outputs, arrays["predictions/test"], atol=1e-4)
    assert (outputs.argmax(axis=1) == dataset.test.y).mean() == pytest.approx(result.chosen["test_accuracy"], abs=0.01)


def test_rf_by_cg_is_kernel_ridge_regression_in_the_dual(directories):
    """Primal CG with features against the dual with K = ΦΦᵀ + 11ᵀ in float64, at ρ = nλ."""
    tight = Config(**SMALL, solver="cg", cg_rtol=3e-7, cg_atol=0.0, max_cg_iters=3000, reg_index="8,12,16")
    result = run(tight)
    dataset = data.load("DIGITS", num_train=200, num_test=100)
    weights = first_layer(dataset.dim, 32).astype(np.float64)
    features = {name: np.maximum(split.x @ weights, 0) for name, split in dataset.splits().items()}
    gram, cross = features["train"] @ features["train"].T + 1, features["test"] @ features["train"].T + 1
    for entry in result.record["ridges"]:
        alpha = np.linalg.solve(gram + 200 * entry["ridge"] * np.eye(200), dataset.targets(dataset.train))
        loss = np.square(cross @ alpha - dataset.targets(dataset.test)).sum(axis=1).mean()
        assert entry["converged"]
        assert entry["test_loss"] == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("solver", LEAST_SQUARES)
@pytest.mark.parametrize("model", ["RF", "NT"])
def test_all_solvers_give_one_table(directories, model, solver):
    settings = {**SMALL, "model": model, "reg_index": "10:18", "cg_rtol": 1e-6, "cg_atol": 0.0}
    one, other = run(Config(**settings)), run(Config(**settings, solver=solver))
    np.testing.assert_allclose(metrics(one), metrics(other), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("settings", [
    {"model": "NN", "reg_index": "0,10", "max_cg_iters": 3}, {"model": "NN", "num_layers": 2, "drop_rate": 0.2},
    {"model": "CNN", "num_units": 4, "depth": 7}, {"model": "NT", "num_units": 8, "directions": "per_class"},
    {"model": "RF", "loss": "cross_entropy"}, {"model": "NT", "num_units": 8, "solver": "sgd", "dataset": "NDIGITS"},
    {"model": "NN", "loss": "cross_entropy", "max_ncg_iters": 2},
    {"model": "RF", "loss": "cross_entropy", "solver": "newton_cg", "max_ncg_iters": 3},
    {**SYNTH, "law": "gaussian", "block": 10},
], ids=str)  # fmt: skip
def test_every_road_ends_in_a_result(directories, settings):
    steps = {} if settings.get("solver") == "newton_cg" else {"max_cg_iters": 2}
    result = run(Config(**{**steps, **SMALL, **settings}))
    assert np.isfinite(result.chosen["test_loss"])
    keras.models.load_model(result.folder / "model.keras")


def test_every_setting_that_decides_the_result_changes_it(directories):
    """A flag exists because it changes something: each change below moves the first one's test loss."""
    base = {"max_cg_iters": 2, "reg_index": "5", **SMALL}
    changes = {
        "RF": [
            {}, {"law": "gaussian"}, {"block": 10}, {"weight_seed": 1}, {"noise_ind": 3}, {"num_train": 150},
            {"num_test": 50}, {"subset": "random"}, {"subset": "random", "seed": 1},
            {"dataset": "NDIGITS", "noise_ind": 3}, {"reg_index": "19"}, {"cg_rtol": 0.9, "solver": "lanczos"},
            {"num_units": 16}, {"validation": 0.5},
        ],
        "RF by Lanczos": [{**BY_LANCZOS}, {**BY_LANCZOS, "max_cg_iters": 1}, {**BY_LANCZOS, "cg_rtol": 0.9},
                          {**BY_LANCZOS, "cg_atol": 0.3}],
        "NN": [{}, {"learning_rate": 0.01}, {"drop_rate": 0.5}, {"num_layers": 2}, {"seed": 1}, {"solver": "adam"},
               {"loss": "cross_entropy"}, {"max_ncg_iters": 1}],
        "CNN": [{"num_units": 4}, {"num_units": 4, "depth": 7}, {"num_units": 4, "max_batch_size": 200}],
        "NT": [{}, {"directions": "per_class"}, {"weight_seed": 1}],
        "NT by CG": [{**BY_CG}, {**BY_CG, "cg_rtol": 0.5}],
        "RF by Adam": [{"solver": "adam"}, {"solver": "adam", "max_batch_size": 50}, {"solver": "sgd"}],
        "RF on SYNTH": [
            {**SYNTH}, {**SYNTH, "synth_n": 400}, {**SYNTH, "synth_dim": 81}, {**SYNTH, "synth_eta": 0.6},
            {**SYNTH, "noise_ind": 5},
        ],
    }  # fmt: skip
    for name, variants in changes.items():
        model = name.split()[0]
        losses = [run(Config(**{**base, "model": model, **variant})).chosen["test_loss"] for variant in variants]
        moved = [abs(loss - losses[0]) > 1e-6 for loss in losses[1:]]
        assert all(moved), dict(zip(map(str, variants), losses, strict=True))


def test_memory_decides_whether_features_are_kept_and_changes_no_number(directories):
    settings = {"num_units": 1000, "num_train": 1000, "cg_rtol": 1e-6, "cg_atol": 0.0, "reg_index": "8:12"}
    kept = run(Config(**settings, memory=1.0))
    recomputed = run(Config(**settings, memory=1e-3, exp_name="other"))
    assert recomputed.record["solver"]["features"] == "recomputed" != kept.record["solver"]["features"]
    np.testing.assert_allclose(metrics(kept), metrics(recomputed), rtol=1e-3, atol=3e-3)


def test_names_tensorboard_and_job_land_where_they_are_asked_to(directories):
    config = Config(**SMALL, model="NN", max_cg_iters=2, tensorboard=True, job_id=7, exp_name="mine")
    result = run(config)
    assert result.folder.parent == directories / "nn_dir" / "mine"
    assert result.folder.name.endswith("_job7")
    assert list(result.folder.rglob("events.out.tfevents.*"))


def test_random_features_were_published_with_nesterov_momentum():
    assert Config(solver="sgd").recipe_settings()["momentum"] == "nesterov"
    assert Config(model="NN").recipe_settings()["momentum"] == "classical"
    assert Config(model="NN", momentum="keras").recipe_settings()["momentum"] == "keras"


@pytest.mark.parametrize("settings", [{}, {"reg_index": "0,1"}, {"solver": "adam", "model": "RF"}], ids=str)
def test_divergence_in_the_first_epoch_is_refused_without_traces(directories, settings):
    config = Config(**{"model": "NN", "num_units": 8, "num_train": 100, "num_test": 50, "max_cg_iters": 3,
                       "learning_rate": 1e30, **settings})  # fmt: skip
    with pytest.raises(UserError, match=r"Lower --learning_rate") as caught:
        run(config)
    assert "\n" not in str(caught.value)
    assert not list((directories / "nn_dir").rglob("*.*"))


def test_gradient_training_converged_where_its_loss_settled(directories):
    moving = run(Config(**SMALL, model="NN", max_cg_iters=20))
    entry = moving.chosen
    assert entry["converged"] is False and not entry["diverged"] and entry["iterations"] == 20
    assert -1 < entry["loss_change"] < -SETTLED
    assert moving.record["chosen"]["flaw"] == "not converged"
    still = run(Config(**SMALL, model="NN", max_cg_iters=20, learning_rate=1e-9))
    assert still.chosen["converged"] is True and abs(still.chosen["loss_change"]) <= SETTLED
    assert "flaw" not in still.record["chosen"]
    few = run(Config(**SMALL, model="NN", max_cg_iters=8, learning_rate=1e-9))  # too few to show it
    assert abs(few.chosen["loss_change"]) <= SETTLED and few.chosen["converged"] is False
    assert few.record["chosen"]["flaw"] == "not converged"


@pytest.mark.parametrize(("change", "epochs", "warm_up", "answer"), [
    (0.001, 2, 0, False), (0.001, 9, 0, False), (0.001, 10, 0, True), (0.001, 20, 15, True), (0.001, 16, 15, False),
    (0.1, 100, 0, False), (None, 100, 0, False), (0.001, 15, 15, False), (-0.02, 100, 15, True),
])  # fmt: skip
def test_few_epochs_and_a_warm_up_do_not_show_that_a_loss_settled(change, epochs, warm_up, answer):
    assert settled(change, epochs, warm_up) is answer


def test_loss_change_compares_the_last_two_tenths():
    history = np.concatenate([np.full(80, 5.0), np.full(10, 4.0), np.full(10, 3.0)])
    assert loss_change(history) == pytest.approx(-0.25)
    assert loss_change(np.array([2.0, 1.0])) == pytest.approx(-0.5)
    assert loss_change(np.array([2.0])) is None


@pytest.mark.parametrize("settings, schedule", [
    ({"lambda_variant": "published"}, "lambda"), ({"lambda_variant": "unpermuted"}, "lambda"), ({}, "published"),
    ({"lambda_variant": "published", "schedule": "cosine"}, "cosine"), ({"schedule": "lambda"}, "lambda"),
], ids=str)  # fmt: skip
def test_published_lambda_networks_are_trained_by_their_own_schedule(settings, schedule):
    assert Config(model="LAMBDA_RESNET", **settings).recipe_settings()["schedule"] == schedule


def test_a_finished_run_is_read_back(directories):
    config = Config(**SMALL, reg_index="10")
    first, again = run(config), run(dataclasses.replace(config, memory=1.0))
    assert first.fresh and not again.fresh
    assert again.record == first.record


def test_aliases_are_the_same_run():
    assert Config(model="2layerNTK") == Config(model="NT")
    assert Config(model="FullyConnected").run_name() == Config(model="NN").run_name()


@pytest.mark.parametrize("settings, word", [
    ({"model": "RFF"}, "RF"), ({"dataset": "FMNITS"}, "FMNIST"), ({"num_units": 0}, "at least 1"),
    ({"max_batch_size": 0}, "at least 1"), ({"noise_ind": -1}, "0..14"), ({"model": "CNN", "depth": 6}, "5, 7, 10"),
    ({"model": "NN", "solver": "cg"}, "square loss"), ({"solver": "cg", "loss": "cross_entropy"}, "square loss"),
    ({"solver": "newton_cg"}, "max_ncg_iters"), ({"solver": "gd"}, "auto"),
    ({"max_ncg_iters": 3}, "read by --solver=sgd, adam, adamw, newton_cg"),
    ({"learning_rate": float("nan")}, "finite"), ({"max_batch_size": 100}, "read by --solver=sgd, adam"),
    ({"model": "NN", "momentum": "classical"}, "published rule"), ({"momentum": "keras"}, "solver=sgd"),
    ({"solver": "sgd", "momentum": "nesterov"}, "published rule"),
    ({"model": "NN", "schedule": "lambda", "warm_up_epochs": 0}, "at least 1"),
])  # fmt: skip
def test_bad_settings_are_refused_at_once(settings, word):
    with pytest.raises(UserError, match=word):
        Config(**settings)


@pytest.mark.parametrize("settings, word", [
    ({"noise_ind": 15}, "0..14"), ({"dataset": "NDIGITS", "noise_ind": 8}, "0..7"), ({"reg_index": "20"}, "0..19"),
    ({"num_train": 10**6}, "rows"), ({"validation": 10**6}, "validation"),
    ({"dataset": "SYNTH", "model": "NN", "loss": "cross_entropy"}, "square"),
])  # fmt: skip
def test_what_the_data_refuse_leaves_no_trace(directories, settings, word):
    with pytest.raises(UserError, match=word):
        run(Config(**settings))
    assert not (directories / "nn_dir").exists()


def command(*flags):
    return [sys.executable, str(ROOT / "train.py"), *flags]


def trained(*flags, **options):
    """Code and outputs of `python train.py` with these flags, in a fork of a process that has imported frameworks."""
    return warm_commands.run([ROOT / "train.py", *flags], cwd=ROOT, **options)


@pytest.mark.parametrize("flags, words", [
    (["--model=XF"], ["Unknown", "RF"]), (["--modle=RF"], ["modle", "model"]), (["--num_units=many"], ["num_units"]),
    (["RF"], ["RF", "--name=value"]), (["--noise_ind=99"], ["0..14"]),
    (["--dataset=CIFAR10"], ["CIFAR10", "linearized data"]),
])  # fmt: skip
def test_a_bad_command_is_one_line_and_code_2(directories, flags, words, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a download fails at once
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    done = trained(*flags)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in errors[0]


def test_an_unwritable_folder_is_one_line(directories):
    directories.mkdir()
    (directories / "nn_dir").write_text("a file where a folder should be")
    done = trained("--num_units=8")
    assert done.returncode == 2
    assert "nn_dir" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("limit", [2**10, 2**14, 2**19], ids=["1 KiB", "16 KiB", "512 KiB"])
def test_a_full_disk_is_one_line_and_leaves_no_half_result(directories, limit):
    """The system refuses to write beyond `limit` bytes a file, as a full disk refuses: at three places of the run."""

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    flags = ["--model=NN", "--num_units=1500", "--max_cg_iters=1"]
    done = subprocess.run(command(*flags), capture_output=True, text=True, timeout=300, preexec_fn=small_disk)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    left = [path.name for path in directories.rglob("*") if path.is_file() and "cache" not in str(path)]
    assert set(left) <= {"training.npz", "ridge_000.h5"}, left
    assert run(parse(Config, flags)).fresh


def test_help_needs_no_framework():
    probe = "import sys, train; assert not {'tensorflow', 'keras', 'jax', 'pandas', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True, timeout=60)
    done = subprocess.run(command("--help"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for field in dataclasses.fields(Config):
        assert f"--{field.name}=" in done.stdout


@pytest.mark.parametrize("model", ["RF", "NT"])
def test_a_linear_model_is_solved_and_saved_without_a_framework(directories, model):
    """One cold process; what it wrote is a Keras model that predicts as its result says."""
    probe = (
        "import sys; from linearized.cli.train import command\n"
        f"words = ['--model={model}', '--num_units=8', '--num_train=60', '--num_test=30', '--validation=10']\n"
        "assert command(words) == 0\n"
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, timeout=300)
    config = train.TrainSettings(model=model, num_units=8, num_train=60, num_test=30, validation=10.0)
    dataset = load_preprocessed(config, 0)
    fitted = load_model(config.folder() / "model.keras")
    expected = results.load_arrays(config.folder(), "predictions")["predictions/test"]
    np.testing.assert_allclose(np.asarray(fitted(dataset.test.x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["RF", "NT"])
def test_a_run_without_its_model_needs_no_framework_and_says_so_to_all_that_want_it(directories, model):
    words = [f"--model={model}", "--num_units=8", "--num_train=60", "--num_test=30"]
    probe = (
        "import sys; from linearized.cli.train import command\n"
        f"assert command({[*words, '--no_model']}) == 0\n"
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, timeout=300)
    folder = Config(model=model, num_units=8, num_train=60, num_test=30).folder()
    assert results.load(folder)["settings"]["no_model"] is True
    again = trained(*words)
    assert again.returncode == 0
    assert "the run was made with --no_model" in " ".join(again.stdout.split())
    assert not (folder / "model.keras").exists()
    missing = str(folder / "model.keras")
    for wanting in (
        lambda: load_model(missing),
        lambda: run(Config(model=missing, num_train=60)),
        lambda: finetune.run(FinetuneSettings(model=missing, dataset="DIGITS")),
        lambda: krr.run(KernelFitSettings(kernel="EMPIRICAL", model=missing)),
    ):
        with pytest.raises(UserError, match="--no_model"):
            wanting()


@pytest.mark.parametrize("flags", [["train"], ["krr", "--kernel=RF"]], ids=["train", "krr"])
def test_the_table_is_printed_before_pictures_are_imported_and_drawn(directories, flags):
    probe = (
        "import sys\nfrom linearized.cli import main\nfrom linearized.experiments import table\n"
        "print_table, slow = table.print_table, {'matplotlib', 'pandas', 'tensorflow', 'keras'}\n"
        "def checked(record):\n    assert not slow & set(sys.modules)\n    print_table(record)\n"
        "table.print_table = checked\n"
        f"assert main({[*flags, '--num_train=60', '--num_test=30']}) == 0\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], check=True, timeout=300, capture_output=True, text=True)
    assert "test accuracy" in done.stdout
    assert len(list(directories.rglob("curves.png"))) == 1


def entries(folder):
    """Count the files and folders below `folder`. `os.walk` bears with those that vanish meanwhile."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


@pytest.mark.parametrize("flags", [
    ["--model=NN", "--max_cg_iters=15", "--reg_index=0,5", "--drop_rate=0.1"],
    ["--model=NT", "--num_units=32", "--num_train=100", "--reg_index=8:20", "--cg_rtol=1e-5", "--cg_atol=0"],
], ids=["sgd", "lanczos"])  # fmt: skip
def test_a_killed_run_goes_on_and_ends_the_same(directories, flags):
    flags = ["--checkpoint_seconds=0", "--num_units=64", "--num_train=300", "--num_test=100", *flags]
    run(parse(Config, [*flags, "--exp_name=straight"]))
    folder = directories / "nn_dir" / "killed"
    for codes in [(-signal.SIGKILL,), (-signal.SIGKILL, 0)]:  # the second one may end first
        most = entries(folder) + 1
        killed = trained(*flags, "--exp_name=killed", kill_when=lambda most=most: entries(folder) > most)
        assert killed.returncode in codes, killed.stderr
    resumed = trained(*flags, "--exp_name=killed")
    assert resumed.returncode == 0, resumed.stderr
    one, other = (
        results.load(next((directories / "nn_dir" / name).rglob("result.json")).parent)
        for name in ("straight", "killed")
    )
    for first, second in zip(one["ridges"], other["ridges"], strict=True):
        assert second["test_loss"] == pytest.approx(first["test_loss"], rel=1e-6)
        assert second["test_accuracy"] == first["test_accuracy"]
    assert not list(folder.rglob("unfinished"))


def test_two_runs_in_one_folder_do_not_mix(directories):
    from linearized.storage.files import claimed

    config = Config(**SMALL, reg_index="10")
    with (
        claimed(directories / "nn_dir" / config.exp_name / config.run_name()),
        pytest.raises(UserError, match="Another process"),
    ):
        run(config)


def test_divergence_is_told_and_keeps_finite_weights(directories):
    done = trained("--model=NN", "--learning_rate=1e9", "--max_cg_iters=20", "--num_units=32")
    assert done.returncode == 2
    assert "diverged" in done.stderr
    record = results.load(next((directories / "nn_dir").rglob("result.json")).parent)
    assert record["ridges"][0]["diverged"]
    assert np.isfinite(record["ridges"][0]["test_loss"])


def test_hidden_layers_are_counted_for_models_and_kernels_alike():
    assert train.hidden_layers(Config(model="NN", num_layers=3)) == 3
    assert train.hidden_layers(Config(model="RF")) == 1
    assert train.hidden_layers(Config(model="CNN", depth=7)) == 6


def test_the_validation_loss_of_each_epoch_is_kept_and_drawn(directories):
    settings = {"model": "NN", "num_units": 8, "num_train": 60, "num_test": 20, "max_cg_iters": 3, "reg_index": "0,1"}
    result = run(Config(**settings, validation=20))
    arrays = results.load_arrays(result.folder, "history")
    for place, entry in enumerate(result.record["ridges"]):
        kept = arrays[f"history/{entry['index']:03d}_validation"]
        assert kept.shape == (3,)
        assert kept[-1] == pytest.approx(result.record["ridges"][place]["validation_loss"], rel=1e-4)
