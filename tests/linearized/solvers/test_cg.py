"""Multi-shift CG against plain CG, one ridge and one column at a time; restarts in float32."""

import numpy as np
import pytest
import scipy.sparse.linalg

from linearized.problems import GramProblem, MatrixProblem
from linearized.solvers.linear import cg
from linearized.solvers.linear.driver import LinearRun
from linearized.solvers.linear.solution import Tolerance, measured


class Float32Problem(MatrixProblem):
    """A problem whose products are rounded to float32, as those of features are."""

    def forward(self, v):
        return (self.matrix.astype(np.float32) @ v.astype(np.float32)).astype(np.float64)

    def adjoint(self, u):
        return (self.matrix.astype(np.float32).T @ u.astype(np.float32)).astype(np.float64)


def plain_cg(matrix, targets, ridge, limit):
    """The textbook recurrence for one column; residual norms after each step."""
    v = np.zeros(matrix.shape[1])
    r = matrix.T @ targets
    p, norms = r.copy(), []
    while not norms or norms[-1] > limit:
        q = matrix.T @ (matrix @ p) + ridge * p
        alpha = r @ r / (p @ q)
        v = v + alpha * p
        fresh = r - alpha * q
        p = fresh + (fresh @ fresh) / (r @ r) * p
        r = fresh
        norms.append(np.linalg.norm(r))
    return v, np.array(norms)


def test_every_shift_walks_the_path_of_its_own_plain_cg():
    random = np.random.default_rng(0)
    matrix, targets = random.standard_normal((70, 40)), random.standard_normal((70, 1))
    moment = np.linalg.norm(matrix.T @ targets)
    for solution in cg.solve(MatrixProblem(matrix, targets), [0.1, 1.0, 30.0], rtol=1e-6, atol=0.0):
        value, norms = plain_cg(matrix, targets[:, 0], solution.ridge, 1e-6 * moment)
        assert solution.iterations == len(norms)
        np.testing.assert_allclose(solution.history, norms / moment, rtol=1e-2)
        np.testing.assert_allclose(solution.value[:, 0], value, atol=1e-9)


def test_columns_keep_their_own_coefficients_and_stop_together():
    random = np.random.default_rng(1)
    matrix, targets = random.standard_normal((50, 30)), random.standard_normal((50, 3)) * [1, 10, 0]
    [solution] = cg.solve(MatrixProblem(matrix, targets), [1.0], rtol=1e-7, atol=0.0)
    squares = solution.history**2
    for column in range(2):
        value, norms = plain_cg(matrix, targets[:, column], 1.0, 1e-12)
        np.testing.assert_allclose(solution.value[:, column], value, atol=1e-6)
        squares = squares - (norms[: len(squares)] / np.linalg.norm(matrix.T @ targets)) ** 2
    np.testing.assert_allclose(squares, 0, atol=1e-9)  # the Frobenius norm is made of the columns' norms


def test_one_ridge_is_scipy_cg():
    random = np.random.default_rng(2)
    matrix, targets = random.standard_normal((90, 60)), random.standard_normal((90, 1))
    expected, info = scipy.sparse.linalg.cg(
        matrix.T @ matrix + 5 * np.eye(60), matrix.T @ targets[:, 0], rtol=1e-4, atol=0
    )
    assert info == 0
    [solution] = cg.solve(MatrixProblem(matrix, targets), [5.0], rtol=1e-4, atol=0.0)
    np.testing.assert_allclose(solution.value[:, 0], expected, rtol=1e-6, atol=1e-9)


def float32_problem():
    """Singular values from 10 down to 1: float32 holds the true relative residual above 1e-9."""
    random = np.random.default_rng(3)
    left, _ = np.linalg.qr(random.standard_normal((80, 60)))
    right, _ = np.linalg.qr(random.standard_normal((60, 60)))
    problem = Float32Problem(left * np.logspace(1, 0, 60) @ right.T, random.standard_normal((80, 1)))
    return problem, float(np.linalg.norm(problem.adjoint(problem.targets)))


def test_a_running_residual_that_drifts_is_not_believed():
    problem, _ = float32_problem()
    [drifted] = cg.solve(problem, [1e-2], rtol=1e-9, atol=0.0, max_iterations=750)
    assert drifted.history.min() <= 1e-9 < drifted.residual / 1.1
    assert not drifted.converged


def test_a_poor_start_is_mended_by_going_on():
    problem, moment = float32_problem()
    tolerance = Tolerance(moment, 1e-5)
    poor = measured(problem, np.array([1e-2]), [np.ones((60, 1))], [np.array([1.0])], tolerance)
    assert not poor[0].converged
    [mended] = cg.polish(problem, poor, tolerance, LinearRun(max_iterations=750))
    assert mended.converged and mended.iterations > 1
    [stopped] = cg.polish(problem, poor, tolerance, LinearRun(max_iterations=4))
    assert not stopped.converged and stopped.iterations == 4 and stopped.residual < poor[0].residual


def test_tiny_products_do_not_underflow_the_shifts():
    """A shift of 1e12 above the smallest ridge: ζ itself would fall below the smallest double in a few steps."""
    random = np.random.default_rng(4)
    matrix, targets = random.standard_normal((200, 150)), random.standard_normal((200, 1))
    small, large = cg.solve(MatrixProblem(matrix, targets), [1e-6, 1e12], rtol=1e-12, atol=0.0)
    for solution in (small, large):
        expected = np.linalg.solve(matrix.T @ matrix + solution.ridge * np.eye(150), matrix.T @ targets)
        np.testing.assert_allclose(solution.value, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("budget", [20, 60, 200])
@pytest.mark.parametrize("kind", [MatrixProblem, Float32Problem, GramProblem])
def test_a_smaller_tolerance_never_gives_a_larger_objective(kind, budget):
    """CG minimizes ½vᵀAv - bᵀv over a growing space, whether or not the budget of steps is spent; compared by A⁻¹."""
    for condition, seed in ((1e3, 0), (1e5, 1), (1e7, 2)):
        random = np.random.default_rng(seed)
        left, _ = np.linalg.qr(random.standard_normal((60, 40)))
        right, _ = np.linalg.qr(random.standard_normal((40, 40)))
        matrix, targets = left * np.logspace(0, -np.log10(condition), 40) @ right.T, random.standard_normal((60, 1))
        if kind is GramProblem:
            gram = (matrix @ matrix.T).astype(np.float32)
            problem, operator, moment = GramProblem(gram, targets), (gram.astype(float) + gram.T) / 2, targets
        else:
            problem, operator, moment = kind(matrix, targets), matrix.T @ matrix, matrix.T @ targets
        ridges = [1e-8, 1e-5, 1e-2]
        found = {rtol: cg.solve(problem, ridges, rtol=rtol, atol=0.0, max_iterations=budget) for rtol in (1e-7, 1e-9)}
        for index, ridge in enumerate(ridges):
            shifted = operator + ridge * np.eye(len(operator))
            exact = np.linalg.solve(shifted, moment)
            excess = [
                ((v := solutions[index].value - exact) * (shifted @ v)).sum() / (exact * moment).sum()
                for solutions in found.values()
            ]
            room = 1e-12 if kind is MatrixProblem else 1e-6  # rounding of products in float32
            assert excess[1] <= excess[0] * 1.001 + room, (condition, ridge, excess)
