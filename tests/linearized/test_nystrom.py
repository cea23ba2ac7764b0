"""Kernel ridge regression on centres: against the exact solution, dense formulas and restricted least squares."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

from kernel_gen import KERNELS, gram
from linearized.base.blocks import at_most
from linearized.base.errors import UserError
from linearized.cluster.tiles import OnWorkers, places
from linearized.kernel_ridge import nystrom
from linearized.kernel_ridge.centre_choice import CentreChoice
from linearized.kernel_ridge.nystrom import CentreRegression, needed_bytes
from linearized.kernel_ridge.ridge_path import fit
from linearized.kernel_ridge.row_passes import RowPasses
from linearized.settings.gram_settings import KernelSettings
from linearized.solvers import GRAM_SOLVERS
from linearized.solvers.linear.driver import Watch

RIDGES = [1e-1, 1.0, 100.0]
SETTINGS = {"NTK": {}, "RF": {}, "LAPLACE": {}, "GAUSSIAN": {}, "MATERN": {}, "POLYNOMIAL": {"degree": 4}}


def points(n, seed=0, d=6):
    return np.random.default_rng(seed).standard_normal((n, d))


X, Z, Y = points(150), points(40, 1), points(150, 2, 3)


def kernel(name="NTK", dtype="float64", **settings):
    return KERNELS.load(name).build(KernelSettings(kernel=name, dtype=dtype, **settings)).on(X)


def regression(name="NTK", count=150, by="uniform", dtype="float64", y=Y, **more):
    more = {"memory": 10**9, **more}
    made = kernel(name, dtype, **SETTINGS[name]), kernel(name, **SETTINGS[name])
    return CentreRegression(*made, X, y, CentreChoice(count, by, seed=more.pop("seed", 0)), **more)


def outputs(of, **solve):
    path = of.completed(of.solve(RIDGES, **solve))
    return path, path.predict(of.cross("new", Z))


def dense(name, rows, ridge):
    """The minimiser of ‖K_nC a - Y‖² + ρ aᵀK_CC a by least squares on stacked rows, and its predictions at Z."""
    own = kernel(name, **SETTINGS[name])
    k, new = gram(own, X)[:, rows], gram(own, Z, X)[:, rows]
    root = np.linalg.cholesky(k[rows])
    stacked = np.concatenate([k, np.sqrt(ridge) * root.T])
    a = np.linalg.lstsq(stacked, np.concatenate([Y, np.zeros((len(rows), 3))]), rcond=None)[0]
    return k @ a, new @ a


@pytest.mark.parametrize("name, by", [*((name, "uniform") for name in SETTINGS), ("NTK", "rpcholesky")])
def test_with_all_rows_as_centres_it_is_kernel_ridge_regression(name, by):
    own = kernel(name, **SETTINGS[name])
    exact = fit(gram(own, X), Y, RIDGES, solver="eigh")
    of = regression(name, by=by)
    path, found = outputs(of)
    expected = exact.predict(gram(own, Z, X))
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert of.lost < 1e-6 and of.pool == 150
    for one, other in zip(path.solutions, exact.solutions, strict=True):
        np.testing.assert_allclose(one.predictions, other.predictions, atol=1e-6)
        assert one.degrees_of_freedom == pytest.approx(other.degrees_of_freedom, rel=1e-5)
        assert one.gcv == pytest.approx(other.gcv, rel=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("by, dtype, error", [("rpcholesky", "float64", 1e-8), ("uniform", "float32", 2e-3)])
def test_a_part_of_the_rows_gives_the_minimiser_and_the_trace_that_is_lost(name, by, dtype, error):
    of = regression(name, 40, by, dtype)
    path, found = outputs(of)
    assert len(of.rows) == 40 == len(set(of.rows))
    for place, ridge in enumerate(RIDGES):
        train, new = dense(name, of.rows, ridge)
        np.testing.assert_allclose(found[place], new, atol=error * np.abs(new).max())
        np.testing.assert_allclose(path.solutions[place].predictions, train, atol=error * np.abs(train).max())
        assert path.solutions[place].converged and path.alpha.shape == (3, 40, 3)
    k = gram(kernel(name, **SETTINGS[name]), X)
    approximation = k[:, of.rows] @ np.linalg.solve(k[np.ix_(of.rows, of.rows)], k[of.rows])
    assert of.trace == pytest.approx(np.trace(k), rel=1e-6)
    assert of.lost == pytest.approx(1 - np.trace(approximation) / np.trace(k), abs=1e-6)


@pytest.mark.parametrize("solver", GRAM_SOLVERS)
def test_every_solver_serves_the_normal_equations(solver):
    expected, found = outputs(regression(count=50))[1], outputs(regression(count=50, solver=solver), rtol=1e-10)
    assert found[0].solver == solver
    np.testing.assert_allclose(found[1], expected, atol=1e-6 * np.abs(expected).max())


def test_centres_that_depend_on_the_others_are_left_out_and_change_nothing():
    """(1 + x·z)² of 6 columns has 28 features, so that 28 centres are exact and further ones are combinations."""
    own = kernel("POLYNOMIAL", degree=2)
    exact = fit(gram(own, X), Y, RIDGES, solver="eigh").predict(gram(own, Z, X))
    for dtype, error in (("float64", 1e-7), ("float32", 1e-4)):
        made = kernel("POLYNOMIAL", dtype, degree=2)
        for by in ("uniform", "rpcholesky"):
            of = CentreRegression(made, own, X, Y, CentreChoice(90, by), memory=10**9)
            assert len(of.rows) == 28
            np.testing.assert_allclose(outputs(of)[1], exact, atol=error * np.abs(exact).max())


def test_repeated_rows_are_centres_once():
    twice = np.concatenate([X[:60], X[:60]])
    made = kernel("LAPLACE")
    of = CentreRegression(made, made, twice, np.concatenate([Y[:60]] * 2), CentreChoice(120), memory=10**9)
    assert sorted(of.rows % 60) == list(range(60))


def test_randomly_pivoted_centres_lose_less_than_uniform_ones():
    """Rows of two clusters, one of 5 %: a uniform draw of few centres wastes them on the large one."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(0, 0.1, (190, 2)), random.normal(4, 1.0, (10, 2))])
    made = KERNELS.load("GAUSSIAN").build(KernelSettings(kernel="GAUSSIAN", bandwidth=1.0, dtype="float64"))
    lost = {by: np.mean([CentreRegression(made, made, x, x, CentreChoice(12, by, seed), memory=10**9).lost
                         for seed in range(8)]) for by in ("uniform", "rpcholesky")}  # fmt: skip
    assert lost["rpcholesky"] < 0.5 * lost["uniform"]


