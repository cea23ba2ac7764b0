"""Kernel ridge regression by products: K in memory, held from shards, and streamed give the same answers."""

import os
import signal
import subprocess
import sys
import tracemalloc
import types

import numpy as np
import psutil
import pytest

from linearized.base.errors import UserError
from linearized.problems import GramProblem, block_width
from linearized.problems.block_width import best_block
from linearized.problems.weighted_problem import Weighted
from linearized.solvers.linear import block_lanczos, cg
from linearized.storage.gram import open_gram

RIDGES = (1e-1, 3e-3, 10.0)


def kernel(n, dtype="float64", seed=0):
    """A positive kernel between random points, with one large eigenvalue, as kernels of images have."""
    x = np.random.default_rng(seed).standard_normal((n, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    matrix = np.exp(x @ x.T)
    return ((matrix + matrix.T) / 2).astype(dtype)


def labels(n, columns=2, seed=1):
    return np.random.default_rng(seed).standard_normal((n, columns))


def direct(matrix, targets, ridge):
    return np.linalg.solve(matrix.astype(np.float64) + ridge * np.eye(len(matrix)), targets)


@pytest.fixture(params=["array", "transposed", "held", "streamed"])
def way(request, shards, tmp_path):
    """`way(matrix, targets)` makes the problem with K in one of its places."""

    def make(matrix, targets):
        if request.param in ("array", "transposed"):
            return GramProblem(matrix if request.param == "array" else np.asfortranarray(matrix), targets)
        gram = shards(tmp_path, matrix)
        problem = GramProblem(gram, targets, memory=2**30 if request.param == "held" else 0)
        assert problem.streamed == (request.param == "streamed")
        return problem

    return make


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_are_those_of_the_stored_matrix_in_float64(way, dtype):
    matrix, targets = kernel(70, dtype), labels(70)
    problem = way(matrix, targets)
    v = labels(70, 4, seed=2)
    product = problem.primal_product(v)
    np.testing.assert_allclose(product, matrix.astype(np.float64) @ v, rtol=0, atol=1e-12)
    predictions, gradient = problem.evaluate(v)
    np.testing.assert_array_equal(predictions, product)
    np.testing.assert_allclose(gradient, np.concatenate([targets, targets], axis=1) - product, atol=1e-14)
    np.testing.assert_array_equal(problem.moment(), targets)
    assert problem.passes == 2 and problem.seconds_multiplying > 0 and problem.dtype == dtype
    if problem.streamed:
        assert problem.seconds_reading > 0 and problem.seconds_waiting > 0


@pytest.mark.parametrize("solver", [block_lanczos, cg])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_ridge_is_the_direct_solution(way, solver, dtype):
    """With K in float32 too: it is the matrix that is rounded, not the products."""
    matrix, targets = kernel(60, dtype), labels(60)
    for solution in solver.solve(way(matrix, targets), RIDGES, rtol=1e-10, atol=0.0):
        assert solution.converged and solution.residual <= 1.1e-10
        expected = direct(matrix, targets, solution.ridge)
        np.testing.assert_allclose(solution.value, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        missing = targets - matrix.astype(np.float64) @ solution.value - solution.ridge * solution.value
        assert np.linalg.norm(missing) / np.linalg.norm(targets) == pytest.approx(solution.residual, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_block_of_rows_is_that_of_the_matrix_with_and_without_weights(way, dtype):
    matrix, targets = kernel(80, dtype), labels(80)
    problem, rows, v = way(matrix, targets), np.array([70, 3, 41]), labels(80, 5, seed=3)
    root = np.sqrt(np.random.default_rng(4).uniform(0.1, 5, 80))
    whole = matrix.astype(np.float64)
    for one, exact in [(problem, whole), (Weighted(problem, root**2), root[:, None] * whole * root)]:
        product, square = one.row_block(rows, v)
        assert product.dtype == square.dtype == np.float64
        np.testing.assert_allclose(product, exact[rows] @ v, rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(square, exact[np.ix_(rows, rows)], rtol=1e-12)


def test_a_dense_copy_is_the_callers_own(way):
    matrix = kernel(40, "float32")
    problem = way(matrix, labels(40))
    copy = problem.dense("float64")
    assert copy.flags.c_contiguous and copy.dtype == np.float64
    np.testing.assert_array_equal(copy, matrix)
    copy[:] = 0
    np.testing.assert_allclose(problem.primal_product(np.eye(40)), matrix, rtol=1e-6)
    assert problem.dense().dtype == np.float32


@pytest.mark.parametrize("keep", [True, False])
def test_weighted_matrix_takes_over_an_array_that_may_be_overwritten_unless_products_are_kept(keep):
    matrix, weights = kernel(40), np.linspace(0.5, 2.0, 40)
    given, root = matrix.copy(), np.sqrt(weights)
    scaled = Weighted(GramProblem(given, labels(40), overwrite=True), weights).dense(keep=keep)
    np.testing.assert_allclose(scaled, root[:, None] * matrix * root, rtol=1e-15)
    assert np.shares_memory(scaled, given) == (not keep)
    if keep:
        np.testing.assert_array_equal(given, matrix)


def test_memory_says_whether_shards_are_held(shards, tmp_path):
    gram, targets = shards(tmp_path, kernel(60, "float32")), labels(60)
    enough = 4 * 60**2 + 8 * 60 * 60  # of the matrix, and of the largest basis
    held = GramProblem(gram, targets, memory=enough)
    assert not held.streamed and held.spare == enough - 4 * 60**2
    held.primal_product(targets)
    reading = held.seconds_reading
    held.primal_product(targets)
    assert held.seconds_reading == reading  # read once
    streamed = GramProblem(gram, targets, memory=enough - 1)
    assert streamed.streamed and streamed.spare == enough - 1
    given = GramProblem(gram, targets, memory=enough)
    given.dense()
    assert given.streamed and given.spare == enough  # its memory is the caller's now
    np.testing.assert_allclose(given.primal_product(targets), held.primal_product(targets), atol=1e-12)


def test_streaming_holds_two_blocks_and_no_matrix(shards, tmp_path, monkeypatch):
    n = 1600
    gram = shards(tmp_path, kernel(n, "float32"), tile=40, num_shards=10)
    monkeypatch.setattr("linearized.storage.products.COLUMNS", 400)
    problem = GramProblem(gram, labels(n, 1), memory=0)
    v = labels(n, 1)
    multiply = gram.multiply
    monkeypatch.setattr(gram, "multiply", lambda v: multiply(v, memory=2**18))
    tracemalloc.start()
    try:
        problem.primal_product(v)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * n**2 / 4


@pytest.mark.parametrize(
    ("i", "j", "value", "said"),
    [(3, 7, 9.0, r"K\[3, 7\] = 9"), (600, 2, np.nan, r"K\[2, 600\]"), (5, 5, np.inf, r"K\[5, 5\] = inf")],
)
def test_matrices_that_are_not_symmetric_and_finite_are_refused(i, j, value, said):
    matrix = kernel(601)
    GramProblem(matrix + 1e-6 * np.random.default_rng(0).standard_normal(matrix.shape), labels(601))  # rounding
    matrix[i, j] = value
    with pytest.raises(UserError, match=f"symmetric and finite.*{said}"):
        GramProblem(matrix, labels(601))


def test_other_bad_input_is_refused():
    with pytest.raises(UserError, match=r"a row for each of the 8 labels.*\(9, 9\)"):
        GramProblem(kernel(9), labels(8))
    with pytest.raises(UserError, match="square"):
        GramProblem(kernel(9)[:, :8], labels(9))
    with pytest.raises(UserError, match="not finite: 1 of 18"):
        GramProblem(kernel(9), np.where(np.arange(18) == 4, np.nan, 1.0).reshape(9, 2))


def test_random_columns_are_taken_where_reading_is_the_cost():
    assert best_block(10, 10_000, 0.0, False) == 10  # ten labels fill a product already
    assert 8 <= best_block(1, 10_000, 0.0, False) <= 25  # one leaves it empty
    widths = [best_block(10, 20_000, reading, False) for reading in (0.0, 20.0, 60.0, 200.0, 1e4)]
    assert widths == sorted(widths) and widths[0] == 10 and widths[-1] == block_width.WIDEST
    assert best_block(10, 20_000, 25.0, True) == 10  # reading that products cover costs nothing
    assert best_block(100, 20_000, 1e4, False) == 100
    assert best_block(1, 5, 1e4, False) <= 5


@pytest.mark.parametrize(("free", "first", "expected"), [(2**40, 90.0, 11.0), (0, 90.0, 77.0), (0, 2.5, 11.0)])
def test_the_rate_of_reading_is_that_of_a_sample(shards, tmp_path, monkeypatch, free, first, expected):
    """From the cache where all fits there, else from the disk: 90 s less twice the 10 s of reading again are 70 s."""
    gram = shards(tmp_path, kernel(400, "float32"), tile=50)
    assert GramProblem(gram, labels(400), memory=0)._reading() == 0.0  # too small to matter
    monkeypatch.setattr(block_width, "SAMPLE", 2**17)
    gram.check()
    before = gram.seconds_reading
    assert 0 < block_width._sample(gram, 0) < 60 and gram.seconds_reading > before
    times = iter([first, 10.0, 30.0])
    monkeypatch.setattr(block_width, "_sample", lambda gram, columns: next(times))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=free))
    # 20 s multiply 2 columns and what a product takes anyway, that of 20 columns more.
    assert block_width.reading_columns(gram, 2) == pytest.approx(expected)


class Stopped(Exception):
    """What a killed run raises."""


def test_a_resumed_run_keeps_the_width_that_it_began_with(tmp_path):
    """Rates measured anew may ask for another width; the saved basis counts."""
    matrix, targets = kernel(120), labels(120, 1)
    steps = []

    def solve(width, **more):
        problem = GramProblem(matrix, targets)
        problem._block = width
        return block_lanczos.solve(problem, [1e-3], rtol=1e-9, atol=0.0, checkpoint=tmp_path, interval=0.0, **more)

    def killer(iteration, *_):
        if iteration == 4:
            raise Stopped

    with pytest.raises(Stopped):
        solve(5, progress=killer)
    [solution] = solve(2, progress=lambda i, *_: steps.append(i))
    assert steps[0] == 4 and solution.converged
    np.testing.assert_allclose(solution.value, direct(matrix, targets, 1e-3), atol=1e-6)


KILLED = """
import os, signal, sys
import numpy as np
from linearized.storage.gram import open_gram
from linearized.problems import GramProblem
from linearized.solvers.linear import block_lanczos

def progress(iteration, *_):
    if iteration == 5:
        os.kill(os.getpid(), signal.SIGKILL)

problem = GramProblem(open_gram(sys.argv[1]), np.load(sys.argv[2]), memory=0)
block_lanczos.solve(
    problem, [1e-3, 1.0], rtol=1e-9, atol=0.0, checkpoint=sys.argv[3], key="a", interval=0.0, progress=progress
)
"""


def test_a_killed_run_on_shards_goes_on_from_its_saved_basis(shards, tmp_path):
    matrix, targets = kernel(150, "float32"), labels(150)
    gram = shards(tmp_path / "gram", matrix)
    np.save(tmp_path / "y.npy", targets)
    words = [sys.executable, "-c", KILLED, str(tmp_path / "gram"), str(tmp_path / "y.npy"), str(tmp_path / "state")]
    killed = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    run = {"rtol": 1e-9, "atol": 0.0}
    whole_problem, problem, steps = GramProblem(gram, targets, memory=0), GramProblem(gram, targets, memory=0), []
    whole = block_lanczos.solve(whole_problem, [1e-3, 1.0], **run)
    resumed = block_lanczos.solve(
        problem, [1e-3, 1.0], **run, checkpoint=tmp_path / "state", key="a", interval=0.0,
        progress=lambda i, *_: steps.append(i),
    )  # fmt: skip
    assert steps[0] == 5
    assert problem.passes == whole_problem.passes - 4
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(other.value, one.value, rtol=0, atol=1e-7 * np.abs(one.value).max())
        assert other.converged


def test_a_shard_that_is_damaged_stops_the_run_by_its_name(shards, tmp_path):
    shards(tmp_path, kernel(100, "float32"))
    gram = open_gram(tmp_path)
    victim = gram._stored[-1]
    content = bytearray(victim.path.read_bytes())
    content[victim.offset + 5] ^= 4
    victim.path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{victim.path.name} is damaged.*--shard="):
        block_lanczos.solve(GramProblem(open_gram(tmp_path), labels(100), memory=0), [1.0])


def test_rough_products_serve_a_rough_tolerance_alone():
    matrix, targets = kernel(150, "float32"), labels(150)
    problem = GramProblem(matrix, targets)
    v = labels(150, 3, seed=4)
    rough, exact = problem.rough_product(v), problem.primal_product(v)
    error = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
    assert rough.dtype == np.float64 and 0 < error < 1e-6 and problem.passes == 2
    assert GramProblem(kernel(150), targets).rough_product is None
    for rtol, expected in ((1e-3, True), (1e-5, False)):
        calls = []
        problem._rough = lambda v, calls=calls: calls.append(1) or GramProblem._rough(problem, v)
        [solution] = block_lanczos.solve(problem, [0.1], rtol=rtol, atol=0.0)
        assert solution.converged and bool(calls) == expected
        assert len(calls) in (0, solution.iterations)


def test_a_run_whose_rough_products_were_not_enough_is_made_again(tmp_path):
    matrix, targets = kernel(150, "float32"), labels(150)
    problem, random, steps = GramProblem(matrix, targets), np.random.default_rng(0), []
    problem._rough = lambda v: matrix @ v * (1 + 0.02 * random.standard_normal((150, 1)))
    run = {"rtol": 1e-3, "atol": 0.0, "checkpoint": tmp_path, "interval": 0.0}

    def killer(iteration, *_):
        steps.append(iteration)
        if steps[1:].count(1) == 1 and iteration == 4:
            raise Stopped

    with pytest.raises(Stopped):
        block_lanczos.solve(problem, [1e-2, 1.0], progress=killer, **run)
    steps.clear()
    solutions = block_lanczos.solve(problem, [1e-2, 1.0], progress=lambda i, *_: steps.append(i), **run)
    assert steps[0] == 4  # neither the rough steps nor the accurate ones are taken again
    for solution in solutions:
        expected = direct(matrix, targets, solution.ridge)
        assert solution.converged
        assert np.linalg.norm(solution.value - expected) < 0.2 * np.linalg.norm(expected)


def test_ridges_that_miss_are_polished_in_the_passes_of_one(monkeypatch):
    """A basis that does not fit leaves several ridges to CG; their directions go through K together."""
    matrix, targets = kernel(200), labels(200, 1)
    monkeypatch.setattr("linearized.solvers.linear.solution.LEAST_BASIS", 8 * 200 * 8)
    problem = GramProblem(matrix, targets, memory=0)
    ridges = np.logspace(-2, -1, 6)
    solutions = block_lanczos.solve(problem, ridges, rtol=1e-8, atol=0.0)
    for solution in solutions:
        assert solution.converged
        np.testing.assert_allclose(solution.value, direct(matrix, targets, solution.ridge), atol=1e-4)
    iterations = [solution.iterations for solution in solutions]
    assert min(iterations) > 8 and problem.passes <= max(iterations) + 6 < sum(iterations) / 2
