"""The virtual matrix over shards equals the one in memory, in every way of reading it, and refuses bad files."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_gen.jobs.tiles import divide
from linearized.base.errors import UserError
from linearized.storage.gram import CACHE, TRANSPOSED, Gram, open_gram
from linearized.storage.manifest import Manifest, save_once
from linearized.storage.shards import write_shard


def make(folder, n, *, test=5, validation=0, num_shards=3, tile=4, dtype="float32"):
    """Shards of a random symmetric matrix. Returns its blocks."""
    random = np.random.default_rng(n)
    rows = {"train": n, "test": test} | ({"validation": validation} if validation else {})
    blocks = {block: random.normal(size=(count, n)).astype(dtype) for block, count in rows.items()}
    blocks["train"] = np.triu(blocks["train"]) + np.triu(blocks["train"], 1).T
    shards = divide(rows, num_shards, tile)
    manifest = Manifest({}, "f00d", dtype, "stax", rows, tile, shards, "python -m kernel_gen --kernel=NTK")
    save_once(folder, manifest)
    for shard in range(num_shards):
        write_shard(folder, manifest, shard, lambda band: blocks[band.block][band.start : band.stop, band.left :])
    return blocks


@settings(deadline=None, max_examples=25)
@given(
    values=st.data(), n=st.integers(2, 40), tile=st.integers(1, 50), memory=st.sampled_from([1, 200, 1000, 2**25]),
    dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_all_ways_of_reading_agree(tmp_path_factory, values, n, tile, memory, dtype):
    folder = tmp_path_factory.mktemp("gram")
    num_shards = values.draw(st.integers(1, (n + 1) // 2))
    expected = make(folder, n, validation=3, num_shards=num_shards, tile=tile, dtype=dtype)
    gram, k = open_gram(folder), expected["train"]
    assert gram.shape == (n, n) and gram.dtype == dtype and len(gram) == n
    np.testing.assert_array_equal(gram.to_memory(), k)
    assert gram.to_memory("float64").dtype == "float64"
    start, stop = sorted(values.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    np.testing.assert_array_equal(gram[start:stop], k[start:stop])
    row = 0
    for rows, block in gram.row_blocks(memory):
        assert rows.start == row
        np.testing.assert_array_equal(block, k[rows, rows.start :])
        row = rows.stop
    assert row == n
    v = np.random.default_rng(0).normal(size=(n, 2))
    np.testing.assert_allclose(gram @ v, k @ v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gram @ v[:, 0], k @ v[:, 0], rtol=1e-10, atol=1e-10)
    for block in ("test", "validation"):
        part, whole = getattr(gram, block), expected[block]
        assert part.shape == whole.shape
        np.testing.assert_array_equal(part.to_memory(), whole)
        np.testing.assert_array_equal(part[1:3], whole[1:3])
        np.testing.assert_array_equal(np.concatenate([np.array(b) for _, b in part.row_blocks(memory)]), whole)
        np.testing.assert_allclose(part @ v, whole @ v, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 40), tile=st.integers(1, 20), count=st.integers(1, 12), memory=st.sampled_from([1, 300, 2**25]))
def test_parts_of_the_bands_add_up_to_the_product(tmp_path_factory, n, tile, count, memory):
    folder = tmp_path_factory.mktemp("gram")
    k = make(folder, n, num_shards=min(3, (n + 1) // 2), tile=tile)["train"].astype(np.float64)
    gram, v = open_gram(folder), np.random.default_rng(0).normal(size=(n, 3))
    parts = gram.parts(count)
    assert len(parts) <= count and parts[0].start == 0 and parts[-1].stop == len(gram._stored)
    total = sum(gram.multiply(v, bands=part, memory=memory) for part in parts)
    np.testing.assert_allclose(total, k @ v, rtol=0, atol=1e-12)
    assert not gram.multiply(v, bands=slice(0, 0)).any()


def test_time_of_reading_is_counted(tmp_path):
    make(tmp_path, 300)
    gram = open_gram(tmp_path)
    assert gram.folder == tmp_path
    gram @ np.ones((300, 1))
    first = gram.seconds_reading
    assert gram.seconds_waiting > 0 and 0 < first < 10
    gram @ np.ones((300, 1))
    assert first < gram.seconds_reading < 2 * first + 1


def test_products_keep_float32_and_steps_are_refused(tmp_path):
    make(tmp_path, 12)
    gram = open_gram(tmp_path)
    assert (gram @ np.ones((12, 1), np.float32)).dtype == np.float32
    assert gram.validation is None
    with pytest.raises(UserError, match="step of 2"):
        gram[0:6:2]


def test_reading_does_not_hold_the_matrix(tmp_path):
    make(tmp_path, 1500, num_shards=10, tile=40)
    gram = open_gram(tmp_path, check=True)
    tracemalloc.start()
    try:
        total = sum(float(block[:, 0].sum()) for _, block in gram.row_blocks(2**17))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(total) and peak < 1500 * 1500 * 4 / 10


def test_blocks_of_rows_fit_in_the_cache_by_default(tmp_path):
    make(tmp_path, 1500, num_shards=10, tile=40)
    sizes = [entries.nbytes for _, entries in open_gram(tmp_path).row_blocks()]
    assert len(sizes) > 2 and max(sizes) <= CACHE


def test_the_matrix_in_memory_is_read_in_blocks_of_many_rows(tmp_path, monkeypatch):
    """Blocks of few long rows would be written as columns in short pieces, which is slow."""
    k, sizes, row_blocks = make(tmp_path, 1500, num_shards=10, tile=40)["train"], [], Gram.row_blocks
    monkeypatch.setattr("linearized.storage.gram.CACHE", 1500 * 4)
    monkeypatch.setattr(Gram, "row_blocks", lambda self, memory: (
        sizes.append(rows.stop - rows.start) or (rows, block) for rows, block in row_blocks(self, memory)))  # fmt: skip
    np.testing.assert_array_equal(open_gram(tmp_path).to_memory(), k)
    assert np.mean(sizes) > TRANSPOSED / 2 and sum(sizes) == 1500


def test_missing_shards_are_named_with_their_command(tmp_path):
    make(tmp_path, 30)
    (tmp_path / "shard_0001.h5").unlink()
    with pytest.raises(UserError, match=r"shard_0001\.h5 is missing.*python -m kernel_gen --kernel=NTK --shard=1"):
        open_gram(tmp_path)
    (tmp_path / "shard_0002.h5").unlink()
    with pytest.raises(UserError, match=r"2 of 3 shards"):
        open_gram(tmp_path)


@pytest.mark.parametrize("use", ["check", "to_memory", "product", "rows", "test"])
def test_a_flipped_bit_is_refused_before_it_is_used(tmp_path, use):
    make(tmp_path, 30, num_shards=2, tile=8)
    gram = open_gram(tmp_path)
    bands = gram.test._stored if use == "test" else gram._stored
    victim = bands[-1] if use == "test" else bands[1]
    content = bytearray(victim.path.read_bytes())
    content[victim.offset + 5] ^= 4
    victim.path.write_bytes(content)
    gram = open_gram(tmp_path)  # the header is whole
    ways = {
        "check": lambda: open_gram(tmp_path, check=True), "to_memory": gram.to_memory,
        "product": lambda: gram @ np.ones(30), "rows": lambda: gram[20:30], "test": lambda: gram.test.to_memory(),
    }  # fmt: skip
    with pytest.raises(UserError, match=rf"{victim.path.name} is damaged.*--shard=\d"):
        ways[use]()


def test_a_file_cut_short_after_opening_is_refused(tmp_path):
    make(tmp_path, 30, num_shards=1, tile=8)
    gram = open_gram(tmp_path)
    path = tmp_path / "shard_0000.h5"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(UserError, match="ends early"):
        gram.to_memory()


def test_a_matrix_of_another_dataset_is_refused(tmp_path):
    make(tmp_path, 12)
    assert open_gram(tmp_path, fingerprint="f00d").shape == (12, 12)
    with pytest.raises(UserError, match="another dataset"):
        open_gram(tmp_path, fingerprint="beef")
