"""K that is computed in every product: against the matrix itself, alone, in solvers and in runs."""

import numpy as np
import pytest

from kernel_gen import KERNELS, gram
from kernel_gen.kernels.rf import FiniteFeatures
from linearized.base.errors import UserError
from linearized.cluster.tiles import places
from linearized.experiments.krr import KernelFitSettings as Config
from linearized.experiments.krr import run
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.ridge_path import COMPUTED, fit
from linearized.problems import GramProblem
from linearized.settings.config import parse
from linearized.settings.gram_settings import KernelSettings
from linearized.solvers import GRAM_SOLVERS

X = np.random.default_rng(0).standard_normal((90, 6))
Y = np.random.default_rng(1).standard_normal((90, 2))
RIDGES = [1e-1, 1.0, 100.0]


def computed(tile=20, name="LAPLACE", own_threads=False):
    kernel = KERNELS.load(name).build(KernelSettings(kernel=name, dtype="float64")).on(X)
    kernel.tile, kernel.own_threads = tile, own_threads
    return ComputedGram(kernel, X), gram(kernel, X)


@pytest.mark.parametrize("tile, own_threads", [(20, False), (7, True), (500, False)])
def test_products_columns_and_diagonal_are_those_of_the_matrix(tile, own_threads):
    ours, whole = computed(tile, own_threads=own_threads)
    v = np.random.default_rng(2).standard_normal((90, 3))
    np.testing.assert_allclose(ours.multiply(v), whole @ v, rtol=1e-12, atol=1e-11)
    chosen = np.array([88, 3, 40])
    np.testing.assert_allclose(ours.columns(chosen), whole[:, chosen], rtol=1e-12)
    np.testing.assert_allclose(ours.diagonal(), np.diagonal(whole), rtol=1e-12)
    assert ours.trace() == pytest.approx(np.trace(whole)) and ours.computing_columns() > 0
    np.testing.assert_array_equal(ours.to_memory(), whole)
    product, square = ours.row_block(chosen, v)
    np.testing.assert_allclose(product, whole[chosen] @ v, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(square, whole[np.ix_(chosen, chosen)], rtol=1e-12)


def test_the_matrix_in_memory_is_computed_in_tiles_of_the_size_of_products(monkeypatch):
    """A kernel that takes larger tiles elsewhere, as RF of finite width does, needs no more memory here."""
    kernel, sizes, block = FiniteFeatures(300), [], FiniteFeatures.block
    whole = gram(kernel, X)
    monkeypatch.setattr(FiniteFeatures, "tile", 40)
    monkeypatch.setattr(FiniteFeatures, "block", lambda self, one, two, **same: (
        sizes.append((len(one), len(two))) or block(self, one, two, **same)))  # fmt: skip
    assert kernel.side(len(X)) == len(X)
    found = ComputedGram(kernel, X).to_memory()
    assert sorted(sizes) == [(10, 10), (40, 10), (40, 10), (40, 40), (40, 40), (40, 40)]
    np.testing.assert_allclose(found, whole, rtol=1e-5)


def test_workers_give_the_products_and_the_entries_of_one_process():
    ours, whole = computed(7)
    v = np.random.default_rng(2).standard_normal((90, 3))
    with places(workers=2) as workers:
        there = ComputedGram(ours._kernel, X, workers)
        assert len(there._bands()) == 13
        np.testing.assert_allclose(there.multiply(v), whole @ v, rtol=1e-12, atol=1e-11)
        np.testing.assert_array_equal(there.to_memory(), ours.to_memory())
        np.testing.assert_allclose(there.row_block(np.arange(80, 9, -3), v)[0], whole[80:9:-3] @ v, atol=1e-11)
        np.testing.assert_array_equal(there.to_memory("float32"), whole.astype(np.float32))
        for memory in (0, 10**9):
            path = fit(there, Y, RIDGES, solver="block_lanczos", memory=memory, rtol=1e-10)
            exact = fit(whole, Y, RIDGES, solver="eigh").alpha
            np.testing.assert_allclose(path.alpha, exact, atol=1e-7 * np.abs(exact).max())


@pytest.mark.parametrize("solver", ["auto", *COMPUTED])
@pytest.mark.parametrize("memory", [0, 10**9])
def test_solutions_are_those_of_the_matrix_whether_it_is_held_or_not(solver, memory, monkeypatch):
    ours, whole = computed()
    exact, held = fit(whole, Y, RIDGES, solver="eigh"), []
    monkeypatch.setattr(ComputedGram, "to_memory", lambda self, dtype=None: held.append(self) or whole)
    path = fit(ours, Y, RIDGES, solver=solver, memory=memory, rtol=1e-10)
    assert path.solver == ("block_lanczos" if solver == "auto" else solver) and bool(held) == (memory > 0)
    np.testing.assert_allclose(path.alpha, exact.alpha, atol=1e-7 * np.abs(exact.alpha).max())
    assert all(solution.converged for solution in path.solutions)


def test_solvers_that_need_the_entries_are_refused():
    for solver in set(GRAM_SOLVERS) - set(COMPUTED):
        with pytest.raises(UserError, match=f"{solver} needs the entries of K"):
            fit(computed()[0], Y, RIDGES, solver=solver)


def test_a_wider_block_is_taken_where_a_product_costs_more_than_its_columns(monkeypatch):
    monkeypatch.setattr(ComputedGram, "computing_columns", lambda self: 1000.0)
    assert GramProblem(computed()[0], Y, memory=0).block > GramProblem(computed()[1], Y).block


def test_the_rank_of_the_preconditioner_decides_the_number_of_products():
    whole = computed(name="GAUSSIAN")[1]
    steps = {rank: max(one.iterations for one in fit(whole, Y, [1e-3], solver="rpcholesky", rank=rank).solutions)
             for rank in (2, 60)}  # fmt: skip
    assert steps[60] < steps[2] / 2
    with pytest.raises(UserError, match="rank=3 with band"):
        fit(whole, Y, RIDGES, solver="band", rank=3)
    with pytest.raises(UserError, match="Lower --preconditioner_rank"):
        GRAM_SOLVERS.load("rpcholesky").solve(GramProblem(whole, Y, memory=0), RIDGES, rank=10**7)


SMALL = {"dataset": "DIGITS", "num_train": 90, "num_test": 40, "ridges": "1,5,30", "dtype": "float64"}


@pytest.mark.parametrize("solver", ["auto", "rpcholesky"])
def test_a_run_stores_no_matrix_and_has_the_table_of_one_that_does(directories, solver):
    [ours] = run(Config(**SMALL, on_the_fly=True, solver=solver, memory=1e-5))
    assert not list(directories.glob("ntk_dir/*"))
    [stored] = run(Config(**SMALL, solver="cg"))
    for one, other in zip(ours.record["ridges"], stored.record["ridges"], strict=True):
        for name in ("train_loss", "test_loss", "test_accuracy"):
            assert one[name] == pytest.approx(other[name], rel=1e-5), name


@pytest.mark.parametrize("words, message", [
    (["--on_the_fly", "--solver=band"], "--on_the_fly is read by --solver=askotch, block_lanczos, cg, rpcholesky"),
    (["--on_the_fly", "--gram=folder"], "--on_the_fly is read"),
    (["--on_the_fly", "--centres=5"], "--on_the_fly is read"),
    (["--on_the_fly", "--num_shards=5"], "--num_shards is read with no --on_the_fly"),
    (["--preconditioner_rank=5"], "--preconditioner_rank is read by --solver=askotch, rpcholesky"),
    (["--block_rows=5", "--solver=rpcholesky"], "--block_rows is read by --solver=askotch"),
    (["--block_rows=5", "--solver=askotch", "--centres=9"], "--block_rows is read"),
    (["--preconditioner_rank=5", "--solver=rpcholesky", "--centres=9"], "--preconditioner_rank is read"),
])  # fmt: skip
def test_flags_without_effect_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        parse(Config, words)
