"""CG in lock-step walks the path of plain CG for every ridge and column, in as many products as the longest needs."""

import dataclasses

import numpy as np
import pytest

from linearized.problems import MatrixProblem
from linearized.solvers.linear import cg
from linearized.solvers.linear.driver import LinearRun
from linearized.solvers.linear.lock_step import LockStep
from linearized.solvers.linear.solution import Tolerance, measured


def plain_cg(h, b, steps):
    """The textbook recurrence for one column: the value and the residual's norm after each step."""
    v, r, norms = np.zeros_like(b), b.copy(), []
    p = r.copy()
    for _ in range(steps):
        q = h @ p
        alpha = r @ r / (p @ q)
        v, fresh = v + alpha * p, r - alpha * q
        p, r = fresh + (fresh @ fresh) / (r @ r) * p, fresh
        norms.append(np.linalg.norm(r))
    return v, np.array(norms)


def test_every_column_of_every_ridge_is_plain_cg():
    random = np.random.default_rng(0)
    matrix, ridges = random.standard_normal((50, 30)), np.array([0.5, 20.0])
    b = random.standard_normal((2, 30, 3))
    square = matrix.T @ matrix
    state = LockStep(b, ridges, 1e-30, np.array([8, 5]))
    widths = []

    def product(v):
        widths.append(v.shape[1])
        return square @ v

    while state.active.any():
        state.step(product)
    assert widths == [6] * 5 + [3] * 3  # a ridge whose steps are spent costs nothing more
    for i, steps in enumerate((8, 5)):
        paths = [plain_cg(square + ridges[i] * np.eye(30), b[i, :, column], steps) for column in range(3)]
        np.testing.assert_allclose(state.values[i], np.stack([v for v, _ in paths], axis=1), rtol=0, atol=1e-10)
        norms = np.sqrt(sum(norms**2 for _, norms in paths))
        np.testing.assert_allclose(state.trace[:steps, i], norms, rtol=1e-8)
        assert np.isnan(state.trace[steps:, i]).all()


def test_columns_of_zeros_and_exhausted_ones_stand_still():
    b = np.zeros((1, 4, 2))
    b[0, :, 0] = [1.0, 0, 0, 0]
    state = LockStep(b, np.array([1.0]), 0.0, np.array([50]))
    while state.active.any():
        state.step(lambda v: 2 * v)
    assert state.iteration <= 2
    np.testing.assert_allclose(state.values[0], b[0] / 3, atol=1e-15)


class Counting(MatrixProblem):
    """Counts passes over A."""

    passes = 0

    def primal_product(self, v):
        self.passes += 1
        return super().primal_product(v)


@pytest.mark.parametrize("batch", [2**29, 1])
def test_polishing_many_ridges_takes_the_passes_of_one(batch, monkeypatch):
    monkeypatch.setattr("linearized.solvers.linear.solution.BATCH_BYTES", batch)
    random = np.random.default_rng(1)
    problem = Counting(random.standard_normal((80, 60)), random.standard_normal((80, 2)))
    ridges = np.array([1.0, 2.0, 3.0, 4.0])
    tolerance = Tolerance(float(np.linalg.norm(problem.moment())), 1e-8)
    starts = [random.standard_normal((60, 2)) for _ in ridges]
    poor = measured(problem, ridges, starts, [np.empty(0)] * 4, tolerance)
    polished = cg.polish(problem, poor, tolerance, LinearRun(max_iterations=500))
    for solution in polished:
        assert solution.converged and solution.iterations == len(solution.history)
        expected = np.linalg.solve(
            problem.matrix.T @ problem.matrix + solution.ridge * np.eye(60), problem.matrix.T @ problem.targets
        )
        np.testing.assert_allclose(solution.value, expected, atol=1e-7)
    iterations = [solution.iterations for solution in polished]
    assert problem.passes == (max(iterations) if batch > 1 else sum(iterations))


class Stopped(Exception):
    """What a killed run raises."""


def test_a_killed_polish_goes_on_where_it_was(tmp_path):
    random = np.random.default_rng(2)
    problem = Counting(random.standard_normal((80, 60)), random.standard_normal((80, 1)))
    tolerance = Tolerance(float(np.linalg.norm(problem.moment())), 1e-9)
    ridges = np.array([0.1, 5.0])
    poor = measured(problem, ridges, [np.ones((60, 1))] * 2, [np.empty(0)] * 2, tolerance)
    settings = LinearRun(max_iterations=500, folder=tmp_path, key="a", interval=0.0)

    def killer(iteration, *_):
        if iteration == 6:
            raise Stopped

    whole = cg.polish(problem, poor, tolerance, LinearRun(max_iterations=500))
    with pytest.raises(Stopped):
        cg.polish(problem, poor, tolerance, dataclasses.replace(settings, progress=killer))
    told = []
    watched = dataclasses.replace(settings, progress=lambda *news: told.append(news[0]))
    resumed = cg.polish(problem, poor, tolerance, watched)
    assert told[0] == 6
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(other.value, one.value, rtol=0, atol=1e-12)
        assert other.iterations == one.iterations


def test_a_preconditioner_saves_steps_and_a_stalled_ridge_is_given_up():
    random = np.random.default_rng(3)
    turn = np.linalg.qr(random.standard_normal((40, 40)))[0]
    matrix = (turn * 10.0 ** np.linspace(3, -3, 40)) @ turn.T
    ridges, b = np.array([1e-3, 1.0]), random.standard_normal((2, 40, 2))
    inverses = np.stack([np.linalg.inv(matrix + 1.5 * ridge * np.eye(40)) for ridge in ridges])
    states = [
        LockStep(b, ridges, 1e-8, np.array([400, 400]), precondition=precondition)
        for precondition in (None, lambda residuals, which: inverses[which] @ residuals)
    ]
    for state in states:
        while state.active.any():
            state.step(lambda v: matrix @ v)
    for value, ridge, right in zip(states[1].values, ridges, b, strict=True):
        np.testing.assert_allclose(value, np.linalg.solve(matrix + ridge * np.eye(40), right), rtol=1e-5, atol=1e-6)
    assert states[1].iteration < states[0].iteration / 3
    stalled = LockStep(b, ridges, 0.0, np.array([400, 400]), stall=4)
    while stalled.active.any():
        stalled.step(lambda v: matrix @ v)
    assert stalled.iteration < 400 and stalled.waited.min() >= 4
