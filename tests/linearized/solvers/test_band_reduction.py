"""The reduction to a band, and the BLAS on views that it stands on: against dense products, in both precisions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.solvers.linear.band.reduction import BandReduction
from linearized.solvers.linear.blas import symmetric_product, symmetric_update

both_dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


def symmetric(seed, n, dtype="float64"):
    half = np.random.default_rng(seed).standard_normal((n, n)).astype(dtype)
    return np.tril(half) + np.tril(half, -1).T


def reduced(k, width):
    reduction = BandReduction(k.copy(), width)
    while not reduction.done:
        reduction.step()
    return reduction


def dense(band):
    """The symmetric matrix of LAPACK's lower band."""
    n, out = band.shape[1], np.zeros((band.shape[1],) * 2)
    for i in range(min(len(band), n)):
        out += np.diag(band[i, : n - i], -i) + (np.diag(band[i, : n - i], i) if i else 0)
    return out


@both_dtypes
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), width=st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_k_is_q_b_qt(dtype, seed, n, width):
    k = symmetric(seed, n, dtype)
    reduction, rounding = reduced(k, width), 50 * np.finfo(dtype).eps * np.linalg.norm(k)
    band, q = dense(reduction.band()), reduction.backward(np.eye(n)).astype(np.float64)
    assert len(reduction.band()) == min(width, max(n - 1, 1)) + 1
    np.testing.assert_allclose(q @ band @ q.T, k, atol=rounding)
    np.testing.assert_allclose(q.T @ q, np.eye(n), atol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(reduction.forward(np.eye(n)), q.T, atol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(np.linalg.eigvalsh(band), np.linalg.eigvalsh(k.astype(np.float64)), atol=rounding)
    np.testing.assert_array_equal(np.tril(reduction.lower.T, -1), np.tril(k, -1))  # one triangle keeps K
    assert reduction.work == 1


@pytest.mark.parametrize("k", [np.zeros((30, 30)), np.eye(30), np.diag(np.arange(30.0)), np.ones((30, 30))])
def test_columns_that_are_clear_already(k):
    reduction = reduced(k, 4)
    q = reduction.backward(np.eye(30))
    np.testing.assert_allclose(q @ dense(reduction.band()) @ q.T, k, atol=1e-12)
    np.testing.assert_allclose(q.T @ q, np.eye(30), atol=1e-13)


def test_a_restored_state_goes_on_bit_by_bit(monkeypatch):
    monkeypatch.setattr("linearized.solvers.linear.band.reduction.SLAB", 7)
    k = symmetric(1, 45)
    whole, half = reduced(k, 4), BandReduction(k.copy(), 4)
    for _ in range(5):
        half.step()
    saved = {name: array.copy() for name, array in half.arrays().items()}
    again = BandReduction(k.copy(), 4)
    again.restore(saved)
    while not again.done:
        again.step()
    np.testing.assert_array_equal(again.lower, whole.lower)
    np.testing.assert_array_equal(again.band(), whole.band())


def test_work_is_the_share_of_the_operations():
    """Each step costs as the square of what is left, so half of the steps are seven eighths of the work."""
    reduction = BandReduction(symmetric(2, 161), 8)
    assert reduction.work == 0
    for _ in range(reduction.steps // 2):
        reduction.step()
    assert reduction.work == pytest.approx(7 / 8, abs=0.03)


@both_dtypes
@pytest.mark.parametrize("columns", [1, 3])
def test_symmetric_blas_on_a_view_touches_one_triangle(dtype, columns):
    random = np.random.default_rng(3)
    whole = np.asfortranarray(random.standard_normal((12, 12)).astype(dtype))
    view, before = whole[4:, 4:], whole.copy()
    v, w = (random.standard_normal((8, columns)).astype(dtype) for _ in range(2))
    full = np.tril(view) + np.tril(view, -1).T
    np.testing.assert_allclose(symmetric_product(view, v), full @ v, rtol=1e-4, atol=1e-5)
    symmetric_update(view, v, w)
    expected = before.copy()
    expected[4:, 4:] = np.tril(full - v @ w.T - w @ v.T) + np.triu(before[4:, 4:], 1)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)
    outside = np.ones_like(whole, dtype=bool)
    outside[4:, 4:] = np.triu(np.ones((8, 8), bool), 1)
    np.testing.assert_array_equal(whole[outside], before[outside])


def test_symmetric_blas_refuses_rows_of_unit_stride():
    with pytest.raises(ValueError, match="unit stride"):
        symmetric_product(np.ones((5, 5))[1:, 1:], np.ones((4, 2)))
