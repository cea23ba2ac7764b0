"""The original suite's files become the shards that the command itself would have made."""

import shlex

import numpy as np
import pytest

from kernel_gen import import_npy, status
from kernel_gen.import_npy import ImportSettings as Config
from kernel_gen.import_npy import run
from kernel_gen.jobs import gram_job, runner, verification
from linearized import data, open_gram
from linearized.base.errors import UserError
from linearized.settings.command import run_command

SMALL = {"kernel": "POLYNOMIAL", "num_train": 60, "num_test": 20, "num_shards": 3, "validation": 10.0}


@pytest.fixture
def matrices(directories):
    """The whole train matrix (60, 60), validation rows last, and test matrix (20, 60)."""
    dataset = data.load("DIGITS", num_train=60, num_test=20)
    x, d = dataset.train.x, dataset.dim
    return (1 + x @ x.T / np.sqrt(np.float32(d))) ** 2, (1 + dataset.test.x @ x.T / np.sqrt(np.float32(d))) ** 2


def row_files(folder, train, test, rows=20):
    """As the original suite writes them: zeros left of a file's own columns; test files have a row a train input."""
    folder.mkdir()
    for number, start in enumerate(range(0, len(train), rows)):
        own = train[start : start + rows].copy()
        own[:, :start] = 0
        np.save(folder / f"train_ntk_{number}.npy", own)
        np.save(folder / f"test_ntk_{number}.npy", test[:, start : start + rows].T)
    return str(folder)


def check(job, train, test):
    gram = open_gram(job.folder, check=True)
    np.testing.assert_array_equal(gram.to_memory(), np.triu(train[:50, :50]) + np.triu(train[:50, :50], 1).T)
    np.testing.assert_array_equal(gram.validation.to_memory(), train[:50, 50:].T)
    np.testing.assert_array_equal(gram.test.to_memory(), test[:, :50])
    assert verification.verify(job.folder)[1] < 1e-5


def test_row_files(tmp_path, matrices):
    job = run(Config(**SMALL, source=row_files(tmp_path / "old", *matrices)))
    check(job, *matrices)
    assert runner.run(gram_job.GramJobSettings(**SMALL)) == []  # the command finds them finished


def test_whole_matrices(tmp_path, matrices):
    for name, matrix in zip(("train", "test"), matrices, strict=True):
        np.save(tmp_path / f"{name}.npy", matrix)
    files = {f"{name}_file": str(tmp_path / f"{name}.npy") for name in ("train", "test")}
    check(run(Config(**SMALL, **files)), *matrices)


def test_an_import_goes_on_where_it_was(tmp_path, matrices):
    config = Config(**SMALL, source=row_files(tmp_path / "old", *matrices))
    job = run(config)
    (job.folder / "shard_0001.h5").unlink()
    (job.folder / "shard_0002.h5").write_bytes(b"damaged")
    kept = (job.folder / "shard_0000.h5").stat().st_mtime_ns
    check(run(config), *matrices)
    assert (job.folder / "shard_0000.h5").stat().st_mtime_ns == kept


def refused(tmp_path, words, **changes):
    with pytest.raises(UserError, match=words):
        run(Config(**(SMALL | {"source": str(tmp_path / "old")} | changes)))


def test_files_that_are_not_what_the_flags_say(tmp_path, matrices):
    refused(tmp_path, r"lacks train_ntk_0\.npy")
    row_files(tmp_path / "old", *matrices)
    refused(tmp_path, r"train files make a matrix of \(60, 60\); the dataset requires \(55, 55\)", num_train=55)
    refused(tmp_path, r"test files make a matrix of \(60, 20\); the dataset requires \(60, 19\)", num_test=19)
    refused(tmp_path, r"is float32, not --dtype=float64", dtype="float64")
    refused(tmp_path, r"missing\.npy does not exist", source="", train_file="missing.npy", test_file="missing.npy")


def test_files_that_are_damaged(tmp_path, matrices):
    row_files(tmp_path / "old", *matrices)
    path = tmp_path / "old" / "train_ntk_1.npy"
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:1000]):
        path.write_bytes(content)
        refused(tmp_path, r"train_ntk_1\.npy is damaged")
    path.unlink()
    refused(tmp_path, r"lacks train_ntk_1\.npy")


def test_entries_that_cannot_be(tmp_path, matrices):
    train, test = matrices
    row_files(tmp_path / "nan", np.where(np.arange(60) == 33, np.nan, train), test)
    refused(tmp_path, r"train row \d+ and train row 33 is nan", source=str(tmp_path / "nan"))
    order = np.roll(np.arange(60), 7)
    row_files(tmp_path / "order", train[order], test)
    refused(tmp_path, r"not symmetric", source=str(tmp_path / "order"))


@pytest.mark.parametrize("flags", [[], ["--source=a", "--train_file=b", "--test_file=c"], ["--train_file=b"]])
def test_one_kind_of_source(directories, flags, capsys):
    assert run_command(Config, "", import_npy.main, flags) == 2
    assert "Give either --source" in capsys.readouterr().err


def test_the_command_prints_a_check_that_finds_its_shards(directories, tmp_path, matrices, capsys):
    flags = ["--kernel=POLYNOMIAL", "--num_train=60", "--num_test=20", "--num_shards=3"]
    source = row_files(tmp_path / "old", *matrices)
    assert run_command(Config, "", import_npy.main, [*flags, f"--source={source}"]) == 0
    words = shlex.split(capsys.readouterr().out.partition("Check them: ")[2])
    assert words[:3] == ["python", "-m", "kernel_gen.status"] and words[-1] == "--verify"
    assert status.command(words[3:]) == 0
