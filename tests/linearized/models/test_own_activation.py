"""`--activation` and `--snnk_activation` of the user's own: networks train and load as with ours of the same values."""

import sys

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings, run
from linearized.models.common import load
from linearized.solvers.training.sgd import predict

SMALL = {"num_units": 16, "num_train": 60, "num_test": 20, "max_cg_iters": 2, "solver": "adam", "reg_index": "5"}
SOURCE = """
def relu(x, xp): return xp.maximum(x, 0)
def plain(x): return x * x
def tanh(x, xp): return xp.tanh(x)
def sums(x): return x.sum()
def fails(x): raise RuntimeError("no licence")
"""


@pytest.fixture
def own(directories, tmp_path, monkeypatch):
    (tmp_path / "own_activations.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "own_activations"
    sys.modules.pop("own_activations", None)


@pytest.mark.parametrize("name, ours", [("relu", "relu"), ("plain", "monomial(2)")])
def test_a_network_of_an_own_activation_is_that_of_ours(own, name, ours):
    theirs = run(TrainSettings(model="NN", activation=f"{own}:{name}", num_layers=2, **SMALL))
    named = run(TrainSettings(model="NN", activation=ours, num_layers=2, **SMALL))
    assert theirs.chosen["test_loss"] == pytest.approx(named.chosen["test_loss"], rel=1e-5)
    assert theirs.folder != named.folder and list(theirs.record["made_by"]["code"]) == ["activation"]
    rows = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    first, second = (predict(load(result.folder / "model.keras"), rows) for result in (theirs, named))
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_snnks_expand_an_own_activation_as_ours(own):
    settings = {"model": "SNNK_MLP", "snnk_features": 64, "snnk_degree": 5, "snnk_normalize": 1.0, **SMALL}
    theirs, named = (run(TrainSettings(snnk_activation=name, **settings)) for name in (f"{own}:tanh", "tanh"))
    assert theirs.chosen["test_loss"] == pytest.approx(named.chosen["test_loss"], rel=1e-4)
    for name, words in (("sums", "a finite number for each"), ("fails", "cannot be called .*no licence")):
        with pytest.raises(UserError, match=f"^{own}:{name} .*{words}"):
            run(TrainSettings(snnk_activation=f"{own}:{name}", **settings))
    with pytest.raises(UserError, match="--snnk_constant is read"):
        TrainSettings(snnk_activation=f"{own}:tanh", snnk_constant=0.1, **settings)
