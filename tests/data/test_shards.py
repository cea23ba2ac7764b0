"""A shard is whole or absent, says what it is, and every changed bit is noticed."""

import dataclasses
import errno
import functools
import json
import os

import h5py
import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.storage.manifest import Band, Manifest, load_manifest, save_once
from linearized.storage.shards import BadShard, attributes, check_shard, read_header, set_aside, write_shard

N, TEST = 11, 4
SHARDS = (
    (Band("train", 0, 2), Band("train", 2, 3), Band("train", 9, 11), Band("test", 0, 2)),
    (Band("train", 3, 9), Band("test", 2, 4)),
)


@pytest.fixture
def manifest():
    rows = {"train": N, "test": TEST}
    return Manifest({"kernel": "NTK", "depth": 5}, "f00d", "float32", "stax", rows, 4, SHARDS, "make it")


@pytest.fixture
def blocks():
    random = np.random.default_rng(3)
    gram = random.normal(size=(N, N)).astype(np.float32)
    return {"train": np.triu(gram) + np.triu(gram, 1).T, "test": random.normal(size=(TEST, N)).astype(np.float32)}


def write(folder, manifest, blocks, shard):
    return write_shard(folder, manifest, shard, lambda band: blocks[band.block][band.start : band.stop, band.left :])


def read(path, manifest, shard):
    return [np.array(stored.mapped()) for stored in read_header(path, manifest, shard)]


def test_a_written_shard_is_finished_and_read_back(tmp_path, manifest, blocks):
    for shard, bands in enumerate(SHARDS):
        path = write(tmp_path, manifest, blocks, shard)
        assert check_shard(path, manifest, shard) is None
        for band, entries in zip(bands, read(path, manifest, shard), strict=True):
            np.testing.assert_array_equal(entries, blocks[band.block][band.start : band.stop, band.left :])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard_0000.h5", "shard_0001.h5"]


def test_h5py_alone_can_read_a_shard_and_what_it_says(tmp_path, manifest, blocks):
    with h5py.File(write(tmp_path, manifest, blocks, 1), "r") as file:
        np.testing.assert_array_equal(file["train/0000003-0000009"], blocks["train"][3:9, 3:])
        assert file["train/0000003-0000009"].chunks is None
        assert json.loads(file.attrs["settings"]) == manifest.settings
        assert "numpy" in json.loads(file.attrs["versions"])
        assert (file.attrs["fingerprint"], file.attrs["dtype"], file.attrs["scale"]) == ("f00d", "float32", "stax")
        assert json.loads(file.attrs["bands"]) == [["train", 3, 9], ["test", 2, 4]]


def test_every_flipped_bit_is_noticed(tmp_path, manifest, blocks):
    path = write(tmp_path, manifest, blocks, 0)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    inside = [s.offset + int(random.integers(s.shape[0] * s.shape[1] * 4)) for s in read_header(path, manifest, 0)]
    for place in [*inside, *map(int, random.integers(len(whole), size=250)), *range(len(whole) - 200, len(whole))]:
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        assert check_shard(path, manifest, 0).startswith("damaged"), place


def test_a_shard_of_version_0_1_is_read(tmp_path, manifest, blocks, monkeypatch):
    monkeypatch.setattr("linearized.storage.shards.attributes", functools.partial(attributes, number=1))
    path = write(tmp_path, manifest, blocks, 0)
    monkeypatch.undo()
    with h5py.File(path, "r+"):
        pass  # HDF5 cuts off what stands behind its end
    assert check_shard(path, manifest, 0) is None
    np.testing.assert_array_equal(read(path, manifest, 0)[1], blocks["train"][2:3, 2:])


