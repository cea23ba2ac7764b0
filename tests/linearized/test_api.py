"""The functions of `linearized`: predictions of raw rows against the record's scores, and the comparison's table."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

import linearized
from linearized.api.calls import data_flags
from linearized.base.errors import UserError
from linearized.data.own import memory
from linearized.experiments.compare import CompareSettings
from linearized.settings.config import parse
from linearized.settings.data_settings import DataSettings


@pytest.fixture
def iris():
    x, numbers = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[numbers]
    frame = pd.DataFrame(x, columns=["a", "b", "c", "d"])
    order = np.random.default_rng(0).permutation(150)
    return frame.iloc[order[:120]], names[order[:120]], frame.iloc[order[120:]], names[order[120:]]


def test_train_predicts_the_labels_that_its_record_scores(directories, iris):
    result = linearized.train(model="RF", data=iris, num_units=64)
    predicted = result.predict(iris[2])
    chosen = result.record["ridges"][result.record["chosen"]["position"]]
    assert np.mean(predicted == iris[3]) == pytest.approx(chosen["test_accuracy"]) and chosen["test_accuracy"] > 0.8
    assert result.decision(iris[2]).shape == (30, 3)
    assert len(result.table) == 19 and result.ridge in set(result.table["ridge"])
    assert len(result.plot().axes) == 2
    with pytest.raises(UserError):
        result.predict(iris[2][["a"]])


def test_krr_predicts_the_labels_that_its_record_scores(directories, iris):
    result = linearized.krr(kernel="NTK", data=iris)
    chosen = result.record["ridges"][result.record["chosen"]["position"]]
    assert np.mean(result.predict(iris[2]) == iris[3]) == pytest.approx(chosen["test_accuracy"])
    assert chosen["test_accuracy"] > 0.8 and result.path.alpha.shape == (19, 120, 3)
    ridges = result.table["ridge"]
    assert ridges.iloc[-1] / ridges.iloc[0] == pytest.approx(1e9)


def test_a_network_is_trained_alike_whatever_the_unit_of_the_targets(directories):
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 3)).astype(np.float32)
    y = np.stack([np.sin(x[:, 0]) + x[:, 1], x[:, 2]], axis=1)
    flags = {"model": "NN", "num_units": 16, "solver": "adam", "max_cg_iters": 30, "learning_rate": 0.02}
    plain = linearized.train(data=(x[:90], y[:90], x[90:], y[90:]), **flags)
    unit = y * [1000, 0.01] + [50_000, 3]
    other = linearized.train(data=(x[:90], unit[:90], x[90:], unit[90:]), **flags)
    np.testing.assert_allclose((other.predict(x[90:]) - [50_000, 3]) / [1000, 0.01], plain.predict(x[90:]), atol=0.02)
    [scores] = other.record["ridges"]
    assert np.square(other.predict(x[90:]) - unit[90:]).sum(axis=1).mean() == pytest.approx(
        scores["test_loss"], rel=1e-3
    )
    assert 1 - plain.record["ridges"][0]["test_normalised_loss"] > 0.5


def test_a_dataset_is_data_and_further_rows_are_prepared_as_its_own(directories, iris):
    dataset = linearized.from_arrays(*iris, validation=0.2)
    result = linearized.krr(kernel="RF", data=dataset)
    assert result.record["data"] | {"name": "", "fingerprint": ""} == {
        "name": "", "fingerprint": "", "dim": 4, "n_train": 96, "n_validation": 24, "n_test": 30, "noise": ""
    }  # fmt: skip
    chosen = result.record["ridges"][result.record["chosen"]["position"]]
    predicted = result.predict(iris[2])  # a data frame in, names of classes out
    assert predicted.dtype == iris[1].dtype
    assert np.mean(predicted == iris[3]) == pytest.approx(chosen["test_accuracy"])
    path, table = result.path, result.table
    assert [solution.iterations for solution in path.solutions] == table["iterations"].tolist()
    assert [solution.converged for solution in path.solutions] == table["converged"].tolist()
    assert [solution.residual for solution in path.solutions] == table["residual"].tolist()
    assert len(path.solutions[0].history) and path.solutions[3].ridge == path.ridges[3] == table["ridge"][3]


def test_a_dataset_keeps_its_noise_names_and_targets(directories):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)), random.normal(size=(60, 2))
    dataset = linearized.from_arrays(x, y)
    result = linearized.krr(kernel="POLYNOMIAL", data=dataset)
    entry = result.record["ridges"][result.record["chosen"]["position"]]
    for name, split in dataset.splits().items():
        by_target = result.record["loss_by_target"][name]
        expected = np.square(split.y - result.predict(split.x)).mean(axis=0)
        np.testing.assert_allclose(by_target, expected, rtol=1e-3)
        assert sum(by_target) == pytest.approx(entry[f"{name}_loss"])
    text = data_flags(linearized.load("DIGITS", 3, num_train=50, num_test=10))["data"]
    arrays = memory._registered.pop(text)
    config = DataSettings(data=text)
    again = config.described().load(**config.row_settings())
    np.testing.assert_array_equal(again.train.x.reshape(50, 8, 8, 1), arrays.x)
    assert again.class_names == tuple(map(str, range(10))) and again.image_shape == (8, 8, 1)


@pytest.mark.parametrize("data", [(1, 2, 3), 5])
def test_other_data_are_refused(data):
    with pytest.raises(UserError, match="Data are"):
        linearized.train(data=data)


def test_a_comparison_has_one_budget_and_the_same_validation_rows():
    config = CompareSettings(models="NN,RF,krr:polynomial(3),krr:NTK:num_layers=2,linear", seeds=2, num_units=32)
    runs = config.seeded_runs()
    assert len(runs) == 10 and runs["linear", 0] is None
    assert {run.validation for run in runs.values() if run} == {0.2} and config.rows(1).validation == 0.2
    network, kernel = runs["NN", 1], runs["krr:polynomial(3)", 0]
    assert (network.solver, network.schedule, network.max_cg_iters, network.seed) == ("adam", "cosine", 60, 1)
    assert (kernel.kernel, kernel.degree) == ("POLYNOMIAL", 3) and runs["krr:NTK:num_layers=2", 0].num_layers == 2
    assert runs["RF", 1].weight_seed == runs["RF", 0].weight_seed + 1 and runs["RF", 0].num_units == 32
    assert CompareSettings(models="NN,RF", max_cg_iters=7).runs()["NN"].max_cg_iters == 7
    with pytest.raises(UserError, match="krr: takes a kernel"):
        CompareSettings(models="RF,krr:NTK(3)")


@pytest.mark.parametrize("flag", ["--num_units=8", "--lambda_stages=CCLL"])
def test_flags_that_no_entry_is_given_are_refused(flag):
    with pytest.raises(UserError, match="is read by none of"):
        parse(CompareSettings, ["--models=krr:RF,linear", flag])


@pytest.mark.slow
def test_compare_returns_a_table_of_models_and_seeds(directories, iris):
    table = linearized.compare(iris[0], iris[1], models=["RF:num_units=32", "krr:NTK", "linear"], seeds=2)
    assert table["model"].tolist() == ["RF:num_units=32"] * 2 + ["krr:NTK"] * 2 + ["linear"] * 2
    assert (table["test_accuracy"] > 0.7).all() and (table["seconds"] > 0).all() and table["ridge"].notna().all()
    assert len(linearized.plot(table).axes) >= 3


def test_compare_of_arrays_names_the_model_and_the_seed_where_the_best_ridge_is_an_end_of_its_grid(directories, capfd):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    label = "krr:POLYNOMIAL:degree=1"
    table = linearized.compare(x, x @ [1, 2, -1], models=[label, "linear"])  # without noise: the smallest is the best
    assert table["model"].tolist() == [label, "linear"] and (table["test_r2"] > 0.999).all()
    assert table["edge"].tolist() == ["smallest", ""] and table["seconds"].gt(0).all()
    assert f"{label} (seed 0): The best ridge, ρ = " in capfd.readouterr().err
    assert len(linearized.plot(table).axes) >= 3
    again = linearized.compare(x, x @ [1, 2, -1], models=[label, "linear"])
    pd.testing.assert_frame_equal(again, table)  # read back
