"""The dense solvers: one Cholesky factor a ridge in place, and all eigenvectors with leave-one-out errors."""

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.problems import GramProblem
from linearized.solvers.linear import cholesky, eigh
from linearized.solvers.linear.dense_gram import DenseGram


def problem_of(seed, n, columns=2, dtype="float64", rank=None):
    random = np.random.default_rng(seed)
    points = random.standard_normal((n, rank or 2 * n))
    k = (points @ points.T / n).astype(dtype)
    return GramProblem(np.tril(k) + np.tril(k, -1).T, random.standard_normal((n, columns)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_of_one_triangle_are_those_of_k_in_float64(dtype):
    problem = problem_of(0, 300, dtype=dtype)
    gram, v = DenseGram(problem), np.random.default_rng(1).standard_normal((300, 5))
    gram.array[np.triu_indices(300)] = np.nan  # the worked-on triangle and the diagonal are not read
    np.testing.assert_allclose(gram.product(v), problem.gram.astype(np.float64) @ v, atol=1e-12)
    assert gram.norm == pytest.approx(np.linalg.norm(problem.gram.astype(np.float64)), rel=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_factor_is_made_in_place_and_anew_for_every_ridge(dtype):
    problem = problem_of(2, 300, dtype=dtype)
    factored = cholesky._Factored(DenseGram(problem))
    array, exact = factored.gram.array, problem.gram.astype(np.float64)
    for ridge in (2.0, 0.1):
        assert factored.at(ridge) == ridge
        lower = np.tril(factored.lower).astype(np.float64)
        assert np.shares_memory(factored.lower, array)
        np.testing.assert_allclose(lower @ lower.T, exact + ridge * np.eye(300), atol=2e-5)
        np.testing.assert_array_equal(np.tril(array, -1), np.tril(problem.gram, -1))


def test_cholesky_tells_a_ridge_that_has_no_factor():
    random = np.random.default_rng(3)
    vectors = np.linalg.qr(random.standard_normal((60, 60)))[0]
    k = (vectors * np.append(np.linspace(1, 5, 59), -2.0)) @ vectors.T
    problem = GramProblem((k + k.T) / 2, random.standard_normal((60, 1)))
    low, high = cholesky.solve(problem, [1.0, 3.0], rtol=1e-8, atol=0.0)
    assert "not positive definite" in low.message and low.shift > 2
    assert high.converged and high.shift == 0
    np.testing.assert_allclose(high.value, np.linalg.solve(k + 3 * np.eye(60), problem.targets), atol=1e-9)


def test_cholesky_goes_on_after_the_last_ridge_that_was_saved(tmp_path):
    problem, ridges, calls = problem_of(4, 40), [5.0, 0.1, 1.0], []

    def killer(done, *_):
        calls.append(done)
        if done == 2:
            raise KeyboardInterrupt

    saving = {"checkpoint": tmp_path, "key": "a", "interval": 0.0}
    with pytest.raises(KeyboardInterrupt):
        cholesky.solve(problem, ridges, progress=killer, **saving)
    calls.clear()
    resumed = cholesky.solve(problem, ridges, progress=lambda done, *_: calls.append(done), **saving)
    assert calls == [3]
    for one, other in zip(resumed, cholesky.solve(problem, ridges), strict=True):
        for field, value in one._asdict().items():
            np.testing.assert_array_equal(value, getattr(other, field))


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-9), ("float32", 1e-3)])
def test_leave_one_out_is_refitting_without_each_row(dtype, close):
    problem = problem_of(5, 40, dtype=dtype)
    k, targets = problem.gram.astype(np.float64), problem.targets
    for solution in eigh.solve(problem, [0.05, 1.0, 30.0], rtol=1e-9, atol=0.0):
        missing = np.empty_like(targets)
        for i in range(40):
            kept = np.delete(np.arange(40), i)
            alpha = np.linalg.solve(k[np.ix_(kept, kept)] + solution.ridge * np.eye(39), targets[kept])
            missing[i] = targets[i] - k[i, kept] @ alpha
        np.testing.assert_allclose(solution.leave_one_out, missing, atol=close)


def test_traces_of_eigh_are_those_of_the_hat_matrix():
    problem = problem_of(6, 50)
    for solution in eigh.solve(problem, [0.1, 10.0]):
        inverse = np.linalg.inv(problem.gram + solution.ridge * np.eye(50))
        assert solution.degrees_of_freedom == pytest.approx(np.trace(problem.gram @ inverse), rel=1e-9)
        hat = problem.gram @ inverse
        error = np.mean(np.sum((problem.targets - hat @ problem.targets) ** 2, axis=1))
        assert solution.gcv == pytest.approx(error / (1 - np.trace(hat) / 50) ** 2, rel=1e-9)


def test_a_ridge_that_the_spectrum_does_not_resolve_has_no_leave_one_out_errors():
    none, some = eigh.solve(problem_of(7, 40, rank=10), [0.0, 1.0], rtol=1e-8, atol=0.0)
    assert not none.converged and none.leave_one_out is None and none.gcv is None
    assert some.converged and some.leave_one_out is not None
    [regular] = eigh.solve(problem_of(7, 40), [0.0], rtol=1e-8, atol=0.0)  # resolved without any ridge
    assert regular.converged and regular.shift == 0 and regular.leave_one_out is not None


def test_more_rows_than_syevd_counts_are_refused(monkeypatch):
    assert 1 + 6 * eigh.MOST + 2 * eigh.MOST**2 < 2**31 <= 1 + 6 * (eigh.MOST + 1) + 2 * (eigh.MOST + 1) ** 2
    monkeypatch.setattr(eigh, "MOST", 9)
    with pytest.raises(UserError, match="--solver=band"):
        eigh.solve(problem_of(8, 10), [1.0])


def test_eigenvectors_are_saved_and_read(tmp_path, monkeypatch):
    problem = problem_of(9, 30)
    [first] = eigh.solve(problem, [1.0], checkpoint=tmp_path, key="a", interval=0.0)
    monkeypatch.setattr(eigh.scipy.linalg, "eigh", lambda *_, **__: pytest.fail("solved again"))
    [again] = eigh.solve(problem, [1.0], checkpoint=tmp_path, key="a", interval=0.0)
    np.testing.assert_allclose(again.value, first.value, rtol=1e-12, atol=1e-13)  # BLAS rounds by place in memory
