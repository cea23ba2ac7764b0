"""Products of tiles add up to the plain ones, in float64 whatever the matrix is stored in."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.base.blocks import at_most
from linearized.storage import products


def random_matrix(rows, columns, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(products, "ROWS", 7)
    monkeypatch.setattr(products, "COLUMNS", 5)


@settings(deadline=None, max_examples=40)
@given(total=st.integers(0, 60), most=st.integers(1, 70), least=st.integers(1, 5))
def test_slices_cover_the_range_evenly(total, most, least):
    parts = products.cut(total, most, least=least)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(total))
    sizes = [part.stop - part.start for part in parts]
    assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1)
    assert len(parts) >= min(least, total)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "of_v"), [("float32", "float64"), ("float64", "float64"), ("float32", "float32")])
@pytest.mark.parametrize("shape", [(1, 1), (23, 17), (7, 5), (6, 40)])
def test_products_are_the_plain_ones_in_the_wider_dtype(small_tiles, threads, dtype, of_v, shape):
    matrix, v = random_matrix(*shape, dtype), random_matrix(shape[1], 3, of_v, seed=1)
    with at_most(threads), products.spread() as each:
        product = products.multiply(matrix, v, each)
    assert product.dtype == of_v
    tolerance = 1e-13 if of_v == "float64" else 1e-5
    np.testing.assert_allclose(product, matrix.astype(np.float64) @ v.astype(np.float64), rtol=0, atol=tolerance)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 4, 9, 13, 30])
def test_the_triangle_serves_twice(small_tiles, threads, dtype, rows):
    n = 30
    matrix = random_matrix(n, n, dtype)
    matrix, v = matrix + matrix.T, random_matrix(n, 2, "float64", seed=1)
    total = np.zeros((n, 2))
    with at_most(threads), products.spread() as each:
        for start in range(0, n, rows):
            products.add_symmetric(matrix[start : start + rows, start:], start, v, total, each)
    np.testing.assert_allclose(total, matrix.astype(np.float64) @ v, rtol=0, atol=1e-12)


def test_float32_entries_lose_nothing_to_cancellation():
    """A large common part that v cancels: float32 sums would be wrong in the third digit."""
    random = np.random.default_rng(2)
    matrix = (1000 + random.standard_normal((300, 300))).astype(np.float32)
    v = random.standard_normal((300, 1))
    v -= v.mean()
    exact = matrix.astype(np.float64) @ v
    with products.spread() as each:
        ours = products.multiply(matrix, v, each)
    single = matrix @ v.astype(np.float32)
    assert np.linalg.norm(ours - exact) < 1e-11 * np.linalg.norm(exact)
    assert np.linalg.norm(single - exact) > 1e-5 * np.linalg.norm(exact)


def test_an_error_in_a_thread_is_not_lost():
    def work(part):
        if part.start > 0:
            raise RuntimeError(threading.current_thread().name)

    with pytest.raises(RuntimeError), products.spread() as each:
        each(work, products.cut(10, 2))
