"""The backend of Keras: JAX for long runs of NN on a CPU, if nothing has decided it or needs TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.experiments import backend_choice
from linearized.experiments.backend_choice import chosen_backend
from linearized.experiments.train import TrainSettings, run
from linearized.models import backend
from linearized.storage.results import load, load_arrays

ROOT = Path(__file__).parents[3]
LONG = {"dataset": "DIGITS", "model": "NN", "num_units": 4096, "max_cg_iters": 3000}
BATCH = 128
SHORT = {"dataset": "DIGITS", "model": "NN", "num_units": 16, "max_cg_iters": 3, "reg_index": "5", "num_train": 200}


@pytest.fixture
def undecided(monkeypatch):
    """Nothing has decided the backend, and there is no accelerator."""
    monkeypatch.setattr(backend_choice, "settled_backend", lambda: None)
    monkeypatch.setattr(backend_choice, "may_have_accelerator", lambda: False)


@pytest.mark.parametrize(
    "settings, alone, chosen, reason",
    [
        ({}, True, "jax", "faster"),
        ({}, False, "tensorflow", "other models"),
        ({"max_cg_iters": 3}, True, "tensorflow", "not worth compiling"),
        ({"max_ncg_iters": 1}, True, "tensorflow", "--max_ncg_iters"),
        ({"tensorboard": True}, True, "tensorflow", "--tensorboard"),
        ({"mixed_precision": True}, True, "tensorflow", "--mixed_precision"),
        ({"tangent_at": "end"}, True, "tensorflow", "--tangent_at"),
        ({"model": "SNNK_MLP"}, True, "tensorflow", "SNNK_MLP"),
        ({"backend": "jax"}, False, "jax", "--backend=jax"),
        ({"backend": "tensorflow"}, True, "tensorflow", "--backend=tensorflow"),
    ],
)
def test_long_runs_of_nn_are_on_jax_unless_something_needs_tensorflow(undecided, settings, alone, chosen, reason):
    found, why = chosen_backend(TrainSettings(**{**LONG, **settings}), 1437, BATCH, alone=alone)
    assert found == chosen
    assert reason in why


@pytest.mark.parametrize("rows, batch, chosen", [(9999, 256, "jax"), (9999, 257, "tensorflow"), (200, 1000, "jax")])
def test_large_batches_keep_tensorflow(undecided, rows, batch, chosen):
    settings = TrainSettings(**{**LONG, "max_cg_iters": 30_000})
    found, why = chosen_backend(settings, rows, batch, alone=True)
    assert found == chosen
    assert ("batches of" in why) == (chosen == "tensorflow")


def test_an_accelerator_keeps_tensorflow(undecided, monkeypatch):
    monkeypatch.setattr(backend_choice, "may_have_accelerator", lambda: True)
    found, why = chosen_backend(TrainSettings(**LONG), 1437, BATCH, alone=True)
    assert found == "tensorflow" and "accelerator" in why


def test_a_decided_backend_stays_and_another_one_is_refused(monkeypatch):
    monkeypatch.setattr(backend_choice, "settled_backend", lambda: "torch")
    assert chosen_backend(TrainSettings(**LONG), 1437, BATCH, alone=True)[0] == "torch"
    with pytest.raises(UserError, match=r"Keras is on torch.*--backend=jax.*KERAS_BACKEND=jax"):
        chosen_backend(TrainSettings(**LONG, backend="jax"), 1437, BATCH, alone=True)


@pytest.mark.parametrize("flag, value", [("max_ncg_iters", 2), ("tensorboard", True)])
def test_jax_is_refused_where_tensorflow_is_needed(flag, value):
    with pytest.raises(UserError, match=f"--{flag} needs --backend=tensorflow"):
        TrainSettings(**LONG, backend="jax", **{flag: value})


def test_imports_environment_and_keras_file_decide_in_this_order(tmp_path, monkeypatch):
    import keras

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert backend.settled_backend() == keras.backend.backend()
    monkeypatch.delitem(sys.modules, "keras")
    assert backend.settled_backend() == "torch"
    monkeypatch.delenv("KERAS_BACKEND")
    assert backend.settled_backend() is None
    for text, decided in (('{"backend": "jax"}', "jax"), ('{"backend": "tensorflow"}', None), ("{", None)):
        (tmp_path / "keras.json").write_text(text)
        assert backend.settled_backend() == decided


def test_the_command_trains_on_jax_and_gives_the_results_of_tensorflow(tmp_path, directories):
    """The command is a process of its own, whose bound of long runs is lowered; this process has TensorFlow."""
    ours = run(TrainSettings(**SHORT))
    code = (
        "import sys; from linearized.experiments import backend_choice; from linearized.cli.train import command\n"
        "backend_choice.WORTH_XLA, backend_choice.may_have_accelerator = 0, lambda: False\n"
        "code = command(sys.argv[1:]); import keras, os\n"
        "assert keras.backend.backend() == 'jax' and 'KERAS_BACKEND' not in os.environ; sys.exit(code)"
    )
    unset = ("KERAS_BACKEND", "DIRECTORIES")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"LINEARIZED_STORAGE": str(tmp_path / "jax"), "PYTHONPATH": str(ROOT)}
    words = [f"--{name}={value}" for name, value in SHORT.items()]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "Keras on jax: faster" in done.stderr
    (record,) = (tmp_path / "jax").rglob("result.json")
    theirs = load(record.parent)
    assert (theirs["solver"]["backend"], load(ours.folder)["solver"]["backend"]) == ("jax", "tensorflow")
    assert "faster on a CPU" in json.dumps(theirs["solver"])
    found = load_arrays(record.parent, "predictions")
    for split, values in load_arrays(ours.folder, "predictions").items():
        np.testing.assert_allclose(found[split], values, rtol=1e-4, atol=1e-5)
