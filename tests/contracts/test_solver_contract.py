"""What is true of every solver of linear problems, run over the table."""

import itertools

import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.base.errors import UserError
from linearized.problems import FeatureProblem, MatrixProblem, TangentProblem
from linearized.solvers import LINEAR, SOLVERS

RIDGES = (3.0, 1e-2, 100.0, 0.3)  # not in order
pytestmark = pytest.mark.parametrize("name", LINEAR)


def matrices(seed, n, p, columns):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, p)), random.standard_normal((n, columns))


def primal(matrix, targets, ridge):
    return np.linalg.solve(matrix.T @ matrix + ridge * np.eye(matrix.shape[1]), matrix.T @ targets)


def dual(matrix, targets, ridge):
    return matrix.T @ np.linalg.solve(matrix @ matrix.T + ridge * np.eye(len(matrix)), targets)


def dense_features(problem_x, weights):
    product = problem_x.astype(np.float64) @ weights.astype(np.float64)
    return np.concatenate([np.maximum(product, 0), np.ones((len(product), 1))], axis=1)


def residual_from_scratch(matrix, targets, solution):
    moment = matrix.T @ targets
    missing = moment - matrix.T @ (matrix @ solution.value) - solution.ridge * solution.value
    return np.linalg.norm(missing) / np.linalg.norm(moment)


@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 30), p=st.integers(1, 30), columns=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_every_ridge_is_the_direct_solution_in_primal_and_dual(name, seed, n, p, columns):
    matrix, targets = matrices(seed, n, p, columns)
    solutions = SOLVERS.load(name).solve(MatrixProblem(matrix, targets), RIDGES, rtol=1e-11, atol=0.0)
    assert [solution.ridge for solution in solutions] == list(RIDGES)
    for solution in solutions:
        assert solution.converged
        expected = primal(matrix, targets, solution.ridge)
        np.testing.assert_allclose(expected, dual(matrix, targets, solution.ridge), atol=1e-6)
        np.testing.assert_allclose(solution.value, expected, atol=1e-7 * (1 + np.abs(expected).max()))
        np.testing.assert_allclose(solution.predictions, matrix @ solution.value, atol=1e-9)
        assert len(solution.history) == solution.iterations


