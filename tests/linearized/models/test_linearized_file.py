"""`--model=path.keras --linearize`: against dense solves, on disk, killed and resumed, its flags, and refusals."""

import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import linearized
from linearized import data
from linearized.base.errors import UserError
from linearized.experiments import train
from linearized.experiments.compare import CompareSettings
from linearized.models.common import load
from linearized.problems.jacobian_problem import JacobianProblem
from linearized.settings.config import parse
from linearized.solvers import SOLVERS
from linearized.storage import results

from .model_files import saved

L = keras.layers
ROWS = {"num_train": 40, "num_test": 30}


@pytest.fixture
def mlp(tmp_path):
    """A saved network of digits, 64 -> 12 -> 10: 910 weights, more than 40 rows have outputs."""
    path = tmp_path / "mlp.keras"
    saved(path, L.Dense(12, "tanh", name="hidden"), L.Dense(10, name="head"))
    return path


def config(path, **more):
    return train.TrainSettings(**{**ROWS, "model": str(path), "linearize": True, **more})


def jacobian(model, x):
    """Return the Jacobian (n k, p) and the outputs (n, k), in float64, of a sequential model with the same weights."""
    twin = keras.Sequential([
        keras.Input(x.shape[1:], dtype="float64"),
        *(L.Dense(layer.units, layer.activation, dtype="float64") for layer in model.layers),
    ])  # fmt: skip
    twin.set_weights(model.get_weights())
    with tf.GradientTape() as tape:
        outputs = twin(tf.constant(x, tf.float64))
    parts = tape.jacobian(outputs, [variable.value for variable in twin.trainable_variables])
    rows = outputs.shape[0] * outputs.shape[1]
    return np.concatenate([one.numpy().reshape(rows, -1) for one in parts], axis=1), outputs.numpy()


def dense(model, x, y, ridge, others, *, offset=True, dual=False):
    """Return the predictions for other rows of the ridge regression on the stored Jacobian."""
    whole, start = jacobian(model, x)
    there, begun = jacobian(model, others)
    right = (y - offset * start).ravel()
    if dual:
        v = whole.T @ np.linalg.solve(whole @ whole.T + ridge * np.eye(len(whole)), right)
    else:
        v = np.linalg.solve(whole.T @ whole + ridge * np.eye(whole.shape[1]), whole.T @ right)
    return offset * begun + (there @ v).reshape(begun.shape)


@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("rows", [40, 120])  # the dual of 400 outputs, the primal of 910 weights
def test_the_solution_is_ridge_regression_on_the_stored_jacobian(mlp, rows, offset):
    model, dataset = load(mlp), data.load("DIGITS", num_train=rows, num_test=20)
    x, y, others = dataset.train.x, dataset.targets(dataset.train), dataset.test.x
    ridge = 1e-3 * rows * np.square(jacobian(model, x)[0]).sum() / rows
    primal = dense(model, x, y, ridge, others, offset=offset)
    np.testing.assert_allclose(dense(model, x, y, ridge, others, offset=offset, dual=True), primal, atol=1e-9)
    problem = JacobianProblem(model, x, y, offset=offset)
    assert problem.dual == (rows == 40)
    for name in ("lanczos", "cg"):
        [found] = SOLVERS.load(name).solve(problem, [ridge], rtol=1e-6, atol=0.0, max_iterations=300)
        room = 1e-4 * np.abs(primal).max()
        np.testing.assert_allclose(problem.predict(others, found.value), primal, atol=room)
    path = linearized.fit_linearization(model, x, y, [ridge, 10 * ridge], offset=offset, rtol=1e-6)
    np.testing.assert_allclose(path.predict(others)[0], primal, atol=room)
    np.testing.assert_allclose(path.model(0).predict(others, verbose=0), primal, atol=room)
    assert np.abs(path.model(1).predict(others, verbose=0) - primal).max() > 10 * room


def test_the_mean_trace_is_that_of_the_empirical_kernel(mlp):
    model, x = load(mlp), data.load("DIGITS", num_train=200, num_test=20).train.x
    problem = JacobianProblem(model, x, np.zeros((200, 10)))
    truth = np.diag(linearized.empirical_ntk(model, x)).mean()
    assert problem.products.mean_trace(x) == pytest.approx(truth, rel=0.15)  # 64 rows, one sign each
    single = saved(mlp, L.Dense(12, "tanh"), L.Dense(1))
    products = JacobianProblem(single, x[:50], np.zeros((50, 1))).products
    truth = np.diag(linearized.empirical_ntk(single, x[:50])).mean()
    assert products.mean_trace(x[:50]) == pytest.approx(truth, rel=1e-5)  # exact for one output


