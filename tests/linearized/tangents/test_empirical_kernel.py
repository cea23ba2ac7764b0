"""`--kernel=EMPIRICAL`: the tangent kernel of a saved Keras model as a sharded job, and ridge regression on it."""

import dataclasses
import errno
import shutil

import h5py
import keras
import numpy as np
import pytest

import kernel_gen
import linearized
from kernel_gen import status
from kernel_gen.jobs.gram_job import GramJobSettings
from kernel_gen.jobs.partial import PartialShard
from kernel_gen.jobs.runner import run
from kernel_gen.jobs.verification import tolerance, verify
from linearized.base.errors import UserError
from linearized.cli import gram as gram_command
from linearized.cli import krr as krr_command
from linearized.data.loading import load_preprocessed
from linearized.experiments import krr
from linearized.kernel_ridge.estimator import KernelRidgePath
from linearized.models import empirical_kernel
from linearized.settings.config import parse
from linearized.settings.gram_settings import KernelSettings
from linearized.storage.manifest import load_manifest
from linearized.tangents.contributions import Gradients
from linearized.tangents.kept_rows import ChunkStore

from .architectures import L, sequential

ROWS = {"num_train": 40, "num_test": 12, "validation": 8.0}
ONE = {"rtol": 1e-5, "atol": 1e-5}


def saved(path, *layers, shape=(8, 8, 1), seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input(shape), *layers])
    model.save(path)
    return model


@pytest.fixture
def model(tmp_path):
    """A small CNN of the digits, which lies in `cnn.keras`; biases are away from 0."""
    saved(
        tmp_path / "cnn.keras", L.Conv2D(4, 3, activation="relu", name="conv", bias_initializer="ones"), L.Flatten(),
        L.Dense(9, "tanh", name="hidden"), L.Dense(3, name="head"),
    )  # fmt: skip
    made = keras.saving.load_model(tmp_path / "cnn.keras")  # whose variables have the paths of a loaded model
    made.file = tmp_path / "cnn.keras"
    return made


def settings(model, **more):
    return GramJobSettings(**{"kernel": "EMPIRICAL", "model": str(model.file), **ROWS, **more})


def matrix(config):
    """Return the matrix of the train rows that a job makes."""
    run(config)
    return linearized.open_gram(config.path(), check=True).to_memory()


def images(config, block="train"):
    return load_preprocessed(config, 0).splits()[block].x.reshape(-1, 8, 8, 1)


