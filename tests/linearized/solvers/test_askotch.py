"""Accelerated sketch-and-project: its blocks, its acceleration, and its options."""

import numpy as np
import pytest

from kernel_gen import KERNELS, gram
from linearized.base.errors import UserError
from linearized.experiments.krr import KernelFitSettings
from linearized.experiments.needs import refuse_large_fit
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.ridge_path import fit
from linearized.problems import GramProblem
from linearized.settings.config import parse
from linearized.settings.gram_settings import KernelSettings
from linearized.solvers.linear import askotch

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((240, 8)), RANDOM.standard_normal((240, 3))
KERNEL = KERNELS.load("NTK").build(KernelSettings(kernel="NTK", dtype="float64"))
K = gram(KERNEL, X)
RIDGES = [1e-2, 1.0, 30.0]
TIGHT = {"rtol": 1e-9, "atol": 0.0}


def errors(solutions, k=K, targets=Y):
    """Largest relative difference from the direct solution at each ridge."""
    exact = [np.linalg.solve(k + one.ridge * np.eye(len(k)), targets) for one in solutions]
    return [np.abs(one.value - alpha).max() / np.abs(alpha).max() for one, alpha in zip(solutions, exact, strict=True)]


@pytest.mark.parametrize("options", [{}, {"block_rows": 24}, {"block_rows": 240}, {"block_rows": 60, "rank": 40}])
def test_solutions_are_the_direct_ones_and_the_estimates_bound_the_residuals(options):
    solutions = askotch.solve(GramProblem(K, Y), RIDGES, **TIGHT, **options)
    assert max(errors(solutions)) < 1e-6
    for one in solutions:
        missing = np.linalg.norm(Y - K @ one.value - one.ridge * one.value) / np.linalg.norm(Y)
        assert one.converged and one.residual == pytest.approx(missing, abs=1e-13)
        assert one.residual < 2 * one.history[-1]  # of the rows as the blocks met them, within the last epoch


def test_ridges_share_the_blocks_and_do_not_change_each_other():
    problem, taken = GramProblem(K, Y), []
    taken_by = problem.row_block
    problem.row_block = lambda rows, v: taken.append((len(rows), v.shape[1])) or taken_by(rows, v)
    together = askotch.solve(problem, RIDGES, block_rows=60, **TIGHT)
    epochs = [one.iterations for one in together]
    assert len(taken) == 4 * max(epochs)  # not of the sum over the ridges
    assert taken[0] == (60, 9) and taken[-1] == (60, 3)  # ridges that are done take no part in products
    for one in together:
        [alone] = askotch.solve(GramProblem(K, Y), [one.ridge], block_rows=60, **TIGHT)
        assert alone.iterations == one.iterations
        np.testing.assert_allclose(alone.value, one.value, atol=1e-8 * np.abs(one.value).max())


def test_larger_blocks_and_ranks_take_fewer_epochs():
    def epochs(**options):
        return askotch.solve(GramProblem(K, Y), [1.0], rtol=1e-6, atol=0.0, **options)[0].iterations

    assert epochs(block_rows=120) < 0.7 * epochs(block_rows=24)
    assert epochs(block_rows=60) < 0.7 * epochs(block_rows=60, rank=10)


def test_acceleration_takes_fewer_epochs_where_blocks_alone_converge_slowly(monkeypatch):
    """μ follows from the convergence: with a factor of 1 it stays 1/ν, which is sketch-and-project alone."""
    points = RANDOM.standard_normal((240, 300)) * np.arange(1, 301) ** -0.8
    k = points @ points.T
    [ours] = askotch.solve(GramProblem(k, Y), [1e-2], block_rows=40, rtol=1e-6, atol=0.0)
    monkeypatch.setattr(askotch, "STEP", 1.0)
    [plain] = askotch.solve(GramProblem(k, Y), [1e-2], block_rows=40, rtol=1e-6, atol=0.0)
    assert ours.converged and ours.iterations < 0.7 * plain.iterations


@pytest.mark.parametrize("rank", [0, 30])
def test_duplicated_rows_give_blocks_of_a_positive_definite_m(rank):
    repeated = np.repeat(np.arange(60), 4)
    k, targets = K[np.ix_(repeated, repeated)], Y
    ridges, square = np.array([[1e-6], [1.0]]), k[:120, :120]  # 30 different rows of 120
    inverse = askotch._BlockInverse(square, ridges, rank, [0, 0, 0])(np.repeat(np.eye(120)[:, None], 2, axis=1))
    for i, ridge in enumerate(ridges[:, 0]):
        assert np.linalg.eigvalsh(inverse[:, i]).min() > 0
        assert np.linalg.eigvals(inverse[:, i] @ (square + ridge * np.eye(120))).real.max() < 1.05  # M ≽ K_BB + ρI
    ridges = [1.0] if rank else [1e-3, 1.0]  # at small ridges a low rank converges slowly for repeated rows
    solutions = askotch.solve(GramProblem(k, targets), ridges, block_rows=60, rank=rank, **TIGHT)
    assert all(one.converged for one in solutions) and max(errors(solutions, k, targets)) < 1e-4


