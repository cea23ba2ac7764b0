"""Blocks of draws hold the bits of one big draw, whichever thread draws them."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from linearized.base.blocks import at_most, cores, for_each, for_each_drawn, row_blocks


@given(rows=st.integers(0, 2000), row_bytes=st.integers(1, 10**6))
def test_row_blocks_cover_every_row_once(rows, row_bytes):
    covered = [row for block in row_blocks(rows, row_bytes) for row in range(block.start, block.stop)]
    assert covered == list(range(rows))


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 700), seed=st.integers(0, 2**32 - 1))
def test_drawn_blocks_are_one_big_draw(rows, seed):
    out = np.empty((rows, 3, 5))
    blocks = row_blocks(rows, 1, block_bytes=1)
    for_each_drawn(np.random.RandomState(seed), blocks, lambda block: (block.stop - block.start, 3, 5), out.__setitem__)
    np.testing.assert_array_equal(out, np.random.RandomState(seed).normal(size=(rows, 3, 5)))


def test_for_each_calls_once_an_item():
    seen, lock = [], threading.Lock()

    def work(item):
        with lock:
            seen.append(item)

    for_each(range(100), work)
    for_each([], work)
    assert sorted(seen) == list(range(100))


def test_errors_reach_the_caller():
    def work(item):
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item"):
        for_each(range(5), work)


def test_blas_of_numpy_and_of_scipy_is_bounded_wherever_it_was_loaded():
    """In a process of its own: the search for libraries is made once, and SciPy's is loaded late."""
    probe = (
        "from linearized.base.blocks import blas_threads; import threadpoolctl\n"
        "with blas_threads(1): pass\n"
        "import scipy.linalg\n"
        "before = [pool['num_threads'] for pool in threadpoolctl.threadpool_info()]\n"
        "with blas_threads(1): assert all(p['num_threads'] == 1 for p in threadpoolctl.threadpool_info())\n"
        "with blas_threads(None): assert [p['num_threads'] for p in threadpoolctl.threadpool_info()] == before\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}  # with one there would be nothing to bound
    subprocess.run([sys.executable, "-c", probe], env=environment, check=True, timeout=60)


def test_at_most_bounds_the_cores_and_blas_in_all_threads_and_ends():
    before, seen, threads = cores(), [], set()
    with at_most(1):
        worker = threading.Thread(target=lambda: seen.append(cores()))
        worker.start()
        worker.join()
        for_each(range(50), lambda _: threads.add(threading.get_ident()))
        blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert len(blas) >= 1 and all(pool["num_threads"] == 1 for pool in blas)
        with at_most(10**6):
            assert cores() == before
    assert seen == [1] and len(threads) == 1 and cores() == before