@pytest.mark.parametrize("more, direct", [
    ({}, {}), ({"ntk_outputs": "sum"}, {"outputs": "sum"}), ({"ntk_outputs": "2"}, {"outputs": 2}),
    ({"variables": "hidden,head/kernel"}, {"variables": lambda one: one.path[:6] == "hidden" or "d/k" in one.path}),
    ({"variables": "-c*v"}, {"variables": lambda one: "conv" not in one.path}),
    ({"variables": "bias,-head"}, {"variables": lambda one: one.path in ("conv/bias", "hidden/bias")}),
])  # fmt: skip
def test_the_job_is_the_empirical_ntk_of_the_same_rows(directories, model, more, direct):
    config = settings(model, num_shards=3, **more)
    x = images(config)
    expected = linearized.empirical_ntk(model, x, **direct)
    np.testing.assert_allclose(matrix(config), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    gram = linearized.open_gram(config.path())
    for block, part in (("test", gram.test), ("validation", gram.validation)):
        beside = linearized.empirical_ntk(model, images(config, block), x, **direct)
        np.testing.assert_allclose(part.to_memory(), beside, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("layer", ["", "hidden", "conv"])
def test_nngp_is_the_conjugate_kernel_of_a_layer(directories, model, layer):
    config = settings(model, kind="nngp", layer=layer)
    expected = linearized.conjugate_kernel(model, images(config), layer=layer or None)
    np.testing.assert_allclose(matrix(config), expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_each_setting_is_a_matrix_of_its_own_and_is_refused_elsewhere(directories, model):
    different = [{}, {"ntk_outputs": "sum"}, {"ntk_outputs": "1"}, {"variables": "conv"}, {"kind": "nngp"},
                 {"kind": "nngp", "layer": "conv"}]  # fmt: skip
    made = [matrix(settings(model, **more)) for more in different]
    for place, one in enumerate(made):
        assert all(np.abs(one - other).max() > 1e-3 * np.abs(one).max() for other in made[:place])
    for flag in ("--model=cnn.keras", "--ntk_outputs=sum", "--ntk_outputs=trace", "--variables=conv", "--layer=conv"):
        with pytest.raises(UserError, match=f"{flag.partition('=')[0]} is read by --kernel=EMPIRICAL"):
            parse(GramJobSettings, ["--kernel=NTK", flag])


def test_double_precision_is_of_the_sums(directories, model):
    """A float32 sum of products has negative eigenvalues where there are more rows than variables."""
    least = {}
    for dtype in ("float32", "float64"):
        config = settings(model, variables="head", ntk_outputs="0", dtype=dtype)
        found = matrix(config)
        assert found.dtype == dtype
        values = np.linalg.eigvalsh(found.astype(np.float64))
        least[dtype] = values[0] / values[-1]
        compared, worst = verify(config.path(), count=40)
        assert compared > 400 and worst < 1e-5 and tolerance(load_manifest(config.path())) == 5e-4
    assert least["float32"] < -1e-9 and least["float64"] > -1e-14


def test_a_killed_job_goes_on_to_the_same_matrix(directories, model, monkeypatch):
    monkeypatch.setattr(empirical_kernel.EmpiricalKernel, "tile", 5)
    config, write, count = settings(model, num_shards=2), PartialShard.write, 0
    whole = matrix(dataclasses.replace(config, folder=str(directories / "whole")))

    def failing(self, tile, block):
        nonlocal count
        count += 1
        if count > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, tile, block)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="same command again"):
        patch.setattr(PartialShard, "write", failing)
        run(config)
    np.testing.assert_allclose(matrix(config), whole, rtol=1e-5)


def test_the_content_of_the_model_names_the_matrix(directories, model, tmp_path):
    before = settings(model, num_shards=2)
    (tmp_path / "sub").mkdir()
    shutil.copy(model.file, tmp_path / "sub" / "cnn.keras")
    moved = dataclasses.replace(before, model=str(tmp_path / "sub" / "cnn.keras"))
    assert "EMPIRICAL_cnn_ntk" in before.path().name and moved.path() == before.path()
    run(dataclasses.replace(before, shard=0))
    assert run(moved) == [1]  # it goes on with what the other path has begun
    first, folder = matrix(before), str(before.path())
    model.layers[0].kernel.assign(2 * model.layers[0].kernel)
    model.save(model.file)
    after = settings(model, num_shards=2)
    assert str(after.path()) != folder
    assert np.abs(matrix(after) - first).max() > 1e-2 * np.abs(first).max()
    with pytest.raises(UserError, match="the source of --model is "):
        run(dataclasses.replace(after, folder=folder))
    with pytest.raises(UserError, match="another source of --model"):
        krr.run(krr.KernelFitSettings(gram=folder, **ROWS))


def test_ridge_regression_makes_the_matrix_and_names_the_model(directories, model, capsys):
    words = ["--kernel=EMPIRICAL", f"--model={model.file}", *(f"--{name}={value}" for name, value in ROWS.items())]
    assert krr_command.command(words) == 0
    result = krr.run(parse(krr.KernelFitSettings, words))[0]
    record = result.record
    assert record["model"]["name"] == "EMPIRICAL_cnn_ntk kernel" and record["settings"]["model"] == str(model.file)
    assert list(record["made_by"]["code"]) == ["model"]
    trace = np.trace(linearized.empirical_ntk(model, images(settings(model))).astype(np.float64))
    ridges = [entry["ridge"] for entry in record["ridges"]]
    assert ridges[0] == pytest.approx(trace * 1e-8, rel=1e-4) and ridges[-1] == pytest.approx(trace * 10, rel=1e-4)
    assert status.command([*words, "--verify"]) == 0
    assert "1 finished" in capsys.readouterr().out


def test_in_python_it_predicts_and_goes_into_the_estimator(directories, model):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 64)).astype(np.float32), random.normal(size=30)
    made = kernel_gen.gram("EMPIRICAL", x, x[:7], model=str(model.file), image_shape=(8, 8, 1))
    np.testing.assert_allclose(made, linearized.empirical_ntk(model, *(z.reshape(-1, 8, 8, 1) for z in (x, x[:7]))),
                               rtol=1e-5, atol=1e-5 * np.abs(made).max())  # fmt: skip
    flat = model.file.with_name("flat.keras")
    saved(flat, L.Dense(8, "relu"), L.Dense(1), shape=(64,))
    fitted = KernelRidgePath([1e-3], kernel="EMPIRICAL", kernel_params={"model": str(flat)}).fit(x, y)
    np.testing.assert_allclose(fitted.predict(x), y, atol=0.05)
    result = linearized.krr("EMPIRICAL", (x, y), model=str(flat), ridges="1.0", test_fraction=0.2)
    with h5py.File(result.folder / "arrays.h5") as file:
        predictions = file["predictions/test"][:]
    test = load_preprocessed(result.config, 0).test.x
    np.testing.assert_allclose(np.reshape(result.predict(test), -1), predictions[:, 0], rtol=1e-3, atol=1e-3)


