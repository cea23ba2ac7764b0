"""`band` of least squares: the Gram matrix formed once gives the direct solutions, in primal and dual."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings
from linearized.problems import FeatureProblem, GramProblem, MatrixProblem, TangentProblem
from linearized.solvers.linear import block_lanczos, cg, formed
from linearized.solvers.linear.band.solver import PARTS

RIDGES = (3.0, 1e-2, 100.0, 0.3)  # not in order


class Formed(MatrixProblem):
    """A stored matrix that forms its products."""

    def formed(self, moment):
        if self.dual:
            return [GramProblem(self.matrix @ self.matrix.T, self.targets, overwrite=True)]
        return [GramProblem(self.matrix.T @ self.matrix, moment, overwrite=True)]


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), p=st.integers(1, 30), columns=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_every_ridge_is_the_direct_solution(seed, n, p, columns):
    random = np.random.default_rng(seed)
    matrix, targets = random.standard_normal((n, p)), random.standard_normal((n, columns))
    found = formed.solve(Formed(matrix, targets), RIDGES, rtol=1e-7, atol=0.0)
    assert [solution.ridge for solution in found] == list(RIDGES)
    for solution in found:
        expected = np.linalg.solve(matrix.T @ matrix + solution.ridge * np.eye(p), matrix.T @ targets)
        assert solution.converged
        np.testing.assert_allclose(solution.value, expected, atol=1e-6 * (1 + np.abs(expected).max()))
        np.testing.assert_allclose(solution.predictions, matrix @ solution.value, atol=1e-9)


def features(n, units, columns=10, **options):
    random = np.random.default_rng(0)
    x = random.standard_normal((n, 20)).astype(np.float32)
    weights = (random.standard_normal((20, units)) / np.sqrt(20)).astype(np.float32)
    return FeatureProblem(x, np.eye(columns)[random.integers(0, columns, n)], weights, xp=np, **options)


@pytest.mark.parametrize(("n", "units"), [(300, 900), (900, 300)])
@pytest.mark.parametrize("mode", ["kept", "recomputed", "gram"])
def test_features_agree_with_float64_and_the_error_is_within_its_bound(n, units, mode):
    problem = features(n, units, mode=mode)
    matrix = problem.forward(np.eye(problem.params))
    for solution in formed.solve(problem, [n * 1e-6, n * 1e-3, n * 0.1], rtol=1e-5, atol=0.0):
        exact = matrix @ np.linalg.solve(
            matrix.T @ matrix + solution.ridge * np.eye(problem.params), matrix.T @ problem.targets
        )
        error = np.sqrt(np.square(solution.predictions - exact).sum() / n)
        assert error <= 1.1 * solution.prediction_error + 1e-6
        assert error < 1e-3
        assert solution.residual < 1e-4


def tangents(outputs, *, n=25, units=40, per_class=False, **options):
    random = np.random.default_rng(1)
    x = random.standard_normal((n, 6)).astype(np.float32)
    weights = random.standard_normal((6, units)).astype(np.float32)
    readout, y = random.standard_normal((outputs, units)).astype(np.float32), random.standard_normal((n, outputs))
    return TangentProblem(x, y, weights, readout, per_class=per_class, xp=np, **options)


@pytest.mark.parametrize(("outputs", "per_class"), [(1, False), (3, False), (3, True)])
def test_tangents_form_their_matrix_and_v_and_alpha_predict_alike(outputs, per_class):
    """Classes with a common direction are one system of nk rows, those with their own are k systems of n rows."""
    problem = tangents(outputs, per_class=per_class)
    sides = [len(part.targets) for part in problem.formed(None)]
    assert sides == ([25] * 3 if per_class else [25 * outputs])
    matrix, new = problem.adjoint64(np.eye(problem.rows)).T, np.random.default_rng(2).standard_normal((7, 6))
    full = formed.solve(tangents(outputs, per_class=per_class), [0.5, 50.0], rtol=1e-6, atol=0.0)
    for one, other in zip(full, formed.solve(problem, [0.5, 50.0], rtol=1e-6, atol=0.0, values=False), strict=True):
        exact = np.linalg.solve(matrix @ matrix.T + one.ridge * np.eye(problem.rows), problem.targets)
        np.testing.assert_allclose(one.value, matrix.T @ exact, atol=1e-5 * np.abs(matrix.T @ exact).max())
        np.testing.assert_allclose(one.predictions, matrix @ one.value, atol=1e-5)
        residual = np.linalg.norm(matrix.T @ (problem.targets - one.predictions) - one.ridge * one.value)
        assert one.residual == pytest.approx(residual / np.linalg.norm(matrix.T @ problem.targets), rel=0.05, abs=1e-9)
        assert other.value is None
        by_alpha = problem.predict_dual(new.astype(np.float32), other.dual)
        np.testing.assert_allclose(by_alpha, problem.predict(new.astype(np.float32), one.value), atol=1e-5)


def test_a_killed_solve_of_several_classes_goes_on_with_each_reduction(tmp_path):
    def solved(**run):
        return formed.solve(tangents(3, n=300, units=90, per_class=True), [1.0], checkpoint=tmp_path, **run)

    totals: list[int] = []
    fresh = solved(interval=0.0, progress=lambda done, total, *_: totals.append(total))
    reductions = totals.count(PARTS)
    totals.clear()
    again = solved(progress=lambda done, total, *_: totals.append(total))
    assert reductions >= 3 and totals.count(PARTS) == 0  # the reduction of every class is read
    np.testing.assert_array_equal(again[0].value, fresh[0].value)


def test_tangents_with_more_rows_than_parameters_form_nothing():
    problem = tangents(1, n=400, units=20)
    with pytest.raises(UserError, match="400 rows knows its products alone"):
        formed.solve(problem, [0.5])
    with pytest.raises(UserError, match="fewer rows than parameters"):
        tangents(1, n=400, units=20, mode="gram")


@pytest.mark.parametrize("solver", [formed, block_lanczos, cg])
@pytest.mark.parametrize(("n", "units"), [(150, 400), (400, 150)])
def test_an_accuracy_holds_at_every_ridge_where_the_published_tolerance_misses_it(solver, n, units):
    """Ridges are those of the published grid, and predictions are compared with those in float64."""
    problem, ridges = features(n, units, mode="kept"), n * np.logspace(-5, 2, 6)
    matrix = problem.adjoint64(np.eye(n)).T

    def errors(**tolerance):
        for one in solver.solve(features(n, units, mode="kept"), ridges, **tolerance):
            system = matrix.T @ matrix + one.ridge * np.eye(problem.params)
            exact = matrix @ np.linalg.solve(system, matrix.T @ problem.targets)
            yield np.linalg.norm(one.predictions - exact) / np.linalg.norm(exact), one

    if solver is not formed:  # whose factor is more accurate than it is asked to be
        assert max(error for error, _ in errors(rtol=1e-2, atol=0.0)) > 1e-3
    for error, one in errors(accuracy=1e-3):
        assert one.converged and error < 1e-3 and one.message == ""
        size = np.sqrt(np.mean(np.square(one.predictions).sum(axis=1)))
        assert error - 1e-5 < one.prediction_error / size <= 1e-3


@pytest.mark.parametrize("solver", [formed, block_lanczos, cg])
def test_a_missed_accuracy_is_said(solver):
    problem = features(300, 900, mode="kept")
    solutions = solver.solve(problem, [1e-9, 1e3], accuracy=1e-15, max_iterations=3)
    assert not solutions[0].converged
    assert "of their root mean square, more than 1e-15" in solutions[0].message


def test_an_accuracy_is_refused_where_it_means_nothing():
    with pytest.raises(UserError, match="above 0"):
        formed.solve(features(30, 40), [1.0], accuracy=0.0)
    with pytest.raises(UserError, match="least squares"):
        block_lanczos.solve(GramProblem(np.eye(3), np.ones((3, 1))), [1.0], accuracy=1e-3)


def test_a_matrix_beyond_the_memory_is_refused():
    with pytest.raises(UserError, match="band forms a matrix of 200 rows"):
        formed.solve(features(200, 400, memory=300_000), [1.0])


def test_a_killed_solve_goes_on_with_its_reduction(tmp_path):
    class Killed(Exception):
        """As a signal would."""

    problem, steps = features(400, 900), []

    def stop(done, total, residuals, left):
        steps.append(done)
        if done > 400:
            raise Killed

    with pytest.raises(Killed):
        formed.solve(problem, [1.0], checkpoint=tmp_path, interval=0.0, progress=stop)
    again = []
    resumed = formed.solve(problem, [1.0], checkpoint=tmp_path, progress=lambda done, *_: again.append(done))
    fresh = formed.solve(problem, [1.0])
    np.testing.assert_allclose(resumed[0].value, fresh[0].value, atol=1e-5)
    assert again[0] > 300


def test_models_that_form_no_matrix_are_refused_from_settings():
    assert TrainSettings(model="RF", solver="band").working_solver() == "band"
    assert TrainSettings(model="NT", solver="band", dataset="SYNTH").working_solver() == "band"  # of one output
    assert TrainSettings(model="NT", solver="band").working_solver() == "band"  # of ten
    with pytest.raises(UserError, match="fits RF, NT"):
        TrainSettings(model="NN", solver="band")


def test_features_that_are_kept_leave_less_room_for_the_matrix():
    problem = features(200, 400, memory=600_000, mode="kept")
    assert problem.spare < 12 * 200**2 < problem.memory
    with pytest.raises(UserError, match="band forms a matrix of 200 rows"):
        formed.solve(problem, [1.0])
