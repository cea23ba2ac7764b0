"""Embeddings by the command: shards are whole or absent, and what is made in parts is what is made at once."""

import dataclasses
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.features.network import Features
from kernel_gen.jobs import gram_job, shard_states
from kernel_gen.jobs.feature_job import EmbedSettings as Config
from kernel_gen.jobs.feature_job import FeatureWork
from kernel_gen.jobs.job import open_job
from kernel_gen.jobs.runner import run, shard_commands
from linearized.base.errors import UserError
from linearized.data.loading import load_preprocessed
from linearized.settings.config import parse
from linearized.storage.embeddings import open_embedding

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


LARGE = {"features": "RF", "dataset": "DIGITS", "num_train": 1000, "num_test": 100, "embedding_dim": 32,
         "num_shards": 1}  # fmt: skip
KILLED = """
import os, signal
from kernel_gen.jobs.feature_job import EmbedSettings
from kernel_gen.jobs.partial import PartialShard
from kernel_gen.jobs.runner import run
write, count = PartialShard.write, iter(range(9))
def killed(self, tile, block):
    if next(count) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, tile, block)
PartialShard.write = killed
run(EmbedSettings(**{settings}))
"""


def test_a_shard_goes_on_after_a_kill_without_its_finished_tiles(directories, monkeypatch, tmp_path):
    config = Config(**LARGE, folder=str(tmp_path / "killed"))
    script = KILLED.replace("{settings}", repr(config.to_dict()))
    root = str(Path(__file__).resolve().parents[2])
    child = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=300)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert "begun, 60% of its tiles are done" in shard_states.report(config.path())
    computed, task = [], FeatureWork.task
    monkeypatch.setattr(FeatureWork, "task", lambda *job: computed.append(job[2]) or task(*job))
    assert run(config) == [0]
    every = open_job(config).tiles(0)
    assert [tile.stop - tile.start for tile in every] == [256, 256, 256, 232, 100]
    assert computed == every[3:]
    other = dataclasses.replace(config, folder=str(tmp_path / "whole"), threads=2)
    run(other)
    for name, f in whole(config).items():
        np.testing.assert_array_equal(f, whole(other)[name])


def test_stored_features_are_those_of_all_rows_at_once(directories):
    config = Config(**LARGE)
    run(config)
    features = config.build()
    for name, split in load_preprocessed(config, 0).splits().items():
        np.testing.assert_array_equal(whole(config)[name], features(split.x))


def test_tiles_are_computed_side_by_side(directories, monkeypatch):
    three, compute = threading.Barrier(3), Features.__call__
    monkeypatch.setattr(Features, "__call__", lambda self, x: (three.wait(60), compute(self, x))[1])
    assert run(Config(**LARGE | {"num_train": 512}, threads=3)) == [0]


def test_the_listed_commands_make_what_is_left(made):
    expected = whole(made)
    for shard in (0, 2):
        (made.path() / f"shard_{shard:04d}.h5").unlink()
    commands = shard_commands(dataclasses.replace(made, threads=1))
    assert [command.rpartition(" ")[2] for command in commands] == ["--shard=0", "--shard=2"]
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "kernel_gen.embed"] and "--threads=1" in words
        run(parse(Config, words[3:]))
    for name, f in whole(made).items():
        np.testing.assert_array_equal(f, expected[name])


def test_a_folder_of_another_kind_is_refused_and_left_alone(made):
    before = sorted(path.name for path in made.path().iterdir())
    with pytest.raises(UserError, match="holds an embedding, not a Gram matrix"):
        run(gram_job.GramJobSettings(dataset="DIGITS", num_train=90, folder=str(made.path())))
    assert sorted(path.name for path in made.path().iterdir()) == before


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
    path = sorted(made.path().glob("shard_*.h5"))[2]
    path.unlink()
    monkeypatch.setattr(Features, "__call__", lambda self, x: np.full((len(x), 200), np.nan, np.float32))
    with pytest.raises(UserError, match="features of train row 53 are not finite"):
        run(made)
    assert not path.exists()
    assert not list(made.path().glob("*.part")) and not list(made.path().glob(".writing*"))


@pytest.mark.parametrize("changes, words", [
    ({"dense_layers": 3}, "hidden_layers is 1, not 2"), ({"embedding_dim": 100}, "embedding_dim"),
    ({"num_shards": 4}, "num_shards is 3, not 4"), ({"preprocess": "zca"}, "fingerprint"), ({"shard": 7}, "0 to 2"),
    ({"embedding_seed": 1}, "embedding_seed"),
], ids=["layers", "dim", "shards", "preprocess", "range", "seed"])  # fmt: skip
def test_a_folder_of_other_features_is_refused(made, changes, words):
    with pytest.raises(UserError, match=words):
        run(dataclasses.replace(made, folder=str(made.path()), **changes))


def test_a_damaged_list_is_told(made):
    (made.path() / "embedding.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        open_embedding(made.path())
    with pytest.raises(UserError, match=r"embedding\.json"):
        open_embedding(made.path().parent)


def test_names_of_features_and_kernel_must_agree():
    with pytest.raises(UserError, match="--kernel=CNTK"):
        Config(features="RF", kernel="CNTK")
    assert Config(features="RF").kernel == "RF"
