"""Kernels and activations of the user's own by `module:function`: against kernels of the suite, and what is refused."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernel_gen
import linearized
from kernel_gen.jobs.gram_job import GramJobSettings, KernelJobSettings
from kernel_gen.jobs.runner import run
from kernel_gen.jobs.shard_states import report
from kernel_gen.jobs.verification import verify
from linearized.base import own_functions
from linearized.base.errors import UserError
from linearized.data.loading import load_preprocessed
from linearized.experiments import krr
from linearized.experiments.compare import CompareSettings
from linearized.kernel_ridge.estimator import KernelRidgePath
from linearized.kernel_ridge.ridge_path import fit
from linearized.settings.config import parse
from linearized.settings.gram_settings import KernelSettings
from linearized.storage.gram import open_gram

SOURCE = """
import numpy as np

def polynomial(a, b):
    return (1 + a @ b.T / np.sqrt(a.shape[1])) ** 2

def in_jax(a, b):
    import jax.numpy as jnp
    return (1 + jnp.asarray(a) @ jnp.asarray(b).T / a.shape[1] ** 0.5) ** 2

def rbf(a, b):
    return np.exp(-((a[:, None] - b[None]) ** 2).mean(2))

def narrow(a, b): return (a @ b.T)[:, :1]
def skewed(a, b): return a @ b.T + np.arange(len(b))
def negative(a, b): return -(a @ b.T)
def centred(a, b): return 9 + (a - a.mean(0)) @ (b - b.mean(0)).T
def infinite(a, b): return np.full((len(a), len(b)), np.inf)
def raises(a, b): raise RuntimeError("no licence")
def writes(a, b):
    a *= 2
    return a @ b.T

def relu(x): return x * (x > 0)
def relu_of(x, xp): return xp.maximum(x, 0)
def silu(x, xp): return x * 0.5 * (1 + xp.tanh(x / 2))

