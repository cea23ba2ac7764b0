"""Who computes what: every pair once, shards of equal cost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_gen.jobs.tiles import divide, good_number, tiles
from linearized.base.errors import UserError
from linearized.storage.manifest import Manifest


def manifest(rows, num_shards, tile):
    return Manifest({}, "0", "float32", "stax", rows, tile, divide(rows, num_shards, tile), "make")


@settings(deadline=None, max_examples=60)
@given(data=st.data(), n=st.integers(1, 60), test=st.integers(1, 20), tile=st.integers(1, 25))
def test_every_pair_of_the_triangle_and_of_the_test_block_is_computed_once(data, n, test, tile):
    count = data.draw(st.integers(1, (n + 1) // 2))
    whole = manifest({"train": n, "test": test, "validation": 3}, count, tile)
    counts = {"train": np.zeros((n, n), int), "test": np.zeros((test, n), int), "validation": np.zeros((3, n), int)}
    for shard in range(count):
        for one in tiles(whole, shard):
            assert 0 < one.band.stop - one.band.start <= tile and one.left < one.right
            counts[one.band.block][one.band.start : one.band.stop, one.left : one.right] += 1
            assert one.on_diagonal == (one.band.block == "train" and one.left == one.band.start)
    assert (counts["test"] == 1).all() and (counts["validation"] == 1).all()
    upper = np.triu(np.ones((n, n), bool))
    assert (counts["train"][upper] == 1).all()
    row, column = np.nonzero(counts["train"] * ~upper)
    assert (row - column < tile).all()  # below the diagonal there are the squares on it alone


def test_shards_cost_the_same():
    n, count = 5000, 25
    whole = manifest({"train": n, "test": 1000}, count, 50)
    pairs = [sum(tile.entries for tile in tiles(whole, shard)) for shard in range(count)]
    assert max(pairs) < 1.001 * min(pairs)
    assert sum(pairs) < 1.02 * (n * n / 2 + 1000 * n)


def test_the_published_job_has_250_shards_of_200_rows():
    rows = {"train": 50_000, "test": 10_000}
    assert good_number(rows, 32, 4) == 250
    for bands in divide(rows, 250, 32):
        assert sum(band.stop - band.start for band in bands if band.block == "train") == 200
        assert sum(band.stop - band.start for band in bands if band.block == "test") == 40


def test_good_numbers():
    assert good_number({"train": 1000, "test": 100}, 2048, 4) == 1
    assert good_number({"train": 1000, "test": 100}, 32, 4) == 16
    assert good_number({"train": 1, "test": 1}, 32, 4) == 1
    million = good_number({"train": 2**20, "test": 1}, 2048, 4)
    assert 2**41 / million <= 2**30 + 2**24  # no file larger than 1 GiB, give or take


@pytest.mark.parametrize("count", [0, 6, 1000])
def test_more_shards_than_pairs_of_rows_are_refused(count):
    with pytest.raises(UserError, match=r"--num_shards.*Take 1 to 5"):
        divide({"train": 10, "test": 2}, count, 4)
