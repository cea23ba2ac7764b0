"""`band` of least squares: the Gram matrix formed once gives the direct solutions, in primal and dual."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings
from linearized.problems import FeatureProblem, GramProblem, MatrixProblem, TangentProblem
from linearized.solvers.linear import block_lanczos, formed

RIDGES = (3.0, 1e-2, 100.0, 0.3)  # not in order


class Formed(MatrixProblem):
    """A stored matrix that forms its products."""

    def formed(self, moment):
        if self.dual:
            return GramProblem(self.matrix @ self.matrix.T, self.targets, overwrite=True)
        return GramProblem(self.matrix.T @ self.matrix, moment, overwrite=True)


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


def test_a_tangent_problem_of_one_output_forms_its_matrix_and_of_three_says_what_to_take():
    random = np.random.default_rng(1)
    x, weights = random.standard_normal((25, 6)).astype(np.float32), random.standard_normal((6, 8)).astype(np.float32)
    for outputs in (1, 3):
        readout, y = random.standard_normal((outputs, 8)).astype(np.float32), random.standard_normal((25, outputs))
        problem = TangentProblem(x, y, weights, readout, xp=np)
        if outputs > 1:
            with pytest.raises(UserError, match="of 75 rows knows its products alone"):
                formed.solve(problem, [0.5])
            continue
        ours = formed.solve(problem, [0.5, 50.0], rtol=1e-6, atol=0.0)
        theirs = block_lanczos.solve(problem, [0.5, 50.0], rtol=1e-6, atol=0.0)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one.value, other.value, atol=1e-3 * np.abs(other.value).max())


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
    with pytest.raises(UserError, match=r"of RF, and of NT with one output.*10 outputs of DIGITS"):
        TrainSettings(model="NT", solver="band")


def test_features_that_are_kept_leave_less_room_for_the_matrix():
    problem = features(200, 400, memory=600_000, mode="kept")
    assert problem.spare < 12 * 200**2 < problem.memory
    with pytest.raises(UserError, match="band forms a matrix of 200 rows"):
        formed.solve(problem, [1.0])
