"""SYNTH against a slow oracle of the published recipe, row by row with the global generator."""

import numpy as np
import pytest
from absl import logging

from linearized import data
from linearized.base.errors import UserError
from linearized.data.sources import synth
from linearized.data.sources.anisotropic import SynthRecipe

SMALL = {"synth_n": 300, "synth_dim": 40, "num_test": 50}


def oracle(n, d, eta, kappa, nt=10_000):
    """The recipe in its own words, float32 where it was."""
    d1 = int(d**eta)
    r = d ** ((eta + kappa) / 2)
    sets = []
    for seed, rows in ((145, n), (2, nt)):
        np.random.seed(seed)
        x = np.random.normal(size=(rows, d)).astype(np.float32)
        for i in range(rows):
            x[i, :d1] = x[i, :d1] / np.linalg.norm(x[i, :d1]) * r
            x[i, d1:] = x[i, d1:] / np.linalg.norm(x[i, d1:]) * np.sqrt(d)
        sets.append(x)
    np.random.seed(14)
    betas = {k: np.random.exponential(size=d1 - k + 1) for k in (2, 3, 4)}
    values = [{k: sum(betas[k][j] * np.prod(x[:, j : j + k].astype(float), axis=1) for j in range(d1 - k + 1))
               for k in betas} for x in sets]  # fmt: skip
    scale = {k: np.sqrt(np.mean(values[0][k] ** 2)) for k in betas}
    y = [sum(value[k] / scale[k] for k in betas)[:, None].astype(np.float32) for value in values]
    return sets[0], y[0], sets[1], y[1]


def near(split, x, y):
    np.testing.assert_array_max_ulp(split.x, x, maxulp=3)
    np.testing.assert_allclose(split.y, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("noise_ind", [0, 7])
@pytest.mark.parametrize("eta", [0.4, 0.6])
def test_equals_the_oracle(directories, noise_ind, eta):
    x, y, xt, yt = oracle(300, 40, eta, noise_ind / 10)
    loaded = data.load("SYNTH", noise_ind, **SMALL, synth_eta=eta)
    near(loaded.train, x, y)
    near(loaded.test, xt[:50], yt[:50])
    assert (loaded.task, loaded.num_outputs, loaded.image_shape, loaded.family) == ("regression", 1, None, "SYNTH")


def test_norms_are_those_of_the_paper(directories):
    loaded = data.load("SYNTH", 6, synth_n=100, num_test=1)
    assert SynthRecipe(1024, 0.4, 0.6, 100).effective == 16
    rows = loaded.train.x.astype(float)
    np.testing.assert_allclose(np.linalg.norm(rows[:, :16], axis=1), 1024**0.5, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows[:, 16:], axis=1), 1024**0.5, rtol=1e-6)
    assert abs(SynthRecipe(1024, 0.4, 0.0, 1).radius - 4) < 1e-12
    assert abs(SynthRecipe(1024, 0.4, 0.9, 1).radius - 90.51) < 0.01


@pytest.mark.parametrize("settings", [{"num_train": 20}, {"num_train": 20, "subset": "random", "seed": 4}])
def test_a_part_has_the_labels_of_the_whole(directories, settings):
    whole = data.load("SYNTH", 3, **SMALL)
    for _ in range(2):  # computed, then with the label scale that was kept
        part = data.load("SYNTH", 3, **SMALL, **settings)
        rows = [int(np.flatnonzero((whole.train.x == row).all(axis=1))[0]) for row in part.train.x]
        np.testing.assert_allclose(part.train.y, whole.train.y[rows], rtol=1e-6)
        assert (rows == list(range(20))) is ("subset" not in settings)
    assert part.fingerprint != whole.fingerprint


def test_labels_scale_over_all_rows(directories):
    few, many = (data.load("SYNTH", 3, num_train=20, num_test=5, synth_dim=40, synth_n=n) for n in (20, 300))
    np.testing.assert_array_equal(few.train.x, many.train.x)
    assert not np.allclose(few.train.y, many.train.y)
    assert few.fingerprint != many.fingerprint


def test_kept_scale_is_used_and_a_damaged_one_is_not(directories, monkeypatch):
    first = data.load("SYNTH", 3, **SMALL, num_train=20)
    (kept,) = (directories / "synth_dir" / "cache").iterdir()
    for damage in ("[1, 2", "[1, 2]", "[1, 2, NaN]", "{}"):
        kept.write_text(damage)
        np.testing.assert_array_equal(data.load("SYNTH", 3, **SMALL, num_train=20).train.y, first.train.y)
    drawn = []
    generate = synth.generate
    monkeypatch.setattr(synth, "generate", lambda r, s, rows, keep: drawn.append(rows) or generate(r, s, rows, keep))
    data.load("SYNTH", 3, **SMALL, num_train=20)
    assert drawn == [20, 50]


