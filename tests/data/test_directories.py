"""directories.txt: which file counts, how a line is read, what is said when one is missing."""

import pytest

from data.directories import KEYS, directories_file, directory
from data.errors import UserError


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "directories.txt"
    monkeypatch.setenv("DIRECTORIES", str(path))
    return path


def test_relative_paths_count_from_the_file(file, monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    file.write_text("# comment\n\ndata_dir  sub/my data  # here\nnn_dir /abs\nrf_dir $SCRATCH/rf\nntk_dir ~/ntk\n")
    assert directory("data_dir") == file.parent / "sub" / "my data"
    assert [str(directory(key)) for key in ("nn_dir", "rf_dir", "ntk_dir")] == [
        "/abs",
        "/scratch/me/rf",
        "/home/me/ntk",
    ]


def test_missing_key_says_which_line_to_add_where(file):
    file.write_text("data_dir data\n")
    with pytest.raises(UserError, match=rf"{file} has no line for synth_dir\. Add one such as: synth_dir"):
        directory("synth_dir")


@pytest.mark.parametrize("line", ["data_dir", "dta_dir storage"])
def test_unreadable_line_is_named(file, line):
    file.write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=rf"line 2: expected .*{line}"):
        directory("data_dir")


def test_missing_file_is_named(file):
    with pytest.raises(UserError, match=f"Cannot read {file}"):
        directory("data_dir")


def test_the_file_here_comes_before_the_repository_s_own(tmp_path, monkeypatch):
    monkeypatch.delenv("DIRECTORIES", raising=False)
    monkeypatch.chdir(tmp_path)
    own = directories_file()
    assert own.parent != tmp_path
    for key in KEYS:
        assert directory(key).is_relative_to(own.parent)
    (tmp_path / "directories.txt").write_text("data_dir d\n")
    assert directory("data_dir") == tmp_path.resolve() / "d"