def test_blocks_of_rows_change_nothing(monkeypatch):
    whole = outputs(regression(count=40))[1]
    monkeypatch.setattr(nystrom, "BLOCK", 1)
    of = regression(count=40)
    of.kernel.tile = 7
    again = CentreRegression(of.kernel, kernel(), X, Y, CentreChoice(40), memory=10**9)
    np.testing.assert_allclose(outputs(again)[1], whole, atol=1e-9)


def test_one_output_and_labels_without_columns():
    found = outputs(regression(count=40, y=Y[:, 0]))[1]
    np.testing.assert_allclose(found, outputs(regression(count=40))[1][:, :, :1], atol=1e-10)


def test_the_seed_changes_the_centres_and_memory_the_pool():
    assert set(regression(count=40).rows) == set(regression(count=40).rows) != set(regression(count=40, seed=1).rows)
    # half of the memory holds a factor of 100 rows
    of = CentreRegression(kernel(), kernel(), X, Y, CentreChoice(10, "rpcholesky"), memory=needed_bytes(10, 8))
    assert of.pool == 150
    choice, passes = CentreChoice(10, "rpcholesky"), of._passes
    rows, pool = choice.centres(kernel(), X, 2 * 8 * 10 * 100, passes)
    assert pool == 100 and len(set(rows)) == 10


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(UserError, match=r"of which there are 150\. Received: --centres=151"):
        regression(count=151)
    with pytest.raises(UserError, match="Lower --centres, or raise --memory"):
        regression(count=100, memory=needed_bytes(100, 8) - 1)
    assert needed_bytes(5000, 4) < 0.8 * 2**30  # with 60,000 rows, as the guide says
    with pytest.raises(UserError, match="is 0"):
        zeros = np.zeros_like(X)
        CentreRegression(kernel(), kernel(), zeros, Y, CentreChoice(10), memory=10**9)


