"""Ridge regression on features: the normal equations against the kernel's own, and a run from settings to a result."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from linearized.base.errors import UserError
from linearized.experiments.krr import KernelFitSettings as Config
from linearized.experiments.krr import run
from linearized.kernel_ridge.embedded_fit import fit_embedding
from linearized.kernel_ridge.ridge_path import fit
from linearized.problems.embedding_problem import ArrayRows, normal_equations

RIDGES = [1e-2, 1.0, 30.0]


def features(n=90, m=30, seed=0):
    return np.random.default_rng(seed).standard_normal((n, m)) / np.sqrt(m)


@pytest.mark.parametrize("m", [30, 140])
@pytest.mark.parametrize("solver", ["auto", "eigh", "cholesky", "block_lanczos"])
def test_primal_and_dual_ridge_regression_agree(m, solver):
    phi, test, y = features(m=m), features(20, m, 1), np.random.default_rng(2).standard_normal((90, 3))
    path, dual = fit_embedding(phi, y, RIDGES, solver=solver, rtol=1e-10), fit(phi @ phi.T, y, RIDGES, solver="eigh")
    assert path.alpha.shape == (3, m, 3)
    np.testing.assert_allclose(path.predict(test), dual.predict(test @ phi.T), atol=1e-6)
    for one, other in zip(path.solutions, dual.solutions, strict=True):
        np.testing.assert_allclose(one.predictions, other.predictions, atol=1e-6)
        if solver in ("auto", "eigh"):
            assert one.degrees_of_freedom == pytest.approx(other.degrees_of_freedom, rel=1e-6)
            assert one.gcv == pytest.approx(other.gcv, rel=1e-5)


@pytest.mark.parametrize("m", [30, 140])
def test_weighted_rows_are_those_of_scikit_learn_and_of_the_dual(m):
    phi, random = features(m=m), np.random.default_rng(2)
    y, weights = random.standard_normal((90, 3)), random.uniform(0.1, 3, 90)
    weights[[4, 7]] = 0
    path = fit_embedding(phi, y, RIDGES, sample_weight=weights, rtol=1e-10)
    dual = fit(phi @ phi.T, y, RIDGES, sample_weight=weights, solver="eigh")
    for ridge, one, other, w in zip(RIDGES, path.solutions, dual.solutions, path.alpha, strict=True):
        expected = Ridge(alpha=ridge, fit_intercept=False).fit(phi, y, sample_weight=weights).coef_.T
        np.testing.assert_allclose(w, expected, atol=1e-6)
        np.testing.assert_allclose(one.predictions, other.predictions, atol=1e-6)
        assert one.gcv == pytest.approx(other.gcv, rel=1e-5)
    twice = fit_embedding(phi, y, [2.0], sample_weight=2.0, rtol=1e-10)  # of all rows: half the ridge
    np.testing.assert_allclose(twice.alpha[0], path_at(phi, y, 1.0), atol=1e-6)
    with pytest.raises(UserError, match="at least 0"):
        fit_embedding(phi, y, RIDGES, sample_weight=-weights)


def path_at(phi, y, ridge):
    return np.linalg.solve(phi.T @ phi + ridge * np.eye(phi.shape[1]), phi.T @ y)


def test_blocks_add_up(monkeypatch):
    phi, y = features().astype(np.float32), np.random.default_rng(2).standard_normal((90, 2))
    monkeypatch.setattr("linearized.problems.embedding_problem.BLOCK", 7 * 30 * 4)
    square, moment = normal_equations(ArrayRows(phi), y)
    np.testing.assert_allclose(square, phi.T.astype(float) @ phi, atol=1e-5)
    np.testing.assert_array_equal(square, square.T)
    np.testing.assert_allclose(moment, phi.T @ y, atol=1e-5)


def test_what_cannot_be_solved_is_told():
    with pytest.raises(UserError, match="a label each"):
        normal_equations(ArrayRows(features()), np.ones((7, 1)))
    broken = features()
    broken[3, 4] = np.nan
    with pytest.raises(UserError, match="not finite"):
        fit_embedding(broken, np.ones(90), [1.0])


SMALL = {"dataset": "DIGITS", "num_train": 300, "num_test": 80, "embedding_dim": 300, "features": "NTK"}


def test_a_run_makes_features_and_never_chooses_on_test(directories):
    [result] = run(Config(**SMALL, activation="gelu"))
    assert result.record["chosen"]["by"] == "generalised cross-validation"
    assert result.record["chosen_published"]["by"].startswith("test")
    assert result.chosen["test_accuracy"] > 0.8
    assert len(result.record["ridges"]) == 20 and result.record["ridges"][3]["converged"]
    assert list((directories / "ntk_dir").glob("*/embedding.json"))
    assert not run(Config(**SMALL, activation="gelu"))[0].fresh
    [held_out] = run(Config(**SMALL, activation="gelu", validation=50.0))
    assert held_out.record["chosen"]["by"] == "validation accuracy"


@pytest.mark.slow
def test_many_features_give_what_the_kernel_gives(directories):
    [one] = run(Config(**{**SMALL, "embedding_dim": 3000}, dtype="float64", ridges="1,100"))
    [other] = run(Config(dataset="DIGITS", num_train=300, num_test=80, dtype="float64", ridges="1,100"))
    for ours, exact in zip(one.record["ridges"], other.record["ridges"], strict=True):
        assert ours["test_loss"] == pytest.approx(exact["test_loss"], rel=0.1)


def test_flags_that_do_not_go_together_are_refused(directories):
    with pytest.raises(UserError, match="--gram"):
        run(Config(**SMALL, gram="somewhere"))
