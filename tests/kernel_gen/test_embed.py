"""Embeddings by the command: shards are whole or absent, and what is made in parts is what is made at once."""

import dataclasses

import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.embed import EmbedSettings as Config
from kernel_gen.embed import run
from linearized.base.errors import UserError
from linearized.data.loading import load_preprocessed
from linearized.storage.embeddings import FILE, open_embedding

SMALL = {"dataset": "DIGITS", "num_train": 90, "num_test": 20, "validation": 10.0, "embedding_dim": 200}


@pytest.fixture
def made(directories):
    config = Config(**SMALL, num_shards=3)
    assert run(config) == [0, 1, 2]
    return config


def whole(config, **more):
    opened = open_embedding(config.path(), **more)
    return {name: rows[:] for name, rows in opened.splits.items()}


def test_features_of_all_splits_have_the_kernel(made):
    dataset = load_preprocessed(made, made.noise_ind)
    found = whole(made, fingerprint=dataset.fingerprint)
    assert {name: f.shape for name, f in found.items()} == {
        "train": (80, 200), "validation": (10, 200), "test": (20, 200)
    }  # fmt: skip
    exact = gram("NTK", dataset.test.x, dataset.train.x, scale="published")
    assert np.linalg.norm(found["test"] @ found["train"].T - exact) < 0.3 * np.linalg.norm(exact)


def test_the_division_does_not_change_the_features(made):
    other = dataclasses.replace(made, num_shards=5, folder=str(made.path()) + "-other")
    run(other)
    for name, f in whole(made).items():
        np.testing.assert_allclose(f, whole(other)[name], atol=1e-5 * np.abs(f).max())


def test_finished_shards_are_left_alone_and_bad_ones_made_anew(made):
    before = whole(made)
    assert run(made) == []
    shards = sorted(made.path().glob("shard_*.h5"))
    shards[0].unlink()
    with pytest.raises(UserError, match=r"missing.*kernel_gen\.embed"):
        open_embedding(made.path())
    content = bytearray(shards[1].read_bytes())
    content[-5] ^= 1  # a flipped bit of the data
    shards[1].write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        run_and_read = dataclasses.replace(made, shard=0)
        run(run_and_read)
        whole(made)
    assert run(made) == [1]
    assert list(made.path().glob("*.damaged"))
    for name, f in whole(made).items():
        np.testing.assert_array_equal(f, before[name])


def test_a_failure_leaves_no_half_shard(made, monkeypatch):
    from kernel_gen import embed

    path = sorted(made.path().glob("shard_*.h5"))[2]
    path.unlink()
    monkeypatch.setattr(embed, "features_of", lambda *_: _Nan(200))
    with pytest.raises(UserError, match="not finite"):
        run(made)
    assert not path.exists()
    assert not list(made.path().glob(".shard*"))


class _Nan:
    """Features that went wrong."""

    scale, dtype = "input", np.dtype("float32")

    def __init__(self, dim):
        self.dim = dim

    def __call__(self, x):
        return np.full((len(x), self.dim), np.nan, np.float32)


@pytest.mark.parametrize("changes, words", [
    ({"num_layers": 3}, "num_layers is 2, not 3"), ({"embedding_dim": 100}, "embedding_dim"),
    ({"num_shards": 4}, "num_shards is 3, not 4"), ({"preprocess": "zca"}, "fingerprint"), ({"shard": 7}, "0 to 2"),
    ({"embedding_seed": 1}, "embedding_seed"),
], ids=["layers", "dim", "shards", "preprocess", "range", "seed"])  # fmt: skip
def test_a_folder_of_other_features_is_refused(made, changes, words):
    with pytest.raises(UserError, match=words):
        run(dataclasses.replace(made, folder=str(made.path()), **changes))


def test_a_damaged_list_is_told(made):
    (made.path() / FILE).write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        open_embedding(made.path())
    with pytest.raises(UserError, match=r"embedding\.json"):
        open_embedding(made.path().parent)


def test_names_of_features_and_kernel_must_agree():
    with pytest.raises(UserError, match="--kernel=CNTK"):
        Config(features="RF", kernel="CNTK")
    assert Config(features="RF").kernel == "RF"
