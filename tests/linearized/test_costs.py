"""How `auto` chooses the solver of least squares by estimated seconds; every choice gives the same numbers."""

import dataclasses
import json
import math
import zipfile

import numpy as np
import pytest

from linearized.experiments import train
from linearized.experiments.train import TrainSettings
from linearized.problems import FeatureProblem, MatrixProblem, TangentProblem
from linearized.problems.costs import CHECKPOINT, choose, estimates
from linearized.solvers import SOLVERS
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.linear.solution import ACCURACY, ATOL, RTOL
from linearized.solvers.rates import Rates

FAST = Rates(1e-11, 2e-11, 1e-11, 3e-10, 1e-10, 1e-9, 1e-11, 2e-7, 1e-4, 1e-8)
RIDGES = np.logspace(-4, 2, 7)


def data(n, units, columns, dim=20):
    random = np.random.default_rng(0)
    x = random.standard_normal((n, dim)).astype(np.float32)
    weights = (random.standard_normal((dim, units)) / np.sqrt(dim)).astype(np.float32)
    y = np.eye(columns)[random.integers(0, columns, n)] if columns > 1 else random.standard_normal((n, 1))
    return x, y, weights


def features(n, units, columns, **options):
    x, y, weights = data(n, units, columns)
    return FeatureProblem(x, y, weights, xp=np, **options)


def per_class(n, units, columns, **options):
    return tangents(n, units, columns, per_class=True, **options)


def tangents(n, units, columns, **options):
    x, y, weights = data(n, units, columns)
    readout = np.random.default_rng(1).standard_normal((columns, units)).astype(np.float32)
    return TangentProblem(x, y, weights, readout, xp=np, **options)


def dense(problem):
    """A in float64, by products that are computed in float64."""
    return problem.adjoint64(np.eye(problem.rows)).T


@pytest.mark.parametrize("solver", ["band", "lanczos", "cg"])
@pytest.mark.parametrize(("make", "n", "units", "columns"), [
    (features, 150, 400, 1), (features, 150, 400, 4), (features, 400, 150, 1), (features, 400, 150, 4),
    (tangents, 120, 30, 1), (tangents, 60, 30, 3), (per_class, 60, 30, 3),
])  # fmt: skip
def test_predictions_of_every_ridge_are_those_in_float64(solver, make, n, units, columns):
    """Both kinds of method, against the eigenvalues of A Aᵀ; the rows' mean square is that of the reference."""
    matrix, targets = dense(make(n, units, columns)), make(n, units, columns).targets
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    ridges = n * np.logspace(-4, 2, 7)
    chosen_modes = {one.mode for one in estimates(make(n, units, columns), ridges, FAST, 1e-6, 750)}
    assert {"kept", "recomputed"} <= chosen_modes
    for mode in chosen_modes:
        problem = make(n, units, columns)
        problem.set_mode(mode)
        for solution in SOLVERS.load(solver).solve(problem, ridges, accuracy=ACCURACY):
            shrunk = np.maximum(values, 0) / (np.maximum(values, 0) + solution.ridge)
            exact = vectors @ (shrunk[:, None] * (vectors.T @ targets))
            error = np.sqrt(np.mean((solution.predictions - exact) ** 2) / np.mean(exact**2))
            assert error < 1e-3
            np.testing.assert_allclose(matrix @ solution.value, solution.predictions, atol=1e-4)


def test_many_steps_over_wide_features_cost_more_than_one_matrix_and_few_steps_less():
    problem = features(400, 1600, 10)
    dear = FAST._replace(read=3e-9, column=1e-9, reduced=3e-7)
    many = choose(problem, 400 * RIDGES, rates=dear)
    assert many.solver == "band" and problem.mode == many.mode == "kept"
    few = choose(features(400, 1600, 10), 400 * RIDGES, rates=dear._replace(reduced=1e-3), max_iterations=2)
    assert few.solver == "band" and few.estimates[-1].seconds < few.estimates[0].seconds  # 2 steps miss the accuracy
    trace = problem.n * problem.mean_trace()
    easy = choose(features(400, 1600, 10), np.array([trace, 10 * trace]), rates=dear)  # κ = 2: few steps
    assert easy.solver == "lanczos"
    slow = dear._replace(reduced=1e-3)
    assert choose(features(400, 1600, 10), 400 * RIDGES, rates=slow).solver == "lanczos"