CONSTANT = 3
"""
ROWS = {"num_train": 60, "num_test": 20}
COUNTER = iter(range(1000))


@pytest.fixture
def own(directories, tmp_path, monkeypatch):
    """A module in the current folder; gives its name, which no other test has."""
    name = f"own_kernels_{next(COUNTER)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # else a change within a second would not be seen
    yield name
    sys.modules.pop(name, None)


def test_krr_of_an_own_kernel_is_that_of_the_precomputed_matrix(own):
    config = krr.KernelFitSettings(kernel=f"{own}:polynomial", ridges="0.1,1,10", **ROWS)
    run(GramJobSettings(kernel=f"{own}:polynomial", **ROWS))  # so that the fit starts no process
    [result] = krr.run(config)
    dataset = load_preprocessed(config, 0)
    x, z = (split.x.astype(np.float64) for split in (dataset.train, dataset.test))
    gram, across = ((1 + a @ x.T / 8) ** 2 for a in (x, z))
    offset = dataset.targets(dataset.test) - dataset.targets(dataset.test, centred=True)
    outputs = fit(gram, dataset.targets(dataset.train, centred=True), [0.1, 1, 10]).predict(across) + offset[0, 0]
    losses = [dataset.score("test", one)["loss"] for one in outputs]
    assert [entry["test_loss"] for entry in result.record["ridges"]] == pytest.approx(losses, rel=1e-3)
    assert result.record["settings"]["kernel"] == f"{own}:polynomial" and f"{own}.polynomial" in result.record["title"]
    assert result.record["made_by"]["code"] == {"kernel": own_functions.digest(f"{own}:polynomial")}
    function = own_functions.load_function(f"{own}:polynomial")
    again = linearized.krr(kernel=function, ridges="0.1,1,10", **ROWS)
    assert again.folder == result.folder
    np.testing.assert_allclose(again.decision(dataset.test.x), outputs[result.record["chosen"]["position"]], atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["polynomial", "in_jax"])
def test_in_memory_an_own_kernel_equals_ours(own, name, dtype):
    x = np.random.default_rng(0).normal(size=(1500, 4))  # more than a tile
    expected = kernel_gen.gram("POLYNOMIAL", x, dtype=dtype)
    for given in (f"{own}:{name}", own_functions.load_function(f"{own}:{name}")):
        found = kernel_gen.gram(given, x, dtype=dtype)
        assert found.dtype == dtype and np.array_equal(found, found.T)
        error = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(found, expected, rtol=error, atol=1e-3 * error * expected.max())  # x·z may cancel


def test_the_default_ridges_of_an_own_kernel_follow_its_trace(own):
    run(GramJobSettings(kernel=f"{own}:rbf", **ROWS))
    [result] = krr.run(krr.KernelFitSettings(kernel=f"{own}:rbf", **ROWS))
    ridges = [entry["ridge"] for entry in result.record["ridges"]]
    assert ridges[0] == pytest.approx(60e-8) and ridges[-1] == pytest.approx(600)  # K(x, x) = 1


@pytest.mark.parametrize("name, words", [
    ("narrow", "must return an array of"), ("skewed", "must be symmetric"), ("negative", "must be above 0"),
    ("centred", "depend on its own two rows alone"), ("infinite", "is inf for rows 0 and 0"),
    ("raises", "raised RuntimeError: no licence"), ("writes", "read-only"),
])  # fmt: skip
def test_what_is_no_kernel_is_refused(own, name, words):
    settings = GramJobSettings(kernel=f"{own}:{name}", **ROWS)
    with pytest.raises(UserError, match=words):
        run(settings)
    assert not settings.path().exists()
    with pytest.raises(UserError, match=words):
        kernel_gen.gram(f"{own}:{name}", np.random.default_rng(0).normal(size=(8, 3)))


def test_what_cannot_be_imported_is_refused_in_one_line(own, tmp_path):
    (tmp_path / f"{own}_broken.py").write_text("import a_package_that_is_not_there")
    (tmp_path / f"{own}_stops.py").write_text("raise SystemExit('stop')")
    for text, words in (
        ("nowhere:f", "no module nowhere in the current folder"), (f"{own}:polynom", f"{own} has no polynom. It has: "
        "polynomial, in_jax"), (f"{own}:CONSTANT", "must be a function"), (f"{own}_stops:f", "SystemExit: stop"),
        (f"{own}_broken:f", "fails: No module named 'a_package_that_is_not_there'"),
    ):  # fmt: skip
        for cls in (krr.KernelFitSettings, GramJobSettings):
            with pytest.raises(UserError, match=f"--kernel: .*{words}"):
                cls(kernel=text)
    with pytest.raises(UserError, match=f"--num_layers is read .*--kernel={own}:rbf"):
        parse(krr.KernelFitSettings, [f"--kernel={own}:rbf", "--num_layers=2"])
    with pytest.raises(UserError, match="Results are kept under the text of --kernel"):
        linearized.krr(kernel=lambda a, b: a @ b.T)


def test_another_source_is_another_run_and_is_refused_on_resume(own, tmp_path):
    def settings(**more):
        return GramJobSettings(kernel=f"{own}:polynomial", **ROWS, num_shards=2, **more)

    folder = str(tmp_path / "matrix")
    before = settings(folder=folder, shard=0)
    assert run(before) == [0] and "1 finished, 1 missing" in report(Path(folder))
    other, digest = settings().path(), own_functions.digest(f"{own}:polynomial")
    assert settings(folder=folder).code() == {"kernel": digest}
    (tmp_path / f"{own}.py").write_text(SOURCE.replace("** 2", "** 3"))
    importlib.reload(sys.modules[own])
    with pytest.raises(UserError, match=f"the source of --kernel is {digest}, not "):
        run(settings(folder=folder))
    with pytest.raises(UserError, match="another source of --kernel"):
        verify(Path(folder))
    assert settings().path() != other
    with pytest.raises(UserError, match="another source of --kernel"):
        krr.run(krr.KernelFitSettings(gram=folder, **ROWS))
    (tmp_path / f"{own}.py").write_text(SOURCE)
    importlib.reload(sys.modules[own])
    assert run(settings(folder=folder)) == [1]
    compared, worst = verify(Path(folder))
    assert compared and worst < 1e-5
    x = load_preprocessed(before, 0).train.x
    np.testing.assert_allclose(open_gram(folder).to_memory(), (1 + x @ x.T / 8) ** 2, rtol=1e-4)


def test_commands_find_the_module_in_the_current_folder(own):
    words = ["-m", "kernel_gen", f"--kernel={own}:polynomial", "--num_train=20", "--num_test=10"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    settings = KernelJobSettings(kernel=f"{own}:polynomial", num_train=20, num_test=10)
    assert len(open_gram(settings.path()).to_memory()) == 20


@pytest.mark.parametrize("name, exact", [("relu", "relu"), ("relu_of", "relu"), ("silu", "silu")])
def test_an_own_activation_has_the_kernel_of_ours(own, name, exact):
    x = np.random.default_rng(0).normal(size=(12, 5))
    for kernel, settings in (("NTK", {"num_layers": 2}), ("NTK", {"num_layers": 1, "kind": "nngp"})):
        found = kernel_gen.gram(kernel, x, activation=f"{own}:{name}", dtype="float64", **settings)
        expected = kernel_gen.gram(kernel, x, activation=exact, dtype="float64", **settings)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    features = kernel_gen.embedding("NTK", 5, activation=f"{own}:{name}", embedding_dim=64, dtype="float64")(x)
    same = kernel_gen.embedding("NTK", 5, activation=exact, embedding_dim=64, dtype="float64")(x)
    np.testing.assert_allclose(features @ features.T, same @ same.T, rtol=0.2, atol=0.2 * np.abs(same).max() ** 2)


def test_an_own_activation_names_the_run_by_its_source(own, tmp_path):
    def key():
        return KernelSettings(activation=f"{own}:relu").key()

    before = key()
    assert before == key() != KernelSettings(activation=f"{own}:relu_of").key()
    (tmp_path / f"{own}.py").write_text(SOURCE + "# changed\n")
    importlib.reload(sys.modules[own])
    assert key() != before
    with pytest.raises(UserError, match=r"--activation=.* with Elementwise"):
        KernelSettings(kernel="STAX", architecture=f"serial(Dense(1), Elementwise('{own}:relu'), Dense(1))")


def test_an_own_kernel_is_an_entry_of_a_comparison(own):
    runs = CompareSettings(models=f"krr:{own}:rbf,krr:{own}:polynomial:dtype=float64,linear").runs()
    kernels = [run and (run.kernel, run.dtype) for run in runs.values()]
    assert kernels == [(f"{own}:rbf", "float32"), (f"{own}:polynomial", "float64"), None]


def test_the_estimator_takes_an_own_kernel(own):
    x, random = np.random.default_rng(0).normal(size=(40, 3)), np.random.default_rng(1)
    y = random.normal(size=40)
    ours = KernelRidgePath(kernel="POLYNOMIAL").fit(x, y)
    theirs = KernelRidgePath(kernel=f"{own}:polynomial").fit(x, y)
    np.testing.assert_allclose(theirs.predict(x), ours.predict(x), atol=1e-8)