@pytest.fixture(scope="module")
def workers():
    """Two processes; a tile uses one core."""
    with places(workers=2) as found:
        yield OnWorkers(found.client)


@pytest.mark.parametrize("name, by, dtype", [("NTK", "uniform", "float32"), ("POLYNOMIAL", "rpcholesky", "float64")])
def test_workers_give_the_numbers_of_one_process_bit_for_bit(workers, name, by, dtype):
    """With one thread for each tile in both; sums are in the order of the rows."""
    made, exact = kernel(name, dtype, **SETTINGS[name]), kernel(name, **SETTINGS[name])
    made.tile, choice = 16, CentreChoice(40, by)
    with at_most(1):
        here = CentreRegression(made, exact, X, Y, choice, memory=10**9)
        path, new = outputs(here)
        there = CentreRegression(made, exact, X, Y, choice, memory=10**9, passes=RowPasses(place=workers))
        other, found = outputs(there)
    assert here._step == 16 and (there.trace, there.lost) == (here.trace, here.lost)
    np.testing.assert_array_equal(other.alpha, path.alpha)
    np.testing.assert_array_equal(found, new)
    for one, two in zip(path.solutions, other.solutions, strict=True):
        np.testing.assert_array_equal(two.predictions, one.predictions)


def test_a_worker_killed_in_a_pass_changes_nothing(workers, tmp_path):
    flag = tmp_path / "killed"
    own = kernel("LAPLACE")
    own.tile = 10

    def on_workers(block):
        def killing(one, two, *, same=False):
            if multiprocessing.parent_process() is not None and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return block(one, two, same=same)

        return killing

    whole = outputs(CentreRegression(own, kernel("LAPLACE"), X, Y, CentreChoice(40), memory=10**9))[1]
    assert not flag.exists()
    own.block = on_workers(own.block)
    of = CentreRegression(own, kernel("LAPLACE"), X, Y, CentreChoice(40), memory=10**9,
                          passes=RowPasses(place=workers))  # fmt: skip
    np.testing.assert_allclose(outputs(of)[1], whole, atol=1e-12)
    assert flag.exists()


def test_an_entry_that_is_not_finite_is_named_by_its_row_in_the_data(workers):
    own, rows = kernel("POLYNOMIAL", degree=4), X.copy()
    own.tile, rows[100] = 10, 1e200
    for place in (None, workers):
        with pytest.raises(UserError, match="row 100 of the rows and row 0 of the centres"):
            CentreRegression(own, own, rows, Y, CentreChoice(3), memory=10**9, passes=RowPasses(place=place))


class Killed(Exception):
    pass


@pytest.mark.parametrize("by, share, first", [
    ("uniform", 0.3, "Here"), ("uniform", 0.8, "Here"), ("rpcholesky", 0.2, "Here"), ("uniform", 0.3, "OnWorkers"),
    ("uniform", 0.8, "OnWorkers"),
])  # fmt: skip
def test_a_killed_fit_goes_on_and_gives_the_same(by, share, first, tmp_path, monkeypatch, request):
    """Killed at each phase: the choice, the pass of the normal equations, and that of the predictions.

    A fit that was killed with workers goes on without them.
    """
    monkeypatch.setattr(nystrom, "BLOCK", 1)
    made = kernel()
    made.tile = 30
    counts = []

    def attempt(limit, key="a", place=None):
        done = []

        class Phase:
            def __init__(self, what, total):
                pass

            def __enter__(self):
                return self.report

            def __exit__(self, *_):
                pass

            def report(self, count):
                done.append(count)
                if len(done) == limit:
                    raise Killed

        passes = RowPasses(Watch(None, tmp_path, key, 0.0), Phase, place)
        of = CentreRegression(made, kernel(), X, Y, CentreChoice(30, by), memory=10**9, passes=passes)
        found = outputs(of)[1]
        counts.append(len(done))
        return found

    whole = attempt(None, "other")
    with pytest.raises(Killed):
        attempt(int(share * counts[0]), place=request.getfixturevalue("workers") if first == "OnWorkers" else None)
    np.testing.assert_array_equal(attempt(None), whole)
    # at most the block that was killed is repeated, and each of four phases begins with a report
    assert counts[1] <= counts[0] - int(share * counts[0]) + 1 + 4