def test_a_run_has_the_record_of_linear_models_and_its_model_predicts(directories, mlp):
    result = train.run(config(mlp, num_train=100, validation=0.2, cg_rtol=1e-5, cg_atol=0.0))
    record, dataset = result.record, data.load("DIGITS", num_train=100, num_test=30, validation=0.2)
    assert len(record["ridges"]) == 19 and record["solver"]["name"] == "lanczos"
    assert record["title"].startswith("mlp linearized on DIGITS") and "_mlp_linearized_noise0_" in result.folder.name
    assert record["model"]["trained_parameters"] == 910 and record["chosen"]["by"] == "validation accuracy"
    assert record["ridges"][-1]["ridge"] / record["ridges"][0]["ridge"] == pytest.approx(1e9)
    trace = np.trace(linearized.empirical_ntk(load(mlp), dataset.train.x)) / len(dataset.train)
    assert record["ridges"][16]["ridge"] == pytest.approx(trace, rel=0.2)  # 10^0 of the grid
    model, arrays = keras.models.load_model(result.folder / "model.keras"), results.load_arrays(result.folder)
    for name in ("train", "validation", "test"):
        outputs = model.predict(dataset.splits()[name].x, verbose=0)
        np.testing.assert_allclose(outputs, arrays[f"predictions/{name}"], atol=1e-4)
    start = load(mlp).predict(dataset.test.x, verbose=0)
    losses = {name: np.square(dataset.targets(dataset.test) - outputs).sum(axis=1).mean()
              for name, outputs in (("start", start), ("fitted", arrays["predictions/test"]))}  # fmt: skip
    assert result.chosen["test_loss"] == pytest.approx(losses["fitted"], rel=1e-3) and result.chosen["test_loss"] < 0.9
    assert record["ridges"][-1]["test_loss"] == pytest.approx(losses["start"], rel=0.05)  # what remains is f(x; θ₀)
    ridge = len(dataset.train) * result.chosen["ridge"]
    expected = dense(load(mlp), dataset.train.x, dataset.targets(dataset.train), ridge, dataset.test.x)
    np.testing.assert_allclose(arrays["predictions/test"], expected, atol=0.02)


def test_every_flag_changes_the_result_and_names_the_run(directories, mlp):
    base = {"reg_index": "10", "cg_rtol": 1e-5, "cg_atol": 0.0}
    changes = [
        {},
        {"tangent_offset": False},
        {"variables": "last_layer"},
        {"variables": "hidden/kernel,head"},
        {"init": "fresh"},
        {"init": "fresh", "seed": 1},
    ]
    trained = {"linearize": False, "solver": "adam", "max_cg_iters": 2, "reg_index": "5"}
    found = {}
    for given in (*({**base, **change} for change in changes), trained):
        made = config(mlp, **given)
        found[made.key()] = train.run(made).chosen["test_loss"]
    assert len(found) == len(changes) + 1 == len({round(loss, 6) for loss in found.values()}), found


@pytest.mark.parametrize("settings", [
    {"loss": "cross_entropy"}, {"solver": "adam", "reg_index": "3"}, {"solver": "sgd", "init": "fresh"},
    {"solver": "cg"},
], ids=str)  # fmt: skip
def test_every_solver_ends_in_a_result(directories, mlp, settings):
    steps = {} if settings.get("solver") == "cg" else {"max_cg_iters": 3}
    result = train.run(config(mlp, **steps, **settings))
    theta, kept = load(mlp).get_weights(), load(result.folder / "model.keras").get_layer("linearization")
    assert np.isfinite(result.chosen["test_loss"])
    for before, after in zip(theta, kept.inner.get_weights(), strict=True):
        assert np.array_equal(before, after) == (settings.get("init") != "fresh" or before.ndim == 1)


def test_images_and_own_targets(directories, tmp_path):
    path, random = tmp_path / "cnn.keras", np.random.default_rng(0)
    saved(path, L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(), L.GlobalAveragePooling2D(), L.Dense(10),
          shape=(8, 8, 1))  # fmt: skip
    result = train.run(config(path, reg_index="8"))
    assert load(result.folder / "model.keras").input_shape == (None, 64)
    path = tmp_path / "targets.keras"
    saved(path, L.Dense(16, "tanh"), L.Dense(2), shape=(3,))
    x = random.normal(size=(80, 3)).astype(np.float32)
    y = np.stack([1000 * np.sin(x[:, 0]), 800 * x[:, 1] + 7000], axis=1)
    result = linearized.train(model=str(path), linearize=True, data=(x, y), validation=0.2)
    assert len(result.table) == 19 and result.model.input_shape == (None, 3)
    for target in (0, 1):
        assert np.corrcoef(result.predict(x)[:, target], y[:, target])[0, 1] > 0.9