def test_more_ridges_to_refine_cost_more():
    """Those whose float32 factor misses the tolerance need a second factor and three more products."""
    problem, rates = features(400, 1600, 10), FAST._replace(factor=1e-3)
    wide, small = (
        next(e.seconds for e in estimates(problem, 400 * ridges, rates, 1e-4, 750) if e.solver == "band")
        for ridges in (np.logspace(3, 5, 7), np.logspace(-6, -4, 7))
    )
    assert small - wide > 7 * 400 * rates.factor


def test_the_reason_names_both_methods_with_their_seconds():
    chosen = choose(features(400, 1600, 10), 400 * RIDGES, rates=FAST)
    first, second = chosen.estimates[0], next(e for e in chosen.estimates if e.solver != chosen.solver)
    assert chosen.reason == f"estimated: {first}; next {second}" and "\n" not in chosen.reason
    assert f"{first.seconds:.2g} s" in chosen.reason and f"{second.seconds:.2g} s" in chosen.reason
    seconds = [estimate.seconds for estimate in chosen.estimates]
    assert seconds == sorted(seconds) and all(map(math.isfinite, seconds))


@pytest.mark.parametrize("make", [features, tangents])
def test_a_matrix_that_does_not_fit_is_not_formed(make):
    problem = make(400, 100, 1, memory=2**20)
    side = min(problem.rows, problem.params)
    problem.memory = 12 * side**2 - 1
    chosen = choose(problem, 400 * RIDGES, rates=FAST._replace(read=1.0, single=1e-6))
    assert chosen.solver in ("lanczos", "cg") and "no other method fits" in chosen.reason
    assert problem.work.modes[problem.mode] <= problem.memory


def test_kept_features_and_the_matrix_share_the_memory():
    kept = 4 * 400 * 1601
    little, enough = features(400, 1600, 10), features(400, 1600, 10)
    little.memory, enough.memory = kept + 12 * 400**2 - 1, kept + 12 * 400**2
    assert choose(little, 400 * RIDGES, "band", rates=FAST).mode != "kept"
    assert choose(enough, 400 * RIDGES, "band", rates=FAST).mode == "kept"


def test_problems_without_counts_and_solvers_that_are_asked_for_keep_their_mode():
    random = np.random.default_rng(0)
    stored = MatrixProblem(random.standard_normal((30, 20)), random.standard_normal((30, 1)))
    assert choose(stored, RIDGES, rates=FAST)[:2] == ("lanczos", "kept")
    assert choose(tangents(90, 4, 3), RIDGES, rates=FAST).solver == "lanczos"  # more rows than parameters: no matrix
    problem = features(50, 90, 2, mode="recomputed")
    assert choose(problem, RIDGES, "cg", rates=FAST)[:3] == ("cg", "recomputed", "as asked")
    assert choose(problem, RIDGES, rates=FAST).mode == "recomputed"


def test_the_estimate_of_the_trace_is_that_of_all_rows():
    for problem in (features(60, 90, 2), tangents(60, 9, 1), tangents(60, 9, 3)):
        exact = np.sum(dense(problem) ** 2) / problem.n
        assert problem.mean_trace() == pytest.approx(exact, rel=1e-4)


def test_a_killed_run_goes_on_with_the_saved_choice_if_it_fits(tmp_path):
    saved = Checkpoint(tmp_path, key="run")
    first = choose(features(400, 1600, 10), 400 * RIDGES, rates=FAST, saved=saved)
    other = FAST._replace(reduced=1e-3)
    assert choose(features(400, 1600, 10), 400 * RIDGES, rates=other).solver != first.solver
    assert choose(features(400, 1600, 10), 400 * RIDGES, rates=other, saved=saved)[:2] == first[:2]
    assert choose(features(400, 1600, 10, memory=10**5), 400 * RIDGES, rates=other, saved=saved).solver != "band"
    (tmp_path / f"{CHECKPOINT}.npz").write_bytes(b"no archive")
    assert choose(features(400, 1600, 10), 400 * RIDGES, rates=other, saved=saved).solver != first.solver


