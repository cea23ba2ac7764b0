"""Kernel ridge regression from settings to a result's folder, and as a library call."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import kernel_gen
from linearized import data
from linearized.base.errors import UserError
from linearized.data.loading import load_preprocessed
from linearized.experiments.kernel_record import hidden_layers
from linearized.experiments.krr import KernelFitSettings as Config
from linearized.experiments.krr import run
from linearized.kernel_ridge import gram_source as gram_files
from linearized.kernel_ridge.embedded_fit import fit_embedding
from linearized.kernel_ridge.ridge_path import fit
from linearized.settings.config import parse
from linearized.settings.gram_settings import GramSettings
from linearized.solvers import GRAM_SOLVERS, auto_gram
from linearized.storage import results

from .. import warm_commands

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = {"num_train": 120, "num_test": 60}
RIDGES = [0.1, 1.0, 30.0, 1000.0]


def rows(n=80, d=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def gram_of(x, z=None):
    return (1 + x @ (x if z is None else z).T) ** 2


def metrics(result):
    names = ("ridge", "train_loss", "test_loss", "test_accuracy", "test_r2")
    return np.array([[entry[name] for name in names] for entry in result.record["ridges"]])


# The library call


@pytest.mark.parametrize("solver", ["auto", *GRAM_SOLVERS])
@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_a_path_is_the_solution_at_every_ridge(solver, outputs):
    x, z, random = rows(), rows(20, seed=1), np.random.default_rng(2)
    gram, y = gram_of(x), random.standard_normal(80 if outputs is None else (80, outputs))
    given = gram.copy()
    path = fit(gram, y, RIDGES, solver=solver, rtol=1e-10)
    np.testing.assert_array_equal(gram, given)
    assert path.alpha.shape == (4, 80, outputs or 1)
    predicted = path.predict(gram_of(z, x))
    for i, ridge in enumerate(RIDGES):
        alpha = np.linalg.solve(gram + ridge * np.eye(80), y).reshape(80, -1)
        np.testing.assert_allclose(path.alpha[i], alpha, atol=1e-6 * np.abs(alpha).max())
        np.testing.assert_allclose(predicted[i], gram_of(z, x) @ alpha, atol=1e-6)
        assert path.solutions[i].converged
        assert path.solutions[i].ridge == ridge


@pytest.mark.parametrize("solver", GRAM_SOLVERS)
def test_the_order_of_the_ridges_is_kept(solver):
    gram, y = gram_of(rows()), rows(80, 2, seed=3)
    up, down = fit(gram, y, RIDGES, solver=solver, rtol=1e-9), fit(gram, y, RIDGES[::-1], solver=solver, rtol=1e-9)
    np.testing.assert_allclose(up.alpha, down.alpha[::-1], atol=1e-6 * np.abs(up.alpha).max())


def test_whole_numbers_are_a_gram_matrix_too():
    gram = np.array([[4, 1], [1, 3]])
    np.testing.assert_allclose(fit(gram, [1, 2], [1]).alpha[0, :, 0], np.linalg.solve(gram + np.eye(2), [1, 2]))


def broken(value):
    gram = gram_of(rows())
    gram[3, 7] = value
    return gram


@pytest.mark.parametrize("gram, y, ridges, words", [
    (broken(-50.0), np.ones(80), [1.0], "symmetric"), (broken(np.nan), np.ones(80), [1.0], "finite"),
    (np.ones((80, 60)), np.ones(80), [1.0], "square"), (gram_of(rows()), np.ones(70), [1.0], "70 labels"),
    (gram_of(rows()), np.full(80, np.inf), [1.0], "labels are not finite"),
    (gram_of(rows()), np.ones(80), [1.0, -2.0], "at least 0"), (gram_of(rows()), np.ones(80), [], "one at least"),
    (gram_of(rows()), np.ones(80), [np.nan], "finite"), (gram_of(rows()), np.ones((2, 3, 4)), [1.0], "Labels must be"),
    (gram_of(rows()).astype(complex), np.ones(80), [1.0], "real"), (gram_of(rows()), ["a"] * 80, [1.0], "real"),
    (gram_of(rows()), np.ones(80), ["x"], "real"), ([[1.0, 2.0], [3.0]], np.ones(2), [1.0], "cannot read it"),
], ids=["uneven", "NaN", "oblong", "size", "infinite", "negative", "none", "NaN ridge", "3-D", "complex", "text",
        "text as ridge", "ragged"])  # fmt: skip
@pytest.mark.parametrize("solver", ["auto", "block_lanczos"])
def test_what_cannot_be_solved_is_refused_in_words(gram, y, ridges, words, solver):
    with pytest.raises(UserError, match=words):
        fit(gram, y, ridges, solver=solver)


def test_an_unknown_solver_names_the_others():
    with pytest.raises(UserError, match="cholesky"):
        fit(np.eye(3), np.ones(3), [1.0], solver="cholesk")
    with pytest.raises(UserError, match="one process"):
        fit(np.eye(3), np.ones(3), [1.0], solver="eigh", scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("solver", GRAM_SOLVERS)
def test_ridge_0_of_a_singular_matrix_is_a_verdict_or_an_error_and_never_a_wrong_answer(solver):
    x = rows(40, 3)
    x[1] = x[0]
    gram, y = gram_of(x), np.random.default_rng(0).standard_normal(40)  # y differs where K cannot
    try:
        path = fit(gram, y, [0.0, 1.0], solver=solver)
    except UserError as error:
        assert "ridge" in str(error)
        return
    assert not path.solutions[0].converged
    np.testing.assert_allclose(path.alpha[1, :, 0], np.linalg.solve(gram + np.eye(40), y), rtol=1e-4, atol=1e-6)


def test_predict_wants_the_train_rows_as_columns():
    path = fit(np.eye(3), np.ones(3), [1.0])
    with pytest.raises(UserError, match="column for each of 3"):
        path.predict(np.ones((2, 4)))
    assert path.predict(np.ones((0, 3))).shape == (1, 0, 1)
    np.testing.assert_allclose(path.predict([[1, 2, 3]]), [[[3.0]]])
    with pytest.raises(UserError, match=r"must be finite. Received: nan in entry \[1, 0\]"):
        path.predict(np.array([[1, 2, 3], [np.nan, 0, 0]]))
    with pytest.raises(UserError, match="number of bytes"):
        fit(np.eye(3), np.ones(3), [1.0], memory=-1)
    with pytest.raises(UserError, match="Tolerances"):
        fit(np.eye(3), np.ones(3), [1.0], rtol=np.nan)


def test_more_outputs_than_rows_are_solved_on_features_too():
    random = np.random.default_rng(0)
    features, targets = random.standard_normal((20, 30)), random.standard_normal((20, 50))
    path = fit_embedding(features, targets, [0.5])
    expected = np.linalg.solve(features.T @ features + 0.5 * np.eye(30), features.T @ targets)
    np.testing.assert_allclose(path.alpha[0], expected, atol=1e-7)
    for bad in (np.full((3, 2), np.nan), [[1.0], [1.0, 2.0]], np.ones(3), np.ones((4, 2))):
        with pytest.raises(UserError):
            fit_embedding(bad, np.ones(3), [0.5])


@pytest.mark.parametrize("n, ridges, memory, distributed, name", [
    (1000, 20, 2**30, False, "band"), (1000, 1, 2**30, False, "cholesky"), (50_000, 20, 2**32, False, "block_lanczos"),
    (1000, 20, 2**30, True, "block_lanczos"),
])  # fmt: skip
def test_auto_takes_what_fits_and_says_why(n, ridges, memory, distributed, name):
    found, reason = auto_gram(n, 4, ridges, memory, distributed=distributed)
    assert found == name
    assert len(reason.splitlines()) == 1


# The command's work


def test_a_run_leaves_a_whole_result_with_the_published_numbers(directories):
    """Against K made here in float64 and numpy.linalg.solve, with labels coded by hand."""
    [result] = run(Config(**SMALL, validation=20, dtype="float64"))
    record, arrays = result.record, results.load_arrays(result.folder)
    assert sorted(path.name for path in result.folder.iterdir()) == ["arrays.h5", "result.json"]
    assert [entry["ridge"] for entry in record["ridges"]] == pytest.approx(list(np.logspace(-1, 5, 20)))
    dataset = data.load("DIGITS", validation=20, **SMALL)
    settings = {"scale": "input", "dtype": "float64"}
    gram = kernel_gen.gram("NTK", dataset.train.x, **settings)
    cross = kernel_gen.gram("NTK", dataset.test.x, dataset.train.x, **settings)
    one_hot, labels = np.eye(10)[dataset.train.y], dataset.test.y
    for i, entry in enumerate(record["ridges"]):
        alpha = np.linalg.solve(gram + entry["ridge"] * np.eye(100), one_hot - 0.1)
        outputs = cross @ alpha
        np.testing.assert_allclose(arrays["alpha"][i], alpha, atol=1e-6 * np.abs(alpha).max())
        assert entry["test_accuracy"] == (outputs.argmax(axis=1) == labels).mean()
        loss = np.square(np.eye(10)[labels] - 0.1 - outputs).sum(axis=1).mean()
        assert entry["test_loss"] == pytest.approx(loss, rel=1e-6)
        centred = np.eye(10)[labels] - np.eye(10)[labels].mean(axis=0)
        assert entry["test_r2"] == pytest.approx(1 - loss / np.square(centred).sum(axis=1).mean(), rel=1e-5)
        assert entry["test_relative_risk"] == pytest.approx(loss / record["linear"]["test_loss"], rel=1e-6)
    assert record["chosen"]["by"] == "validation accuracy"
    best = max(entry["validation_accuracy"] for entry in record["ridges"])
    assert result.chosen["validation_accuracy"] == best
    assert record["chosen_published"]["by"] == "test accuracy (published protocol)"
    published = record["ridges"][record["chosen_published"]["position"]]
    assert published["test_accuracy"] == max(entry["test_accuracy"] for entry in record["ridges"])
    assert arrays["predictions/test"].sum(axis=1).mean() == pytest.approx(1, abs=0.3)  # one-hot again, not minus 0.1


@pytest.mark.parametrize("settings, offset", [
    ({"dataset": "CIFAR2", "noise_ind": "2"}, 0.5), ({"dataset": "SYNTH", "synth_n": 300, "synth_dim": 64}, 0.0),
])  # fmt: skip
def test_binary_labels_are_told_by_sign_and_synth_is_raw(small_directories, settings, offset):
    config = Config(**settings, num_train=20, num_test=10, dtype="float64", ridges="0.5,50")
    [result] = run(config)
    dataset = load_preprocessed(config, int(config.noise_ind))
    y, test = dataset.train.y.reshape(-1, 1).astype(float) - offset, dataset.test.y.reshape(-1) - offset
    gram = kernel_gen.gram("NTK", dataset.train.x, scale="input", dtype="float64")
    cross = kernel_gen.gram("NTK", dataset.test.x, dataset.train.x, scale="input", dtype="float64")
    for entry in result.record["ridges"]:
        outputs = (cross @ np.linalg.solve(gram + entry["ridge"] * np.eye(len(y)), y))[:, 0]
        assert entry["test_loss"] == pytest.approx(np.square(outputs - test).mean(), rel=1e-6)
        assert entry["test_accuracy"] == (None if offset == 0 else ((outputs > 0) == (test > 0)).mean())


def test_every_solver_gives_one_table_and_names_its_rule(directories):
    rules = {"band": "generalised cross-validation", "eigh": "leave-one-out accuracy"}
    found = {}
    for solver in GRAM_SOLVERS:
        [result] = run(Config(**SMALL, solver=solver, dtype="float64"))
        found[solver] = metrics(result)
        assert result.record["chosen"]["by"] == rules.get(solver, "test accuracy (published protocol)")
        assert result.record["solver"]["name"] == solver
    for solver, table in found.items():
        np.testing.assert_allclose(table, found["eigh"], rtol=1e-4, atol=1e-5, err_msg=solver)


def test_test_losses_are_predicted_from_the_train_rows(directories):
    config = Config(dataset="SPHERE", noise_ind="5", synth_dim=20, num_train=200, num_test=4000, dtype="float64")
    result = run(config)[0]
    dataset = load_preprocessed(config, 5)
    gram, y = kernel_gen.gram("NTK", dataset.train.x, dtype="float64", scale="input"), dataset.train.y.astype(float)
    for entry in result.record["ridges"]:
        inverse = np.linalg.inv(gram + entry["ridge"] * np.eye(200))
        errors = np.square(inverse @ y / np.diagonal(inverse)[:, None]).sum(axis=1)
        # train labels have noise of variance .25, which those of the test rows do not have
        assert entry["predicted_loss"] == pytest.approx(max(errors.mean() - 0.25, 0), rel=1e-5, abs=1e-7)
        assert entry["predicted_error"] == pytest.approx(errors.std() / np.sqrt(200), rel=1e-4)
        assert entry["predicted_by_gcv"] == pytest.approx(max(entry["gcv"] - 0.25, 0))
        assert abs(entry["predicted_loss"] - entry["test_loss"]) < 4 * entry["predicted_error"]
        scale = entry["test_normalised_loss"] / entry["test_loss"]
        assert entry["predicted_normalised_loss"] == pytest.approx(scale * entry["predicted_loss"])


def test_leave_one_out_is_what_leaving_each_row_out_gives(directories):
    [result] = run(Config(num_train=30, num_test=10, solver="eigh", dtype="float64", ridges="2", kernel="RF"))
    dataset = data.load("DIGITS", num_train=30, num_test=10)
    gram = kernel_gen.gram("RF", dataset.train.x, scale="input", dtype="float64")
    y = dataset.targets(dataset.train, centred=True).astype(float)
    errors = []
    for i in range(30):
        kept = np.arange(30) != i
        alpha = np.linalg.solve(gram[np.ix_(kept, kept)] + 2 * np.eye(29), y[kept])
        errors.append(y[i] - gram[i, kept] @ alpha)
    loss = np.square(errors).sum(axis=1).mean()
    assert result.chosen["leave_one_out_loss"] == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(results.load_arrays(result.folder)["leave_one_out"], errors, atol=1e-6)


def test_levels_give_a_result_each_and_the_matrix_is_found_again(directories, monkeypatch):
    found = run(Config(**SMALL, noise_ind="0,7", ridges="1,100"))
    assert [result.record["settings"]["noise_ind"] for result in found] == [0, 7]
    assert found[0].chosen["test_accuracy"] > found[1].chosen["test_accuracy"]

    def refuse(*_):
        raise AssertionError("a child was started")

    monkeypatch.setattr(gram_files, "run_child", refuse)
    [other] = run(Config(**SMALL, noise_ind="7", ridges="1,100", solver="cg"))
    assert other.fresh
    [again] = run(Config(**SMALL, noise_ind="7", ridges="1,100"))
    assert not again.fresh and again.record == found[1].record


@pytest.mark.parametrize(
    "text, expected", [("3", [3]), ("0,3,6", [0, 3, 6]), ("0:5", [0, 1, 2, 3, 4]), ("12:", [12, 13, 14])]
)
def test_levels_are_read(text, expected):
    assert Config(noise_ind=text).levels() == expected


@pytest.mark.parametrize("settings, words", [
    ({"noise_ind": "15"}, "0..14"), ({"noise_ind": "two"}, "0,3,6"), ({"noise_ind": "5:5"}, "no level"),
    ({"ridges": "1,x"}, "numbers such as"), ({"ridges": "1,-1"}, "at least 0"),
    ({"num_train": 10**6}, "rows"), ({"gram": "nowhere"}, "gram.json"),
    ({"gram": "nowhere", "noise_ind": "0,1"}, "one noise level"), ({"kernel": "CNTK", "depth": 6}, "5, 7 or 10"),
    ({"kernel": "RF", "bias_std": 1.0}, "--bias_std is read by"),
])  # fmt: skip
def test_bad_input_leaves_no_result(directories, settings, words):
    with pytest.raises(UserError, match=words):
        run(Config(**settings))
    assert not (directories / "rkhs_dir").exists()


def test_fewer_train_rows_than_classes_are_fitted(directories):
    [result] = run(Config(dataset="DIGITS", num_train=5, num_test=20, ridges="0.1,1", solver="band"))
    assert np.isfinite([entry["test_loss"] for entry in result.record["ridges"]]).all()


def test_one_class_alone_is_refused(directories, monkeypatch):
    dataset = data.load("DIGITS", num_train=30)
    dataset.train.y[:] = 4
    monkeypatch.setattr("linearized.experiments.krr.load_preprocessed", lambda *_: dataset)
    with pytest.raises(UserError, match="class 4: there is nothing to tell apart"):
        run(Config(num_train=30))


def test_a_ridge_that_float32_does_not_hold_says_so_and_the_others_go_on(directories):
    """A quadratic in 64 coordinates of small images: K's smallest eigenvalues are below float32's rounding."""
    [result] = run(Config(**SMALL, kernel="POLYNOMIAL", ridges="0,1e-9,10", solver="cholesky"))
    told = [entry["message"] for entry in result.record["ridges"]]
    assert "float32" in told[0] and "float32" in told[1] and not told[2]
    assert result.record["ridges"][2]["converged"]


# Shards


def test_a_folder_of_shards_is_used_as_it_is(directories, monkeypatch):
    settings = GramSettings(**SMALL, kernel="NTK", num_layers=2, noise_ind=2, folder=str(directories / "mine"))
    gram_files.run_child([sys.executable, "-m", "kernel_gen", *settings.flags()], settings.command())
    monkeypatch.setattr(gram_files, "run_child", None)
    [result] = run(Config(**SMALL, gram=settings.folder, noise_ind="2"))
    assert result.record["settings"]["num_layers"] == 2
    assert result.record["ridges"][0]["ridge"] == pytest.approx(1e-4)  # the grid of three layers
    for changes, words in (
        ({"noise_ind": "3"}, "--noise_ind=2"), ({"num_train": 100}, "--num_train=120"),
        ({"subset": "random"}, "--subset=first"), ({"kernel": "RF"}, "--kernel=NTK"),
        ({"num_layers": 4}, "--num_layers=2"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            run(Config(**{**SMALL, "gram": settings.folder, "noise_ind": "2", **changes}))


def test_a_damaged_shard_is_made_anew(directories):
    config = Config(**SMALL, ridges="1,10")
    [first] = run(config)
    folder = config.gram_settings(0).path()
    with (folder / "shard_0000.h5").open("r+b") as file:
        file.truncate(1000)
    [again] = run(dataclasses.replace(config, exp_name="again"))
    np.testing.assert_array_equal(metrics(first), metrics(again))
    assert list(folder.glob("*bad*")) or len(list(folder.iterdir())) > 2  # what was damaged is set aside


def test_a_child_that_fails_says_why():
    with pytest.raises(UserError, match="exit code 2: Unknown flag") as caught:
        gram_files.run_child([sys.executable, "-m", "kernel_gen", "--colour=red"], "python -m kernel_gen --colour=red")
    assert "colour" in str(caught.value)
    with pytest.raises(UserError, match="exit code 7: last words"):
        gram_files.run_child([sys.executable, "-c", "print('last words'); raise SystemExit(7)"], "it")


def test_the_flags_of_the_kernel_are_those_of_kernel_gen():
    from kernel_gen.jobs.gram_job import GramJobSettings as Generate

    ours, theirs = ({field.name: field for field in dataclasses.fields(kind)} for kind in (Config, Generate))
    shared = set(ours) & set(theirs) - {"noise_ind"}
    assert {"kernel", "num_layers", "offset", "synth_eta", "num_shards"} <= shared
    assert all(ours[name].default == theirs[name].default for name in shared)
    one = Config(**SMALL, kernel="RF", num_units=7).gram_settings(3)
    assert Generate(**one.to_dict()).path() == one.path()


def test_layers_are_counted_as_models_do():
    assert hidden_layers(Config(kernel="NTK", dense_layers=3)) == 2
    assert hidden_layers(Config(kernel="CNTK", depth=7, dataset="PATCHES")) == 6
    assert hidden_layers(Config(kernel="gp")) == 1
    assert hidden_layers(Config(kernel="poly")) is None


# The command


def command(*flags):
    return [sys.executable, str(ROOT / "kernel_fit.py"), *flags]


def test_the_command_draws_and_prints_each_level(directories):
    flags = ["--num_train=100", "--num_test=40", "--noise_ind=0:2", "--ridges=0.1,10,1000", "--kernel=gp"]
    done = warm_commands.run(command(*flags)[1:], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best linear fit") == 2
    assert "RF kernel on DIGITS, n = 100" in done.stdout
    pictures = list((directories / "rkhs_dir").rglob("curves.png"))
    assert len(pictures) == 2 and all(path.stat().st_size > 5000 for path in pictures)
    table = results.collect(directories)
    assert set(table["model"]) == {"RF kernel"} and sorted(table["noise_ind"]) == [0, 1]
    again = warm_commands.run(command(*flags)[1:], cwd=ROOT)
    assert again.stdout == done.stdout


def test_bad_flags_are_one_line(directories):
    for flags, word in ((["--kernel=NTKK"], "POLYNOMIAL"), (["--ridges=a"], "--ridges"), (["--gram=x"], "gram.json")):
        done = warm_commands.run(command(*flags)[1:], cwd=ROOT)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert word in done.stderr.splitlines()[-1]


def test_help_needs_no_framework():
    probe = (
        "import sys, kernel_fit; "
        "assert not {'tensorflow', 'keras', 'jax', 'numba', 'pandas', 'matplotlib', 'kernel_gen'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True, timeout=60)
    done = subprocess.run(command("--help"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for field in dataclasses.fields(Config):
        assert f"--{field.name}=" in done.stdout


def table_of(folder):
    record = results.load(next(folder.rglob("result.json")).parent)
    return [{name: entry[name] for name in ("ridge", "train_loss", "test_loss", "test_accuracy", "converged")}
            for entry in record["ridges"]]  # fmt: skip


@pytest.mark.parametrize("solver", ["block_lanczos", "band", pytest.param("eigh", marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_the_same(directories, solver):
    flags = [f"--solver={solver}", "--checkpoint_seconds=0", "--num_train=600", "--num_test=50", "--dtype=float64"]
    run(parse(Config, [*flags, "--exp_name=straight"]))
    random = np.random.default_rng(list(solver.encode()))
    for pause in random.uniform(0.5, 3.0, size=2):
        process = subprocess.Popen(
            command(*flags, "--exp_name=killed"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    resumed = subprocess.run(command(*flags, "--exp_name=killed"), capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    one, other = (table_of(directories / "rkhs_dir" / name) for name in ("straight", "killed"))
    for ours, theirs in zip(one, other, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    assert not list((directories / "rkhs_dir").rglob("unfinished"))


@pytest.mark.parametrize("sent", [
    pytest.param(signal.SIGKILL, id="KILL"), pytest.param(signal.SIGINT, id="INT"),
    pytest.param(signal.SIGTERM, id="TERM", marks=pytest.mark.slow),
])  # fmt: skip
def test_the_child_ends_with_its_parent_and_the_next_run_goes_on(directories, sent):
    flags = ["--dense_layers=9", "--num_test=10", "--ridges=0.1,1", "--num_shards=20", "--dtype=float64"]
    process = subprocess.Popen(command(*flags), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline, children = time.monotonic() + 120, []
    while time.monotonic() < deadline and not (children and list(directories.rglob("gram.json"))):
        assert process.poll() is None
        children = psutil.Process(process.pid).children()
        time.sleep(0.01)
    process.send_signal(sent)
    assert process.wait(timeout=60) != 0
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not list((directories / "rkhs_dir").rglob("result.json"))
    done = subprocess.run(command(*flags), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_scheduler_gives_the_same_path(directories):
    distributed = pytest.importorskip("distributed")
    config = Config(**SMALL, ridges="1,100", solver="block_lanczos", rtol=1e-8)
    [here] = run(config)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=40
    ) as cluster:
        [there] = run(dataclasses.replace(config, scheduler=cluster.scheduler_address, exp_name="there"))
    np.testing.assert_allclose(metrics(here), metrics(there), rtol=1e-6)
    with pytest.raises(UserError, match="scheduler"):
        fit(np.eye(3), np.ones(3), [1.0], scheduler=cluster.scheduler_address)


@pytest.mark.parametrize("layers, options, low, high", [
    (3, {}, 1e-4, 1e3), (4, {}, 1e-1, 1e5), (4, {"ridge_grid": "by_scale"}, 1e-4, 1e3),
], ids=str)  # fmt: skip
def test_the_grid_of_deep_ntks_is_published_or_named(directories, layers, options, low, high):
    config = Config(kernel="NTK", dense_layers=layers, dataset="DIGITS", num_train=40, num_test=10, **options)
    ridges = [entry["ridge"] for entry in run(config)[0].record["ridges"]]
    np.testing.assert_allclose([min(ridges), max(ridges)], [low, high])


@pytest.mark.parametrize("settings", [{"num_layers": 2}, {"kernel": "RF", "num_layers": 1}, {"ridges": "1"},
                                      {"dataset": "SYNTH"}, {"scale": "stax"}], ids=str)  # fmt: skip
def test_a_grid_that_would_change_nothing_is_refused(directories, settings):
    with pytest.raises(UserError, match=r"--ridge_grid=by_scale differs|--ridge_grid is read with no --ridges"):
        run(Config(**{"num_layers": 3, "dataset": "DIGITS", "ridge_grid": "by_scale", **settings}))
