"""train, krr, gram and embed on data of the user's own: one run per content, several outputs."""

import json
import sys

import h5py
import numpy as np
import pytest

from kernel_gen.embed import command as embed
from linearized.cli.launch import command as launch
from linearized.experiments import compare, krr, train
from linearized.experiments.table import print_table
from linearized.settings.gram_settings import GramSettings
from linearized.storage.gram import open_gram


def rows(count=60):
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 5)).astype(np.float32)
    return x, np.stack([x[:, 0] * 2, x[:, 1] - x[:, 2], np.ones(count)], axis=1)


def test_results_of_another_content_are_not_read_back(directories, tmp_path):
    x, y = rows()
    config = {"data": str(tmp_path / "a.npz"), "num_units": 16, "reg_index": "3"}
    folders = []
    for values in (x, x, x + 1):
        np.savez(tmp_path / "a.npz", x=values, y=y[:, 0] > 0)
        result = train.run(train.TrainSettings(**config))
        folders.append((result.folder, result.fresh))
    assert folders[0] == (folders[1][0], True) and not folders[1][1]
    assert folders[2][0] != folders[0][0] and folders[2][1]


@pytest.mark.parametrize("model", ["RF", "NT", "NN"])
def test_training_has_an_output_per_target(directories, tmp_path, model):
    x, y = rows()
    np.savez(tmp_path / "a.npz", x=x, y=y)
    result = train.run(train.TrainSettings(
        data=str(tmp_path / "a.npz"), model=model, num_units=16, reg_index="0", max_cg_iters=3, validation=8
    ))  # fmt: skip
    print_table(result.record)
    with h5py.File(result.folder / "arrays.h5") as file:
        predictions = file["predictions/test"][:]
    dataset = train.TrainSettings(data=str(tmp_path / "a.npz")).described().load(validation=8)
    assert predictions.shape == dataset.test.y.shape == (12, 3)
    expected = np.square(predictions - dataset.test.y).sum(axis=1).mean()
    np.testing.assert_allclose(result.chosen["test_loss"], expected, rtol=1e-5)
    variance = np.square(dataset.test.y - dataset.test.y.mean(axis=0)).sum(axis=1).mean()
    np.testing.assert_allclose(result.chosen["test_normalised_loss"], expected / variance, rtol=1e-4)


def test_a_kernel_fits_each_target_as_it_fits_that_target_alone(directories, tmp_path):
    x, y = rows()
    outputs = []
    for name, targets in (("all", y[:, :2]), ("one", y[:, :1])):
        np.savez(tmp_path / f"{name}.npz", x=x, y=targets)
        (result,) = krr.run(krr.KernelFitSettings(data=str(tmp_path / f"{name}.npz"), ridges="0.1", dtype="float64"))
        with h5py.File(result.folder / "arrays.h5") as file:
            outputs.append(file["predictions/test"][:])
    np.testing.assert_allclose(outputs[0][:, :1], outputs[1], rtol=1e-5, atol=1e-6)


def test_features_of_own_data_are_written(directories, tmp_path):
    x, y = rows()
    np.savez(tmp_path / "a.npz", x=x, y=y)
    assert embed([f"--data={tmp_path}/a.npz", "--embedding_dim=64", f"--folder={tmp_path}/features"]) == 0
    assert list((tmp_path / "features").glob("*.h5"))


def test_launched_commands_find_own_data(directories, tmp_path, monkeypatch):
    x, y = rows(30)
    np.savez(tmp_path / "a.npz", x=x, y=y[:, 0] > 0)
    monkeypatch.chdir(tmp_path)  # the file is named as it lies in the folder of the launch
    words = ["--launcher=plain", "--workers=2", "--grid=degree=1,2", f"--logs={tmp_path}/logs", "--", "python", "-m",
             "kernel_gen", "--kernel=POLYNOMIAL", "--data=a.npz"]  # fmt: skip
    assert launch(words) == 0
    for degree in (1, 2):
        settings = GramSettings(kernel="POLYNOMIAL", degree=degree, data="a.npz")
        train_x = settings.described().load().train.x
        gram = open_gram(settings.path()).to_memory()
        np.testing.assert_allclose(gram, (1 + train_x @ train_x.T / np.sqrt(5)) ** degree, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_compare_takes_a_table_and_an_own_kernel(directories, tmp_path, monkeypatch):
    x, y = rows(60)
    lines = [",".join([*(f"{value:.6f}" for value in row), "ill" if label > 0 else "well"])
             for row, label in zip(x, y[:, 0], strict=True)]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join(["a,b,c,d,e,state", *lines]) + "\n")
    (tmp_path / "compared_kernel.py").write_text("def linear(a, b): return 1 + a @ b.T\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    models = "krr:compared_kernel:linear,krr:POLYNOMIAL:degree=1,linear"
    assert compare.command(["--data=a.csv", "--target=state", f"--models={models}"]) == 0
    [path] = (directories / "nn_dir").rglob("comparison.json")
    table = {row["label"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(table) == models.split(",") and all(row["test_accuracy"] > 0.8 for row in table.values())
