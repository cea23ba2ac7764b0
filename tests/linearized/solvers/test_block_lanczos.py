"""Block Lanczos: exact ends, the residual's formula, random columns, the memory's limit, segments of a checkpoint."""

import numpy as np
import pytest

from linearized.problems import MatrixProblem
from linearized.solvers.linear import block_lanczos
from linearized.solvers.linear import solution as solution_module
from linearized.solvers.linear.driver import LinearRun
from linearized.solvers.linear.solution import primal_values


class WideProblem(MatrixProblem):
    """Asks for a wider block than it has columns."""

    block = 6


def problem_of(n, p, columns, seed=0, kind=MatrixProblem):
    random = np.random.default_rng(seed)
    return kind(random.standard_normal((n, p)), random.standard_normal((n, columns)))


@pytest.mark.parametrize(("n", "p"), [(40, 60), (60, 40)])
def test_the_space_is_exhausted_after_its_dimension(n, p):
    """The end is exact: no more steps than the smaller side has room for, and a residual at rounding."""
    solutions = block_lanczos.solve(problem_of(n, p, 5), [1e-9, 1.0], rtol=1e-13, atol=0.0)
    for solution in solutions:
        assert solution.iterations <= 40 // 5 + 1
        assert solution.residual < 1e-12


def test_rank_bounds_the_steps():
    random = np.random.default_rng(1)
    matrix = random.standard_normal((50, 3)) @ random.standard_normal((3, 80))
    targets = random.standard_normal((50, 1))
    [solution] = block_lanczos.solve(MatrixProblem(matrix, targets), [0.5], rtol=1e-11, atol=0.0)
    assert solution.converged and solution.iterations <= 6
    expected = matrix.T @ np.linalg.solve(matrix @ matrix.T + 0.5 * np.eye(50), targets)
    np.testing.assert_allclose(solution.value, expected, atol=1e-10)


@pytest.mark.parametrize(("n", "p"), [(60, 90), (90, 60)])
def test_running_residuals_are_those_of_the_solutions_so_far(n, p):
    """Stopped after m steps, the value's true residual is the running one (one product later in the dual)."""
    problem = problem_of(n, p, 2, seed=2)
    [solution] = block_lanczos.solve(problem, [0.3], rtol=1e-8, atol=0.0)
    for steps in (1, 3, 6):
        state = lanczos(problem, np.array([0.3]), rtol=1e-8)
        for _ in range(steps):
            state.step()
        duals, values = state.values()
        [value] = primal_values(problem, duals) if problem.dual else values
        missing = problem.adjoint(problem.targets) - problem.primal_product(value) - 0.3 * value
        told = solution.history[steps if problem.dual else steps - 1]
        relative = np.linalg.norm(missing) / np.linalg.norm(problem.adjoint(problem.targets))
        assert told == pytest.approx(relative, rel=1e-6)


def start_of(problem):
    return problem.targets if problem.dual else problem.adjoint(problem.targets)


def lanczos(problem, ridges, *, rtol):
    """Return the state of a run that has not begun."""
    run = LinearRun(rtol=rtol, atol=0.0)
    return block_lanczos._Lanczos(problem, start_of(problem), ridges, run, run.checkpoint())


def test_the_basis_stays_orthonormal():
    random = np.random.default_rng(3)
    matrix = random.standard_normal((150, 150)) * np.logspace(0, -7, 150)
    problem = MatrixProblem(matrix, random.standard_normal((150, 2)))
    state = lanczos(problem, np.array([1e-8]), rtol=1e-14)
    while state.block.shape[1] > 0 and state.iteration < 60:
        state.step()
    vectors = state.basis.vectors(0, len(state.basis))
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-13)
    assert len(vectors) > 100


@pytest.mark.parametrize(("n", "p"), [(60, 90), (90, 60)])
def test_random_columns_cut_the_steps_and_not_the_answer(n, p):
    narrow, wide = (
        block_lanczos.solve(problem_of(n, p, 1, seed=4, kind=kind), [0.1, 10.0], rtol=1e-9, atol=0.0)
        for kind in (MatrixProblem, WideProblem)
    )
    for one, other in zip(narrow, wide, strict=True):
        assert other.converged and other.iterations < one.iterations
        np.testing.assert_allclose(other.value, one.value, atol=1e-7)
        assert other.value.shape == one.value.shape


def test_a_basis_that_does_not_fit_is_followed_by_cg(monkeypatch):
    monkeypatch.setattr(solution_module, "LEAST_BASIS", 8 * 60 * 10)
    problem = problem_of(60, 90, 1, seed=5)
    problem.memory = 0
    solutions = block_lanczos.solve(problem, [0.1, 1e4], rtol=1e-9, atol=0.0)
    for solution in solutions:
        expected = problem.matrix.T @ np.linalg.solve(
            problem.matrix @ problem.matrix.T + solution.ridge * np.eye(60), problem.targets
        )
        assert solution.converged
        np.testing.assert_allclose(solution.value, expected, atol=1e-7)
    assert solutions[0].iterations > 12


def test_a_wide_block_gives_way_to_the_budget(monkeypatch):
    problem = problem_of(2000, 2500, 1, kind=WideProblem)
    monkeypatch.setattr(solution_module, "LEAST_BASIS", 0)
    for vectors, block in ((612, 6), (500, 4), (300, 1), (10, 1)):
        problem.memory = 8 * 2000 * vectors
        assert block_lanczos._block(problem) == block


def test_a_gap_in_the_checkpoint_ends_what_is_read(tmp_path):
    problem = problem_of(60, 90, 1, seed=6)
    run = {"rtol": 1e-9, "atol": 0.0, "checkpoint": tmp_path, "interval": 0.0}
    whole = block_lanczos.solve(problem, [0.1], **run)
    (tmp_path / "lanczos-000004.npz").write_bytes(b"nothing of use")
    steps = []
    resumed = block_lanczos.solve(problem, [0.1], progress=lambda i, *_: steps.append(i), **run)
    assert steps[0] == 5
    np.testing.assert_allclose(resumed[0].value, whole[0].value, atol=1e-9)
    assert resumed[0].iterations == whole[0].iterations


def test_a_checkpoint_serves_other_ridges(tmp_path):
    problem = problem_of(60, 90, 1, seed=7)
    run = {"rtol": 1e-9, "atol": 0.0, "checkpoint": tmp_path}
    block_lanczos.solve(problem, [0.1], **run)
    steps = []
    [solution] = block_lanczos.solve(problem, [5.0], progress=lambda i, *_: steps.append(i), **run)
    assert not steps and solution.converged and solution.ridge == 5.0