def test_unwritable_folder_of_the_scale_is_told(directories, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    directories.mkdir()
    (directories / "synth_dir").write_text("a file where a folder should be")
    assert len(data.load("SYNTH", 3, **SMALL, num_train=20).train) == 20
    assert "Cannot keep" in said[0]


def test_a_large_set_goes_to_a_memory_map_once(directories, monkeypatch):
    small = data.load("SYNTH", 3, **SMALL)
    monkeypatch.setattr(synth, "IN_MEMORY", 1)
    mapped = data.load("SYNTH", 3, **SMALL)
    assert isinstance(mapped.train.x, np.memmap)
    np.testing.assert_array_equal(mapped.train.x, small.train.x)
    np.testing.assert_array_equal(mapped.train.y, small.train.y)
    np.testing.assert_array_equal(mapped.test.x, small.test.x)
    assert mapped.fingerprint == small.fingerprint
    monkeypatch.setattr(synth, "generate", None)  # nothing is drawn again
    np.testing.assert_array_equal(data.load("SYNTH", 3, **SMALL).train.x, small.train.x)
    np.testing.assert_allclose(data.load("SYNTH", 3, **SMALL, num_train=7).train.y, small.train.y[:7])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_stopped_generation_leaves_no_trace(directories, monkeypatch, error):
    def fails(recipe, seed, rows, keep):
        raise error

    monkeypatch.setattr(synth, "IN_MEMORY", 1)
    monkeypatch.setattr(synth, "generate", fails)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
        data.load("SYNTH", 3, **SMALL)
    assert list((directories / "synth_dir").iterdir()) == []


def test_too_small_a_disk_is_told_before(directories):
    with pytest.raises(UserError, match=r"SYNTH needs .* GiB in .* Give a smaller --num_train"):
        data.load("SYNTH", 3, synth_n=2**40)


def test_unwritable_folder(directories, monkeypatch):
    monkeypatch.setattr(synth, "IN_MEMORY", 1)
    directories.mkdir()
    (directories / "synth_dir").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="Cannot write SYNTH"):
        data.load("SYNTH", 3, **SMALL)


@pytest.fixture
def published(tmp_path):
    """Files of the published names, made by the oracle."""
    arrays = oracle(60, 40, 0.4, 0.3, nt=30)
    for name, array in zip(("X_train", "y_train", "X_test", "y_test"), arrays, strict=True):
        np.save(tmp_path / f"{name}_anisotropic_40_4_3.npy", array)
    return tmp_path


FILES = {"synth_n": 60, "synth_dim": 40}


def test_published_files_are_read(published, monkeypatch):
    monkeypatch.setattr(synth, "generate", None)
    loaded = data.load("SYNTH", 3, directory=published, **FILES, num_train=10)
    np.testing.assert_array_equal(loaded.train.x, np.load(published / "X_train_anisotropic_40_4_3.npy")[:10])
    assert len(loaded.test) == 30
    assert data.DATASETS.load("SYNTH").find(published).place == published


def test_files_of_another_size_are_not_used(published, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    assert len(data.load("SYNTH", 3, directory=published, **SMALL).train) == 300
    assert "has 60 rows, not --synth_n=300" in said[0]


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "X_train",
            lambda a: np.where(np.arange(60)[:, None] == 7, np.float32(np.nan), a),
            "not finite, first in row 7",
        ),
        ("y_test", lambda a: a * np.float32(np.inf), "labels are not finite"),
        ("X_test", lambda a: a[:, :-1], r"expected float32 of shape \(30, 40\). Received: float32 \(30, 39\)"),
        ("y_train", lambda a: a[:-1], r"expected float32 of shape \(60, 1\)"),
        ("y_train", lambda a: a[:, 0], r"Received: float32 \(60,\)"),
        ("X_train", lambda a: a.astype(float), "Received: float64"),
        ("X_train", lambda a: a[0, 0], "expected float32"),
    ],
)
def test_damaged_files(published, name, change, message):
    path = published / f"{name}_anisotropic_40_4_3.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(UserError, match=message):
        data.load("SYNTH", 3, directory=published, **FILES)


@pytest.mark.parametrize("content", [b"", b"no array", "truncated"])
def test_truncated_file(published, content):
    path = published / "X_test_anisotropic_40_4_3.npy"
    path.write_bytes(path.read_bytes()[:-50] if content == "truncated" else content)
    with pytest.raises(UserError, match=f"{path} is damaged"):
        data.load("SYNTH", 3, directory=published, **FILES)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"synth_n": 0}, "synth_n"),
        ({"synth_eta": 1.0}, "synth_eta"),
        ({"synth_dim": 0}, "synth_dim"),
        ({"synth_dim": 9}, r"int\(d\^η\)=2"),
        ({"num_train": 301}, r"--num_train=301 asks for rows of a set that has 300"),
        ({"num_test": 10_001}, r"--num_test=10001 asks for rows of a set that has 10000"),
    ],
)
def test_bad_settings(directories, bad, message):
    with pytest.raises(UserError, match=message):
        data.load("SYNTH", 3, **{**SMALL, **bad})


def test_long_generation_tells_its_progress(directories, monkeypatch):
    said, now = [], iter(range(0, 10**6, 4))
    monkeypatch.setattr("linearized.data.sources.anisotropic.time.monotonic", lambda: next(now))
    monkeypatch.setattr(logging, "info", lambda text, *args: said.append(text % args))
    data.load("SYNTH", 0, synth_n=50_000, synth_dim=100, num_train=1, num_test=1)
    assert said and "of 50000 rows drawn, about" in said[0]