@pytest.mark.parametrize(("n", "units"), [(60, 150), (150, 60)])
@pytest.mark.parametrize("mode", ["kept", "recomputed", "gram"])
def test_ten_one_hot_columns_of_features(name, mode, n, units):
    random = np.random.default_rng(0)
    x = random.standard_normal((n, 20)).astype(np.float32)
    weights = (random.standard_normal((20, units)) / np.sqrt(20)).astype(np.float32)
    y = np.eye(10)[random.integers(0, 9, n)]  # no row has the last class: a column of zeros
    matrix = dense_features(x, weights)
    problem = FeatureProblem(x, y, weights, mode=mode, xp=np)
    for solution in SOLVERS.load(name).solve(problem, [n * 1e-3, n * 0.1], rtol=1e-5, atol=0.0):
        assert solution.converged
        assert solution.residual == pytest.approx(residual_from_scratch(matrix, y, solution), abs=2e-6)
        expected = primal(matrix, y, solution.ridge)
        np.testing.assert_allclose(solution.predictions, matrix @ expected, atol=2e-3)
        np.testing.assert_array_equal(solution.value[:, 9], 0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_coupled_tangent_problem(name, outputs):
    random = np.random.default_rng(1)
    x = random.standard_normal((25, 6)).astype(np.float32)
    weights = random.standard_normal((6, 8)).astype(np.float32)
    readout = random.standard_normal((outputs, 8)).astype(np.float32)
    y = random.standard_normal((25, outputs))
    problem = TangentProblem(x, y, weights, readout, xp=np)
    matrix = problem.forward(np.eye(problem.params))
    for solution in SOLVERS.load(name).solve(problem, [0.5, 50.0], rtol=1e-6, atol=0.0):
        expected = primal(matrix, y.reshape(-1, 1), solution.ridge)
        assert solution.converged
        np.testing.assert_allclose(solution.value, expected, atol=1e-3 * np.abs(expected).max())


def test_published_units_of_the_tolerance_are_those_of_scipy_cg(name):
    """Ours stops within a step or two of SciPy's cg on H = (2/n)AᵀA + 2λI, b = (2/n)Aᵀy, with no larger residual."""
    matrix, targets = matrices(2, 80, 50, 1)
    h = 2 / 80 * (matrix.T @ matrix) + 2 * 0.01 * np.eye(50)
    b = 2 / 80 * (matrix.T @ targets[:, 0])
    for rtol, atol in ((1e-4, 0.0), (0.0, 1e-3), (1e-8, 1e-2)):
        steps = []
        scipy.sparse.linalg.cg(h, b, rtol=rtol, atol=atol, callback=lambda _, steps=steps: steps.append(1))
        [solution] = SOLVERS.load(name).solve(MatrixProblem(matrix, targets), [80 * 0.01], rtol=rtol, atol=atol)
        limit = max(rtol * np.linalg.norm(b), atol)
        assert np.linalg.norm(b - h @ solution.value[:, 0]) <= 1.1 * limit
        assert abs(solution.iterations - len(steps)) <= 2
        assert solution.history[-1] * np.linalg.norm(b) <= limit < solution.history[-2] * np.linalg.norm(b)


def test_too_few_iterations_are_told(name):
    matrix, targets = matrices(3, 60, 90, 1)
    solutions = SOLVERS.load(name).solve(MatrixProblem(matrix, targets), [1e-3, 1e6], max_iterations=2)
    assert [solution.converged for solution in solutions] == [False, True]
    assert solutions[0].iterations == 2
    assert solutions[0].residual == pytest.approx(residual_from_scratch(matrix, targets, solutions[0]), rel=1e-9)
    assert solutions[0].residual > 1e-2


def test_duplicate_rows_and_columns(name):
    matrix, targets = matrices(4, 12, 20, 1)
    matrix = np.concatenate([matrix, matrix[:5]])
    targets = np.concatenate([targets, targets[:5] + 1])
    targets = np.concatenate([targets, targets, np.zeros_like(targets)], axis=1)
    for solution in SOLVERS.load(name).solve(MatrixProblem(matrix, targets), RIDGES, rtol=1e-10, atol=0.0):
        assert solution.converged
        np.testing.assert_allclose(solution.value, primal(matrix, targets, solution.ridge), atol=1e-7)


def test_zero_labels_and_one_row(name):
    matrix, targets = matrices(5, 7, 4, 2)
    for solution in SOLVERS.load(name).solve(MatrixProblem(matrix, 0 * targets), RIDGES):
        assert solution.converged and solution.residual == 0
        np.testing.assert_array_equal(solution.value, np.zeros((4, 2)))
    [solution] = SOLVERS.load(name).solve(MatrixProblem(matrix[:1], targets[:1]), [2.0], rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(solution.value, dual(matrix[:1], targets[:1], 2.0), atol=1e-12)


def test_a_ridge_of_zero_is_for_determined_problems_only(name):
    matrix, targets = matrices(6, 30, 5, 1)
    [solution] = SOLVERS.load(name).solve(MatrixProblem(matrix, targets), [0.0], rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(solution.value, np.linalg.lstsq(matrix, targets)[0], atol=1e-9)
    with pytest.raises(UserError, match="undetermined"):
        SOLVERS.load(name).solve(MatrixProblem(matrix.T, targets[:5]), [0.0])


@pytest.mark.parametrize(
    ("ridges", "settings_", "said"),
    [
        ([], {}, "Ridges"), ([-1.0], {}, "Ridges"), ([np.nan], {}, "Ridges"), ([1.0], {"rtol": -1.0}, "Tolerances"),
        ([1.0], {"rtol": 0.0, "atol": 0.0}, "Tolerances"), ([1.0], {"max_iterations": 0}, "iterations"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(name, ridges, settings_, said):
    with pytest.raises(UserError, match=said):
        SOLVERS.load(name).solve(MatrixProblem(*matrices(7, 6, 4, 1)), ridges, **settings_)


@pytest.mark.parametrize("units", [5, 200])
def test_features_that_are_not_finite_stop_the_run(name, units):
    x = np.ones((20, 3), np.float32)
    x[7, 1] = np.nan
    problem = FeatureProblem(x, np.ones((20, 1)), np.ones((3, units), np.float32), xp=np)
    with pytest.raises(UserError, match="not finite"):
        SOLVERS.load(name).solve(problem, [1.0])


def test_progress_is_told_after_each_product(name):
    told = []
    solutions = SOLVERS.load(name).solve(
        MatrixProblem(*matrices(8, 60, 40, 1)), RIDGES, progress=lambda *news: told.append(news)
    )
    assert [news[0] for news in told] == list(range(1, len(told) + 1))
    assert max(solution.iterations for solution in solutions) == len(told)
    assert all(news[1] == 750 and news[2].shape == (4,) for news in told)
    assert told[-1][3] == 0 and [news[3] for news in told] == sorted((news[3] for news in told), reverse=True)


@pytest.mark.parametrize("shape", [(60, 45), (45, 60)])
@pytest.mark.parametrize("kill_at", [1, 3, 8, 14])
def test_a_killed_run_goes_on_where_it_was(name, kill_at, shape, tmp_path):
    problem = MatrixProblem(*matrices(9, *shape, 2))
    solve, settings_ = SOLVERS.load(name).solve, {"rtol": 1e-9, "atol": 0.0}
    whole = solve(problem, RIDGES, **settings_)

    def killer(iteration, *_):
        if iteration == kill_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(problem, RIDGES, progress=killer, checkpoint=tmp_path, key="a", interval=0.0, **settings_)
    steps = []
    resumed = solve(
        problem, RIDGES, progress=lambda i, *_: steps.append(i), checkpoint=tmp_path, key="a", interval=0.0, **settings_
    )
    assert steps[0] == kill_at  # the step that was killed before it was saved is taken again
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(other.value, one.value, rtol=0, atol=1e-6 * np.abs(one.value).max())
        np.testing.assert_allclose(other.history, one.history, rtol=1e-4)
    steps.clear()
    again = solve(problem, RIDGES, progress=lambda i, *_: steps.append(i), checkpoint=tmp_path, key="a", **settings_)
    assert not steps  # a finished run is read, not run
    np.testing.assert_array_equal(again[1].value, resumed[1].value)


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(name, tmp_path):
    problem = MatrixProblem(*matrices(10, 30, 40, 1))
    solve = SOLVERS.load(name).solve
    first = solve(problem, RIDGES, checkpoint=tmp_path, key="a", interval=0.0)
    steps = []
    solve(problem, RIDGES, checkpoint=tmp_path, key="b", interval=0.0, progress=lambda i, *_: steps.append(i))
    assert steps[0] == 1
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    after = solve(problem, RIDGES, checkpoint=tmp_path, key="b", interval=0.0)
    np.testing.assert_allclose(after[0].value, first[0].value, atol=1e-9)


def ill_conditioned_tangents(seed):
    """A float32 NT problem of image-like inputs at the second published ridge, its ridge, and Kα in float64."""
    random, n, dim, units = np.random.default_rng(seed), 60, 64, 4
    x = (random.standard_normal((n, dim)) * 8 / np.arange(1, dim + 1)).astype(np.float32)
    weights = random.standard_normal((dim, units))
    weights = (weights / np.linalg.norm(weights, axis=0)).astype(np.float32)
    readout, y = random.standard_normal((1, units)).astype(np.float32), random.standard_normal((n, 1))
    z = x.astype(np.float64) @ weights
    directions = ((z > 0) * readout[0].astype(np.float64))[:, :, None] * x.astype(np.float64)[:, None]
    features = np.concatenate([np.maximum(z, 0), np.ones((n, 1)), directions.reshape(n, -1)], axis=1)
    gram, ridge = features @ features.T, n * 10.0 ** np.linspace(-5, 3, 20)[1]
    exact = gram @ np.linalg.solve(gram + ridge * np.eye(n), y)
    return TangentProblem(x, y, weights, readout, xp=np), ridge, exact


@pytest.mark.parametrize("seed", range(2))
def test_asking_for_more_never_gives_less(name, seed):
    problem, ridge, exact = ill_conditioned_tangents(seed)
    errors, bounds = [], []
    for rtol in (1e-3, 1e-5, 1e-7, 1e-9):
        [solution] = SOLVERS.load(name).solve(problem, [ridge], rtol=rtol, atol=0.0, max_iterations=2000)
        assert solution.converged and solution.message == ""
        errors.append(np.linalg.norm(solution.predictions - exact))
        bounds.append(solution.prediction_error * np.sqrt(len(exact)))
    rounding = 1e-6 * np.linalg.norm(exact)  # of the features, which the problem rounds to float32
    assert all(tight <= loose + rounding for loose, tight in itertools.pairwise(errors)), errors
    assert errors[-1] < rounding
    assert all(error <= bound + rounding for error, bound in zip(errors, bounds, strict=True)), bounds
    assert all(bound < 1e3 * error for error, bound in zip(errors[:2], bounds, strict=False)), bounds


def test_exhausted_precision_and_iterations_are_said(name):
    problem, ridge, _ = ill_conditioned_tangents(0)
    [exhausted] = SOLVERS.load(name).solve(problem, [ridge], rtol=1e-17, atol=0.0, max_iterations=20_000)
    assert not exhausted.converged and "precision of float32 products is exhausted" in exhausted.message
    assert exhausted.residual < 1e-10
    [spent] = SOLVERS.load(name).solve(problem, [ridge], rtol=1e-11, atol=0.0, max_iterations=20)
    assert not spent.converged and "all 20 iterations are spent" in spent.message