def test_an_approximation_of_a_block_bounds_it_at_every_rank():
    for rank in (1, 10, 60, 119):
        inverse = askotch._BlockInverse(K[:120, :120], np.array([[0.1]]), rank, [0, 0, 0])(np.eye(120)[:, None])[:, 0]
        largest = np.linalg.eigvals(inverse @ (K[:120, :120] + 0.1 * np.eye(120))).real.max()
        assert 0.9 < largest < 1.1  # L is the smallest number with M ≽ K_BB + ρI, up to the power iterations


@pytest.mark.parametrize("kill_at", [1, 3, 6, 11])
def test_a_run_killed_within_an_epoch_goes_on_to_the_same_numbers(kill_at, tmp_path):
    whole = askotch.solve(GramProblem(K, Y), RIDGES, block_rows=60, **TIGHT)

    def killer(*news):
        calls.append(news)
        if len(calls) == kill_at:
            raise KeyboardInterrupt

    calls, problem = [], GramProblem(K, Y)
    with pytest.raises(KeyboardInterrupt):
        askotch.solve(problem, RIDGES, block_rows=60, checkpoint=tmp_path, interval=0.0, progress=killer, **TIGHT)
    taken, taken_by = [], problem.row_block
    problem.row_block = lambda rows, v: taken.append(rows) or taken_by(rows, v)
    resumed = askotch.solve(problem, RIDGES, block_rows=60, checkpoint=tmp_path, interval=0.0, **TIGHT)
    assert len(taken) == 4 * max(one.iterations for one in whole) - (kill_at - 1)  # the last block was not stored
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(other.value, one.value)
        np.testing.assert_array_equal(other.history, one.history)


def test_the_seed_decides_the_blocks():
    one, same, other = (askotch.solve(GramProblem(K, Y), [1.0], block_rows=60, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.value, same.value)
    assert (one.value != other.value).any()


def test_ridges_that_diverge_or_stagnate_are_told_with_what_to_do():
    indefinite = K - 3 * np.median(np.linalg.eigvalsh(K)) * np.eye(240)
    lost, solved = askotch.solve(GramProblem(indefinite, Y), [1e-2, 1e3], block_rows=60, **TIGHT)
    assert not lost.converged and np.isfinite(lost.value).all() and "larger ridge" in lost.message
    assert lost.history[-1] > 1 and len(lost.history) == lost.iterations < solved.iterations
    assert "diverge" in lost.message and solved.converged and not solved.message
    [stuck] = askotch.solve(GramProblem(K, Y), [1.0], block_rows=60, rtol=1e-17, atol=0.0)
    assert not stuck.converged and f"{askotch.STALL} epochs" in stuck.message and stuck.residual < 1e-13
    assert stuck.iterations < 100
    [spent] = askotch.solve(GramProblem(K, Y), [1e-2], block_rows=24, max_iterations=3, **TIGHT)
    assert not spent.converged and spent.iterations == 3 and "all 3 iterations" in spent.message


def test_options_that_change_nothing_or_do_not_fit_are_refused():
    for options, words in [({"rank": 60, "block_rows": 60}, "ranks below 60"), ({"block_rows": 241}, "240 rows")]:
        with pytest.raises(UserError, match=words):
            askotch.solve(GramProblem(K, Y), RIDGES, **options)
    with pytest.raises(UserError, match=r"Lower --block_rows, or raise --memory"):
        askotch._block_rows(sized(10**6, memory=0), 10**4)
    assert askotch._block_rows(sized(10**6, memory=0), 0) < askotch._block_rows(sized(10**6, memory=10**11), 0) == 7071
    with pytest.raises(UserError, match="`block_rows` is read by askotch"):
        fit(K, Y, RIDGES, solver="cg", block_rows=9)


@pytest.mark.parametrize("flags, words", [
    (["--block_rows=41"], "K has 40 rows"), (["--block_rows=20", "--preconditioner_rank=20"], "ranks below 20"),
])  # fmt: skip
def test_blocks_that_do_not_fit_are_refused_before_k_is_computed(flags, words):
    config = parse(KernelFitSettings, ["--dataset=DIGITS", "--num_train=40", "--solver=askotch", *flags])
    with pytest.raises(UserError, match=words):
        refuse_large_fit(config)


def test_iterates_that_do_not_fit_in_memory_are_refused():
    with pytest.raises(UserError, match=r"iterates of 3 ridges and 1 outputs .* Give fewer --ridges, or raise"):
        askotch.solve(sized(10**7, memory=0), np.array(RIDGES))


def sized(n, memory):
    """A problem whose size and free memory are as given."""
    problem = GramProblem(np.eye(3), np.ones((3, 1)), memory=memory)
    problem.n = n
    return problem


def test_float32_kernels_computed_in_every_product_are_solved():
    kernel = KERNELS.load("NTK").build(KernelSettings(kernel="NTK", dtype="float32"))
    kernel.tile = 50
    path = fit(ComputedGram(kernel, X), Y, RIDGES, solver="askotch", memory=0, block_rows=60)
    assert path.solver == "askotch" and path.rtol == 1e-5 and all(one.converged for one in path.solutions)
    assert max(errors(path.solutions)) < 1e-3


def test_the_problem_offers_what_the_solver_asks_for():
    assert isinstance(GramProblem(K, Y), askotch.RowProblem)