@pytest.mark.parametrize("directions", ["shared", "per_class"])
def test_classes_cost_as_one_matrix_or_as_one_each(directions):
    """With a reduction that costs everything, three independent classes take a ninth of the time of coupled ones."""
    problem, rates = tangents(80, 60, 3, per_class=directions == "per_class"), FAST._replace(reduction=1e-3)
    band = next(one for one in estimates(problem, 80 * RIDGES, rates, 1e-4, 750) if one.solver == "band")
    assert band.seconds == pytest.approx(1e-3 * (3 * 80**3 if directions == "per_class" else 240**3), rel=0.01)


@pytest.mark.parametrize("given", [{}, {"solver": "lanczos"}, {"cg_rtol": 1e-2}, {"cg_atol": 0.5}])
def test_auto_promises_an_accuracy_unless_a_tolerance_or_a_solver_is_given(directories, given):
    config = TrainSettings(model="RF", num_units=200, num_train=100, num_test=50, reg_index="0:4", **given)
    about = json.loads((train.run(config).folder / "result.json").read_text())["solver"]
    if not given:
        assert about["accuracy"] == ACCURACY and "rtol" not in about
    else:
        assert (about["rtol"], about["atol"]) == (given.get("cg_rtol", RTOL), given.get("cg_atol", ATOL))


def test_v_is_computed_for_the_chosen_ridge_where_alpha_predicts(directories, monkeypatch):
    """The scores and the model file are those of v of every ridge."""
    config = TrainSettings(model="NT", num_units=30, num_train=60, num_test=40, reg_index="0:6", solver="band")
    asked, found, exact = [], {}, TangentProblem.adjoint64
    monkeypatch.setattr(TangentProblem, "adjoint64", lambda self, u: asked.append(u.shape[1]) or exact(self, u))
    for by_alpha in (True, False):
        monkeypatch.setattr(TangentProblem, "predicts_by_kernel", lambda *_, by_alpha=by_alpha: by_alpha)
        result = train.run(dataclasses.replace(config, exp_name=str(by_alpha)))
        found[by_alpha] = [entry["test_loss"] for entry in result.record["ridges"]], result.folder / "model.keras"
    assert asked == [1, 6]
    np.testing.assert_allclose(found[True][0], found[False][0], rtol=1e-5)
    with zipfile.ZipFile(found[True][1]) as one, zipfile.ZipFile(found[False][1]) as other:
        assert one.namelist() == other.namelist()


@pytest.mark.parametrize(("model", "units"), [("RF", 300), ("RF", 60)])
def test_a_run_records_the_choice_and_its_scores_are_those_of_the_other_method(directories, model, units, monkeypatch):
    config = TrainSettings(model=model, num_units=units, num_train=150, num_test=100, cg_rtol=1e-6, cg_atol=0.0)
    losses = {}
    for solver, rates in (("band", FAST._replace(read=1e-6)), ("lanczos", FAST._replace(reduced=1e-2))):
        monkeypatch.setattr("linearized.problems.costs.machine_rates", lambda rates=rates: rates)
        result = train.run(dataclasses.replace(config, exp_name=solver))
        about = json.loads((result.folder / "result.json").read_text())["solver"]
        assert about["name"] == about["estimates"][0]["solver"] == solver
        assert about["features"] == about["estimates"][0]["mode"]
        assert {one["solver"] for one in about["estimates"]} == {"band", "lanczos"} and "next " in about["reason"]
        losses[solver] = [entry["test_loss"] for entry in result.record["ridges"]]
    np.testing.assert_allclose(losses["band"], losses["lanczos"], rtol=2e-3, atol=1e-3)