def test_a_truncated_shard_is_noticed_at_every_length(tmp_path, manifest, blocks):
    path = write(tmp_path, manifest, blocks, 0)
    whole = path.read_bytes()
    for length in [0, 1, 100, *np.linspace(200, len(whole) - 1, 40, dtype=int)]:
        path.write_bytes(whole[:length])
        assert check_shard(path, manifest, 0).startswith("damaged")
        assert check_shard(path, manifest, 0, sums=False).startswith("damaged")


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "beef"}, {"scale": "input"}, {"settings": {"kernel": "NTK", "depth": 7}},
     {"rows": {"train": N, "test": 5}}, {"shards": SHARDS[::-1]}, {"shards": (*SHARDS, ())}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_shard_of_another_matrix_is_foreign(tmp_path, manifest, blocks, change):
    path = write(tmp_path, manifest, blocks, 0)
    assert check_shard(path, dataclasses.replace(manifest, **change), 0).startswith("foreign")


def test_another_dtype_or_format_is_foreign(tmp_path, manifest, blocks, monkeypatch):
    path = write(tmp_path, manifest, blocks, 0)
    assert check_shard(path, dataclasses.replace(manifest, dtype="float64"), 0).startswith("foreign: its dtype")
    monkeypatch.setattr("linearized.storage.shards.FORMAT", 3)
    assert check_shard(path, manifest, 0).startswith("foreign: its format")


def test_missing_and_unfinished_shards(tmp_path, manifest, blocks):
    assert check_shard(tmp_path / "shard_0000.h5", manifest, 0) == "missing"
    path = write(tmp_path, manifest, blocks, 0)
    with h5py.File(path, "r+") as file:
        file.attrs.modify("finished", np.uint8(0))
    assert check_shard(path, manifest, 0) == "damaged: its digest is missing"
    with pytest.raises(BadShard):
        read_header(path, manifest, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_are_refused_by_their_place(tmp_path, manifest, blocks, bad):
    blocks["train"][5, 7] = bad
    with pytest.raises(UserError, match="train row 5 and train row 7"):
        write(tmp_path, manifest, blocks, 1)
    assert not list(tmp_path.iterdir())


def test_entries_of_another_shape_are_refused(tmp_path, manifest):
    with pytest.raises(UserError, match=r"takes \(2, 11\) entries"):
        write_shard(tmp_path, manifest, 0, lambda band: np.zeros((2, 3)))


def test_a_full_disk_leaves_nothing(tmp_path, manifest, blocks, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, manifest, blocks, 0)
    assert not list(tmp_path.iterdir())


def test_the_square_on_the_diagonal_is_stored_symmetric(tmp_path, manifest, blocks):
    skewed = {"train": np.triu(blocks["train"]), "test": blocks["test"]}
    (entries, _) = read(write(tmp_path, manifest, skewed, 1), manifest, 1)
    np.testing.assert_array_equal(entries, blocks["train"][3:9, 3:])


def test_bad_shards_are_set_aside_side_by_side(tmp_path):
    names = []
    for content in ("a", "b", "c"):
        (tmp_path / "shard_0000.h5").write_text(content)
        names.append(set_aside(tmp_path / "shard_0000.h5", "damaged: some words").name)
    assert names == ["shard_0000.h5.damaged", "shard_0000.h5.2.damaged", "shard_0000.h5.3.damaged"]
    assert [(tmp_path / name).read_text() for name in names] == ["a", "b", "c"]


def test_the_first_manifest_stays(tmp_path, manifest):
    assert save_once(tmp_path, manifest) == manifest == load_manifest(tmp_path)
    assert save_once(tmp_path, dataclasses.replace(manifest, tile=99)) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["gram.json"]


def test_a_manifest_that_is_missing_damaged_or_of_another_format(tmp_path, manifest):
    with pytest.raises(UserError, match="no Gram matrix"):
        load_manifest(tmp_path)
    save_once(tmp_path, manifest)
    path = tmp_path / "gram.json"
    record = json.loads(path.read_text())
    gap, twice = [record["shards"][0]], [record["shards"][0], *record["shards"]]
    for text in ("{", "[]", json.dumps(record | {"format": 9}), json.dumps(record | {"shards": gap}),
                 json.dumps(record | {"shards": twice}), json.dumps(record | {"more": 1})):  # fmt: skip
        path.write_text(text)
        with pytest.raises(UserError, match=r"gram\.json"):
            load_manifest(tmp_path)
