"""What the functions of `linearized` refuse, in one line that says what came in; and the inputs that they accept."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import linearized
import linearized.sklearn
from linearized.api.calls import data_flags
from linearized.base.errors import UserError
from linearized.experiments.compare import CompareSettings
from linearized.experiments.krr import KernelFitSettings
from linearized.experiments.train import TrainSettings
from linearized.settings.keywords import from_keywords

FUNCTIONS = [name for name in linearized.__all__ if inspect.isfunction(getattr(linearized, name))]


def rows(count=60):
    x = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_mistyped_keyword_of_a_public_function_is_told_with_the_nearest_one(name):
    function = getattr(linearized, name)
    known = [one for one in inspect.signature(function).parameters if one not in ("flags", "settings")]
    with pytest.raises(UserError, match=f"has no argument '{known[-1]}x'. Did you mean {known[-1]}") as caught:
        function(*["DIGITS"] * (name in ("load", "compare")), **{f"{known[-1]}x": 1})
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("call, near", [
    (lambda: linearized.train(num_unit=5), "num_units"), (lambda: linearized.krr(ridge="1"), "ridges"),
    (lambda: linearized.compare("DIGITS", learning_rat=1), "learning_rate"),
    (lambda: linearized.load("DIGITS", num_trian=5), "num_train"),
    (lambda: linearized.load("SYNTH", synth_dims=5), "synth_dim"),
    (lambda: linearized.load("sklearn:iris", test_fractoin=0.5), "test_fraction"),
])  # fmt: skip
def test_a_mistyped_flag_in_python_suggests_the_flag(call, near):
    with pytest.raises(UserError, match=f"Did you mean {near}"):
        call()


def test_flags_that_are_lists_as_text_take_lists_and_numbers_too():
    made = from_keywords(KernelFitSettings, "krr", {"ridges": [0.1, 1], "num_train": np.int64(50), "noise_ind": (0, 2)})
    assert (made.ridges, made.num_train, made.noise_ind) == ("0.1,1", 50, "0,2")
    assert from_keywords(KernelFitSettings, "krr", {"ridges": np.array([0.5, 1e-9])}).ridges == "0.5,1e-09"
    assert from_keywords(TrainSettings, "train", {"reg_index": 3}).reg_index == "3"
    with pytest.raises(UserError, match="--ridges takes a value of type str"):
        from_keywords(KernelFitSettings, "krr", {"ridges": [None]})


def test_other_names_of_flags_and_unread_flags_are_as_on_the_command_line():
    assert from_keywords(TrainSettings, "train", {"model": "NN", "epochs": 7}).max_cg_iters == 7
    for given, words in [({"model": "RF", "epochs": 7}, "--epochs is --max_cg_iters of"),
                         ({"model": "NN", "epochs": 7, "max_cg_iters": 8}, "given .*, which are one setting"),
                         ({"model": "RF", "learning_rate": 1e-3}, "--learning_rate is read by")]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            from_keywords(TrainSettings, "train", given)


def test_one_text_of_models_is_a_list_of_one():
    made = [from_keywords(CompareSettings, "compare", {"models": models}) for models in ("RF,linear", ["RF", "linear"])]
    assert list(made[0].runs()) == list(made[1].runs()) == ["RF", "linear"]
    with pytest.raises(UserError, match=r"at least two different models\. Received: --models=RF"):
        linearized.compare(*rows(), models="RF")


@pytest.mark.parametrize("data", ["digits", "DIGITS"])
def test_published_names_and_paths_are_data(tmp_path, monkeypatch, data):
    assert data_flags(data) == {"dataset": "DIGITS"}
    assert data_flags(tmp_path / "a.csv") == {"data": str(tmp_path / "a.csv")}
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert data_flags("digits") == {"data": "digits"}


def test_a_path_is_loaded(tmp_path):
    x, y = rows()
    np.savez(tmp_path / "a.npz", x=x, y=y)
    found, expected = linearized.load(tmp_path / "a.npz"), linearized.load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(found.train.x, expected.train.x)


@pytest.mark.parametrize("call, words", [
    (lambda x, y: linearized.load(x), "from_arrays takes arrays"), (lambda x, y: linearized.load(None), "None"),
    (lambda x, y: linearized.from_arrays(None, y), "Inputs are missing"),
    (lambda x, y: linearized.from_arrays([[1, 2], [3]], [0, 1]), "Inputs must be an array"),
    (lambda x, y: linearized.from_arrays(x, [[0, 1], [1]]), "Labels must be an array"),
    (lambda x, y: linearized.from_arrays(x, pd.date_range("2020", periods=60)), "labels are dates"),
    (lambda x, y: linearized.from_arrays(x, y + 1j), "labels are complex numbers"),
    (lambda x, y: linearized.plot(None), "plot takes the table"),
    (lambda x, y: linearized.plot(pd.DataFrame({"a": [1], "b": [2]})), "plot takes the table"),
    (lambda x, y: linearized.train(data=[x, y]), "a path, or a text of --data. Received"),
    (lambda x, y: linearized.KernelRidgePath(kernel="ntk").fit(x, y), "Did you mean NTK"),
    (lambda x, y: linearized.KernelRidgePath(kernel="NTK", kernel_params={"num_layer": 2}).fit(x, y), "num_layers"),
    (lambda x, y: linearized.sklearn.RandomFeaturesRidge("8").fit(x, y), "num_units must be a whole number"),
    (lambda x, y: linearized.sklearn.RandomFeaturesRidge(8.5).fit(x, y), "num_units must be a whole number"),
    (lambda x, y: linearized.sklearn.NeuralTangentRidge(8, weight_seed="a").fit(x, y), "weight_seed must be a whole"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call(*rows())
    assert "\n" not in str(caught.value)


def test_sparse_inputs_and_labels_are_those_of_the_dense_ones():
    x, y = rows()
    x[np.abs(x) < 1] = 0
    dense = linearized.from_arrays(x, y)
    for kind in (scipy.sparse.csr_matrix, scipy.sparse.coo_array):
        sparse = linearized.from_arrays(kind(x), kind(y[:, None]))
        np.testing.assert_array_equal(sparse.train.x, dense.train.x)
        np.testing.assert_array_equal(sparse.test.y, dense.test.y)
        np.testing.assert_array_equal(sparse.preparation.inputs(kind(x)), dense.preparation.inputs(x))


@pytest.mark.parametrize("x, words", [
    (np.ones(5), r"rows \(m, ...\), one at least. Received: an array of shape \(5,\)"), (np.ones((0, 5)), r"\(0, 5\)"),
    (None, "rows"), (5, "rows"), ("text", "rows"), ([[1, 2], [3]], "NumPy cannot read it"),
    (np.ones((2, 5), complex), "complex128"), (np.full((2, 5), "a"), "real numbers"), (np.ones((2, 4)), "length 5"),
    (np.full((2, 5), None), "real numbers"), (pd.DataFrame([["a"] * 5]), "real numbers"),
])  # fmt: skip
@pytest.mark.parametrize("data", ["own", "DIGITS"])
def test_rows_that_cannot_be_predicted_are_refused(x, words, data):
    found = linearized.from_arrays(*rows()) if data == "own" else linearized.load("DIGITS", num_train=20, num_test=20)
    with pytest.raises(UserError, match=words if data == "own" else "."):
        found.preparation.inputs(x)


def test_columns_of_further_tables_keep_their_kind():
    frame = pd.DataFrame({"a": np.arange(40.0), "b": ["1", "x"] * 20})
    found = linearized.from_arrays(frame, np.arange(40) % 2).preparation
    np.testing.assert_array_equal(found.inputs(pd.DataFrame({"a": [3], "b": [1]})), [[3, 1, 0]])
    with pytest.raises(UserError, match="Column a holds numbers in the train rows"):
        found.inputs(pd.DataFrame({"a": ["q"], "b": ["x"]}))
