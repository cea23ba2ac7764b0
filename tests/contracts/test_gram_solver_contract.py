"""What is true of every solver of a Gram matrix, (K + ρI)α = Y, run over the table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge

from kernel_gen import gram
from kernel_gen.jobs.tiles import divide, good_number
from linearized.base.errors import UserError
from linearized.kernel_ridge.ridge_path import fit
from linearized.problems import GramProblem
from linearized.solvers import GRAM_SOLVER_READS, GRAM_SOLVERS
from linearized.storage.gram import open_gram
from linearized.storage.manifest import Manifest, save_once
from linearized.storage.shards import write_shard

RIDGES = (3.0, 1e-2, 100.0, 0.3)  # not in order
EXACT = {"rtol": 1e-9, "atol": 0.0}
every_solver = pytest.mark.parametrize("name", list(GRAM_SOLVERS))
both_dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


def gram_of(seed, n, columns, rank=None, dtype="float64"):
    """K of random points, exactly symmetric, and Y."""
    random = np.random.default_rng(seed)
    points = random.standard_normal((n, rank or n + 2))
    k = (points @ points.T).astype(dtype)
    return np.tril(k) + np.tril(k, -1).T, random.standard_normal((n, columns))


def direct(k, targets, ridge):
    return np.linalg.solve(k.astype(np.float64) + ridge * np.eye(len(k)), targets)


def true_residual(k, targets, solution):
    missing = targets - k.astype(np.float64) @ solution.value - solution.ridge * solution.value
    return np.linalg.norm(missing) / np.linalg.norm(targets)


@every_solver
@both_dtypes
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), columns=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_every_ridge_is_the_direct_solution(name, dtype, seed, n, columns):
    k, targets = gram_of(seed, n, columns, dtype=dtype)
    before = k.copy()
    solutions = GRAM_SOLVERS.load(name).solve(GramProblem(k, targets), RIDGES, **EXACT)
    np.testing.assert_array_equal(k, before)
    assert tuple(solution.ridge for solution in solutions) == RIDGES
    for solution in solutions:
        expected = direct(k, targets, solution.ridge)
        assert solution.converged and solution.message == ""
        assert solution.residual == pytest.approx(true_residual(k, targets, solution), abs=1e-12)
        np.testing.assert_allclose(solution.value, expected, atol=2e-6 * np.abs(expected).max())
        predictions = k.astype(np.float64) @ solution.value
        np.testing.assert_allclose(solution.predictions, predictions, atol=1e-10 * np.abs(predictions).max())
        assert len(solution.history) == solution.iterations


@every_solver
@pytest.mark.parametrize("setting, one, other, ridge", [("rtol", 0.5, 1e-11, 1.0), ("max_iterations", 1, 500, 1e-4)])
def test_a_setting_changes_the_answer_if_and_only_if_it_is_declared(name, setting, one, other, ridge):
    k, targets = gram_of(3, 60, 2, rank=30, dtype="float32")
    answers = [
        GRAM_SOLVERS.load(name).solve(GramProblem(k, targets), [ridge], **EXACT | {setting: value})[0]
        for value in (one, other)
    ]
    changed = answers[0].iterations != answers[1].iterations or answers[0].converged != answers[1].converged
    assert changed == (setting in GRAM_SOLVER_READS[name])


@every_solver
@both_dtypes
@pytest.mark.parametrize("n", [1, 20])
def test_more_outputs_than_rows_are_solved(name, dtype, n):
    k, targets = gram_of(10, n, 50, dtype=dtype)
    for solution in GRAM_SOLVERS.load(name).solve(GramProblem(k, targets), RIDGES, **EXACT):
        theirs = KernelRidge(alpha=solution.ridge, kernel="precomputed").fit(k.astype(np.float64), targets)
        assert solution.converged
        np.testing.assert_allclose(solution.value, theirs.dual_coef_, atol=2e-6 * np.abs(theirs.dual_coef_).max())


@every_solver
@both_dtypes
@pytest.mark.parametrize("stored", [False, True])
def test_weighted_rows_are_those_of_scikit_learns_kernel_ridge(name, dtype, stored, tmp_path):
    k, targets = gram_of(11, 40, 2, dtype=dtype)
    weights = np.random.default_rng(11).uniform(0.1, 5, 40)
    gram = shards_of(k, tmp_path) if stored else k
    path = fit(gram, targets, RIDGES, sample_weight=weights, solver=name, rtol=1e-9, memory=10_000)
    for solution in path.solutions:
        theirs = KernelRidge(alpha=solution.ridge, kernel="precomputed")
        theirs.fit(k.astype(np.float64), targets, sample_weight=weights)
        np.testing.assert_allclose(solution.value, theirs.dual_coef_, atol=5e-6 * np.abs(theirs.dual_coef_).max())
        predictions = k.astype(np.float64) @ solution.value
        np.testing.assert_allclose(solution.predictions, predictions, atol=1e-5 * np.abs(predictions).max())


@every_solver
@both_dtypes
def test_an_array_that_may_be_overwritten_gives_the_same_answers(name, dtype):
    k, targets = gram_of(0, 130, 2, dtype=dtype)  # wider than a band
    kept = GRAM_SOLVERS.load(name).solve(GramProblem(k, targets), RIDGES, **EXACT)
    work = k.copy()
    found = GRAM_SOLVERS.load(name).solve(GramProblem(work, targets, overwrite=True), RIDGES, **EXACT)
    for one, other in zip(kept, found, strict=True):
        np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(np.tril(work, -1), np.tril(k, -1))
    assert (work != k).any() == (name in ("band", "cholesky"))


@every_solver
@both_dtypes
def test_several_blocks_of_a_kernel_matrix(name, dtype):
    """n beyond the width of every block; 1e-7 answers at the ridges of use, from a float32 matrix too."""
    random = np.random.default_rng(1)
    k = gram("NTK", random.standard_normal((300, 10)), dense_layers=2, dtype=dtype)
    targets = np.eye(10)[random.integers(0, 9, 300)]  # no row has the last class: a column of zeros
    for solution in GRAM_SOLVERS.load(name).solve(GramProblem(k, targets), [1e-2, 1.0, 1e3], rtol=1e-7, atol=0.0):
        assert solution.converged
        assert true_residual(k, targets, solution) < 1.2e-7
        expected = direct(k, targets, solution.ridge)
        np.testing.assert_allclose(solution.value, expected, atol=1e-5 * np.abs(expected).max())
        np.testing.assert_array_equal(solution.value[:, 9], 0)


@every_solver
@both_dtypes
def test_a_singular_matrix_without_ridge_gets_a_verdict(name, dtype):
    """Refused in words, or that ridge is told to be unsolved and the others are solved.

    Rounding may have made K regular, and a solver may find that solution: what it tells must be so.
    """
    k, targets = gram_of(2, 60, 2, rank=30, dtype=dtype)
    try:
        none, some = GRAM_SOLVERS.load(name).solve(
            GramProblem(k, targets), [0.0, 10.0], rtol=1e-6, atol=0.0, max_iterations=150
        )
    except UserError as error:
        assert "ridge" in str(error)
        return
    assert np.isfinite(none.value).all()
    assert none.converged == (true_residual(k, targets, none) < 1.1e-6)
    assert none.residual == pytest.approx(true_residual(k, targets, none), rel=0.1, abs=1e-7)
    if dtype == "float64":
        assert not none.converged  # half of the labels is not in the range of K
    assert some.converged
    np.testing.assert_allclose(some.value, direct(k, targets, 10.0), atol=1e-5)


@every_solver
@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_a_matrix_that_is_not_finite_is_refused(name, entry):
    k, targets = gram_of(3, 30, 1)
    k[7, 3] = k[3, 7] = entry
    with pytest.raises(UserError, match="finite"):
        GRAM_SOLVERS.load(name).solve(GramProblem(k, targets), [1.0])


@every_solver
@pytest.mark.parametrize(
    ("ridges", "said"), [([], "Ridges"), ([-1.0], "Ridges"), ([np.nan], "Ridges"), ([1.0, np.inf], "Ridges")]
)
def test_bad_ridges_are_refused(name, ridges, said):
    with pytest.raises(UserError, match=said):
        GRAM_SOLVERS.load(name).solve(GramProblem(*gram_of(4, 6, 1)), ridges)


@every_solver
def test_zero_labels_and_the_zero_matrix(name):
    k, targets = gram_of(5, 20, 2)
    for solution in GRAM_SOLVERS.load(name).solve(GramProblem(k, 0 * targets), RIDGES):
        assert solution.converged and solution.residual == 0
        np.testing.assert_array_equal(solution.value, 0 * targets)
    [solution] = GRAM_SOLVERS.load(name).solve(GramProblem(0 * k, targets), [2.0], **EXACT)
    assert solution.converged
    np.testing.assert_allclose(solution.value, targets / 2, atol=1e-12)


@every_solver
def test_shards_give_what_the_array_gives(name, tmp_path):
    k, targets = gram_of(6, 70, 2, dtype="float32")
    solve = GRAM_SOLVERS.load(name).solve
    stored = solve(GramProblem(shards_of(k, tmp_path), targets, memory=10_000), RIDGES, **EXACT)
    for one, other in zip(stored, solve(GramProblem(k, targets), RIDGES, **EXACT), strict=True):
        np.testing.assert_allclose(one.value, other.value, atol=1e-7 * np.abs(other.value).max())


def shards_of(k, folder):
    rows, tile = {"train": len(k)}, 8
    shards = divide(rows, good_number(rows, tile, 3), tile)
    manifest = Manifest({}, "fingerprint", str(k.dtype), "stax", rows, tile, shards, "make")
    save_once(folder, manifest)
    for shard in range(len(shards)):
        write_shard(folder, manifest, shard, lambda band: k[band.start : band.stop, band.left :])
    return open_gram(folder)


@every_solver
@both_dtypes
@pytest.mark.parametrize(
    "share", [pytest.param(0.0, marks=pytest.mark.slow), 0.5, pytest.param(1.0, marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_to_the_same_answer(name, dtype, share, tmp_path):
    """Killed at the first, a middle and the last of what progress tells; other settings find nothing to go on from."""
    k, targets = gram_of(7, 110, 2, dtype=dtype)
    ridges = [30.0, 5.0, 1000.0]
    problem, solve, told = GramProblem(k, targets), GRAM_SOLVERS.load(name).solve, []
    whole = solve(problem, ridges, progress=lambda *news: told.append(news[0]), **EXACT)
    kill_at = 1 + int(share * (len(told) - 1))
    calls = []

    def killer(*news):
        calls.append(news)
        if len(calls) == kill_at:
            raise KeyboardInterrupt

    saving = {"checkpoint": tmp_path, "interval": 0.0}
    with pytest.raises(KeyboardInterrupt):
        solve(problem, ridges, progress=killer, key="a", **saving, **EXACT)
    for key in "ab":
        resumed = solve(problem, ridges, key=key, **saving, **EXACT)
        for one, other in zip(whole, resumed, strict=True):
            assert other.converged
            np.testing.assert_allclose(other.value, one.value, rtol=0, atol=1e-7 * np.abs(one.value).max())


@every_solver
def test_damaged_checkpoints_are_not_used(name, tmp_path):
    problem, solve = GramProblem(*gram_of(8, 100, 1)), GRAM_SOLVERS.load(name).solve
    first = solve(problem, RIDGES, checkpoint=tmp_path, interval=0.0, **EXACT)
    assert list(tmp_path.glob("*.npz"))
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = solve(problem, RIDGES, checkpoint=tmp_path, interval=0.0, **EXACT)
    np.testing.assert_allclose(again[1].value, first[1].value, atol=1e-9)


@both_dtypes
@pytest.mark.parametrize("n", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_all_solvers_give_the_same_table_to_four_digits(n, dtype):
    """Train and test losses and accuracies over the published grid's span, 1e-1 to 1e5."""
    random = np.random.default_rng(9)
    x = random.standard_normal((n + 200, 30))
    labels = np.argmax(x @ random.standard_normal((30, 4)), axis=1)
    targets = np.eye(4)[labels] - 0.25
    k = gram("NTK", x[:n], dense_layers=2, dtype=dtype)
    k_test = gram("NTK", x[n:], x[:n], dense_layers=2, dtype="float64")
    tables = {}
    for name in GRAM_SOLVERS:
        problem = GramProblem(k, targets[:n])
        solutions = GRAM_SOLVERS.load(name).solve(problem, np.logspace(-1, 5, 7), rtol=1e-7, atol=0.0)
        assert all(solution.converged for solution in solutions)
        tables[name] = np.array([row(solution, k_test, targets, labels, n) for solution in solutions])
    for table in tables.values():
        np.testing.assert_allclose(table, tables["cholesky"], rtol=5e-5)


def row(solution, k_test, targets, labels, n):
    guesses = k_test @ solution.value
    train = np.mean(np.sum((solution.predictions - targets[:n]) ** 2, axis=1))
    test = np.mean(np.sum((guesses - targets[n:]) ** 2, axis=1))
    return train, test, np.mean(np.argmax(guesses, axis=1) == labels[n:])