def test_a_subclassed_model_takes_images(directories, tmp_path):
    @keras.saving.register_keras_serializable("tests_empirical")
    class Own(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv, self.flatten, self.head = L.Conv2D(3, 3), L.Flatten(), L.Dense(2)

        def call(self, x):
            return self.head(self.flatten(self.conv(x)))

    model = Own()
    model(np.zeros((1, 8, 8, 1), np.float32))
    model.file = tmp_path / "own.keras"
    model.save(model.file)
    config = settings(model)
    expected = linearized.empirical_ntk(model, images(config))
    np.testing.assert_allclose(matrix(config), expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_memory_bounds_what_is_kept_and_not_the_numbers(directories, model, monkeypatch):
    made = {}
    for budget in (2**40, 25_000, 0):
        monkeypatch.setattr(empirical_kernel, "working_bytes", lambda budget=budget: budget)
        monkeypatch.setattr(empirical_kernel, "CHUNK_BYTES", 15_000)
        kernel = empirical_kernel.build(KernelSettings(kernel="EMPIRICAL", model=str(model.file)), (8, 8, 1))
        rows = kernel.prepare(images(settings(model)).reshape(-1, 64))
        first, second = kernel.block(rows[:25], rows), kernel.block(rows[25:], rows)
        store = kernel._store
        assert 1 <= store.rows < 20
        made[budget] = np.concatenate([first, second]), store.made
    (whole, least), (part, more), (none, most) = made.values()
    np.testing.assert_allclose(part, whole, rtol=1e-5)
    np.testing.assert_allclose(none, whole, rtol=1e-5)
    assert least == 32 < more < most


def test_bands_are_as_high_as_memory_allows_where_not_all_fits(directories, model, monkeypatch):
    config = settings(model, folder=str(directories / "whole"))
    whole, x = matrix(config), images(config).reshape(-1, 64)
    row_bytes = empirical_kernel.build(config, (8, 8, 1)).on(x)._row_bytes
    monkeypatch.setattr(empirical_kernel, "TILES", (3, 14))
    for rows, tile in ((2, 3), (20, 10), (31, 14), (32, 512)):
        monkeypatch.setattr(empirical_kernel, "working_bytes", lambda rows=rows: rows * row_bytes)
        config = settings(model, folder=str(directories / str(rows)))
        np.testing.assert_allclose(matrix(config), whole, rtol=1e-5)
        assert load_manifest(config.path()).tile == tile


def test_later_chunks_are_kept_in_the_place_of_earlier_ones():
    def make(rows):
        return [Gradients(rows.reshape(len(rows), 1, -1).astype(np.float32))]

    store = ChunkStore(make, 2, 3 * 2 * 4 * 4)  # three chunks of two rows of four numbers
    x = np.arange(40, dtype=np.float32).reshape(10, 4)
    rows = store.run(x)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([made[0].values[:, 0] for _, made in rows[1:].parts()]), x[1:])
    assert store.made == 10 + 4  # chunks 2, 3 and 4 were kept; chunks 0 and 1 were made again
    band = store.run(x[:2])
    list(band.parts())
    before = store.made
    list(rows[6:].parts())
    list(band.parts())
    assert store.made == before  # the band has taken the place of chunk 2
    list(rows[4:6].parts())
    assert store.made == before + 2
    del band
    list(rows[4:6].parts())
    list(rows[4:].parts())
    assert store.made == before + 4  # what the band took is free again, and chunk 2 is kept
    before = store.made
    store.hold(rows[1:3])  # chunks 0 and 1, in the place of chunks 2 and 3
    for _ in range(2):
        list(rows[:4].parts())
    assert store.made == before + 4
    list(rows[4:8].parts())
    list(rows[:4].parts())
    assert store.made == before + 8
    store.hold(rows[9:])
    list(rows[6:].parts())
    list(rows[6:].parts())
    assert store.made == before + 10  # chunk 3 in the place of chunk 0


def test_each_row_of_a_job_is_differentiated_once(directories, model, monkeypatch):
    """Though it is a row of one band and a column of others."""
    monkeypatch.setattr(empirical_kernel.EmpiricalKernel, "tile", 7)
    made, make = [], empirical_kernel.EmpiricalKernel._made
    monkeypatch.setattr(empirical_kernel.EmpiricalKernel, "_made",
                        lambda self, rows: made.append(len(rows)) or make(self, rows))  # fmt: skip
    run(settings(model, num_shards=2))
    assert sum(made) == 1 + 32 + 12 + 8  # the row that the paths are chosen by, train, test and validation rows


REFUSED = {
    "nothing": ([], "EMPIRICAL needs a saved Keras model"),
    "text": (["--model=cnn.txt"], "--model: a saved Keras model is a .keras file"),
    "absent": (["--model=absent.keras"], "absent.keras does not exist"),
    "damaged": (["--model=damaged.keras"], "damaged or not a model"),
    "shape": (["--model=wide.keras"], r"wide.keras takes inputs of shape \(65,\), and DIGITS has rows of 64 numbers"),
    "full": (["--model=cnn.keras", "--ntk_outputs=full"], "no matrix of n x n"),
    "negative": (["--model=cnn.keras", "--ntk_outputs=-1"], "the index of an output, from 0"),
    "names": (["--model=cnn.keras", "--variables=conv,,head"], "parts of the paths of variables"),
    "layer": (["--model=cnn.keras", "--layer=conv"], "--layer is read by --kernel=EMPIRICAL with --kind=nngp"),
}
LATER = {  # what Keras alone can say
    "index": (["--model=cnn.keras", "--ntk_outputs=3"], "must be below 3, the number of outputs"),
    "unknown": (["--model=cnn.keras", "--variables=con"], "has the name 'con' in its path. They are: conv/kernel"),
    "none": (["--model=cnn.keras", "--variables=conv,-conv"], "leaves no trainable variable"),
    "no layer": (["--model=cnn.keras", "--kind=nngp", "--layer=con"], "has no layer con"),
    "nan": (["--model=nan.keras"], "nan.keras: The weights .*/kernel of the model .* are not finite"),
    "frozen": (["--model=frozen.keras"], "frozen.keras: The model .* has no trainable variable"),
    "draws": (["--model=draws.keras"], "draws random numbers in inference mode"),
    "inputs": (["--model=inputs.keras"], "inputs.keras has 2 inputs"),
    "outputs": (["--model=outputs.keras"], "has 2 outputs"),
}


@keras.saving.register_keras_serializable("tests_empirical")
class Drawing(L.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


@pytest.fixture
def files(model, tmp_path, monkeypatch):
    """The model files of `REFUSED` and `LATER`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.keras").write_bytes(model.file.read_bytes()[:3000])
    saved("wide.keras", L.Dense(2), shape=(65,))
    made, _ = sequential(np.zeros((1, 64), np.float32), L.Dense(2))
    made.trainable = False
    made.save("frozen.keras")
    made.trainable = True
    made.layers[0].kernel.assign(np.full((64, 2), np.nan))
    made.save("nan.keras")
    saved("draws.keras", Drawing(), L.Dense(2), shape=(64,))
    inputs = [keras.Input((64,)), keras.Input((64,))]
    keras.Model(inputs, L.Dense(2)(inputs[0] + inputs[1])).save("inputs.keras")
    keras.Model(inputs[0], [L.Dense(2)(inputs[0]), L.Dense(3)(inputs[0])]).save("outputs.keras")


@pytest.mark.parametrize("command", [gram_command, krr_command])
def test_what_does_not_fit_is_refused_in_one_line(directories, files, command, capfd, monkeypatch):
    for words, message in REFUSED.values():
        with monkeypatch.context() as patch:
            patch.setattr(empirical_kernel, "build", None)  # refused before the model is loaded
            with pytest.raises(UserError, match=message):
                parse(GramJobSettings if command is gram_command else krr.KernelFitSettings,
                      ["--kernel=EMPIRICAL", *words])  # fmt: skip
    for words, message in LATER.values() if command is gram_command else ():
        with pytest.raises(UserError, match=message) as refused:
            run(parse(GramJobSettings, ["--kernel=EMPIRICAL", "--num_train=20", "--num_test=5", *words]))
        assert "\n" not in str(refused.value)
    assert command.command(["--kernel=EMPIRICAL"]) == 2
    assert "needs a saved Keras model" in capfd.readouterr().err
    assert not list(directories.rglob("gram.json"))