def test_it_is_an_entry_of_a_comparison(directories, mlp):
    linear, whole = CompareSettings(models=f"{mlp}:linearize:variables=last_layer,{mlp}", num_train=100).runs().values()
    assert (linear.linearize, linear.variables, linear.working_solver()) == (True, "last_layer", "lanczos")
    assert (whole.linearize, whole.solver) == (False, "adam")


@pytest.mark.parametrize("words, message", [
    (["--model=NN", "--linearize"], "--linearize is read by --model=FILE.keras"),
    (["--model=MLP", "--notangent_offset"], "--tangent_offset is read by --model=FILE.keras with --linearize=True"),
    (["--model=MLP", "--variables=last_layer"], "--variables is read by"),
    (["--model=MLP", "--linearize", "--num_units=8"], "--num_units is read by"),
    (["--model=MLP", "--linearize", "--mixed_precision"], "--mixed_precision is read by"),
    (["--model=MLP", "--linearize", "--learning_rate=0.1"], "--learning_rate is read by"),
    (["--model=MLP", "--linearize", "--reg_index=19"], "this grid has 19 ridges"),
    (["--model=MLP", "--linearize", "--solver=newton_cg", "--max_ncg_iters=2"], "Newton-CG computes in float64"),
    (["--model=MLP", "--solver=lanczos"], "fits RF, NT and, with --linearize, model files"),
])  # fmt: skip
def test_flags_that_change_nothing_are_refused(directories, mlp, words, message):
    with pytest.raises(UserError, match=message):
        parse(train.TrainSettings, [word.replace("MLP", str(mlp)) for word in words])


def test_what_cannot_be_linearized_is_refused_without_traces(directories, mlp, tmp_path):
    still, broken = tmp_path / "still.keras", tmp_path / "broken.keras"
    model = saved(broken, L.Dense(10, name="head"))
    model.layers[0].bias.assign(np.full(10, np.nan))
    model.save(broken)
    saved(still, L.Dense(10, trainable=False))
    for path, settings, words in (
        (broken, {}, "are not finite"), (still, {}, "no weights to train"),
        (mlp, {"variables": "block5"}, "no trainable variable has the name 'block5'"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words) as caught:
            train.run(config(path, **settings))
        assert "\n" not in str(caught.value)
    assert not any((directories / "nn_dir").rglob("*linearized*"))


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(directories, mlp):
    flags = [f"--model={mlp}", "--linearize", "--num_train=60", "--num_test=40", "--reg_index=4:12",
             "--checkpoint_seconds=0", "--cg_rtol=1e-5", "--cg_atol=0"]  # fmt: skip
    straight = train.run(parse(train.TrainSettings, [*flags, "--exp_name=straight"]))
    folder = directories / "nn_dir" / "killed"
    words = [sys.executable, "-m", "linearized", "train", *flags, "--exp_name=killed"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not list(folder.rglob("lanczos-0*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    states = [path.name for path in folder.rglob("lanczos-*")]
    assert states and not list(folder.rglob("result.json"))
    resumed = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    again = results.load(next(folder.rglob("result.json")).parent)
    for first, second in zip(straight.record["ridges"], again["ridges"], strict=True):
        assert second["test_loss"] == pytest.approx(first["test_loss"], rel=1e-4)
        assert second["iterations"] == first["iterations"]
    assert not list(folder.rglob("unfinished"))


def test_fit_linearization_chooses_its_grid_and_refuses_what_does_not_fit(mlp):
    model, x = load(mlp), data.load("DIGITS", num_train=12, num_test=10).train.x
    y = np.random.default_rng(0).standard_normal((12, 10))
    path = linearized.fit_linearization(model, x, y)
    assert path.predict(x[:3]).shape == (19, 3, 10) and path.ridges[-1] / path.ridges[0] == pytest.approx(1e9)
    gaps = np.abs(path.predict(x) - y).max(axis=(1, 2))
    assert gaps[4] < 0.05 < 0.5 < gaps[-1] and path.solver == "lanczos"
    before = path.predict(x)
    model.set_weights([0 * weights for weights in model.get_weights()])  # the path keeps a copy
    np.testing.assert_array_equal(path.predict(x), before)
    for words, arguments in (
        (r"has outputs \(12, 10\)", {"y": y[:, :3]}), ("solver is one of", {"solver": "eigh"}),
        ("Ridges must be finite", {"ridges": [-1.0]}), ("labels are not finite", {"y": y * np.nan}),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            linearized.fit_linearization(load(mlp), x, **{"y": y, **arguments})
