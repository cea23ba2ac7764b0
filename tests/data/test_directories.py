"""directories.txt: which file counts, how a line is read, what is said when one is missing."""

import pytest

from linearized.base.directories import KEYS, directories_file, directory
from linearized.base.errors import UserError


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
    with pytest.raises(UserError, match=f"{file} does not exist"):
        directory("data_dir")


def test_without_a_file_everything_lies_under_storage(tmp_path, monkeypatch):
    monkeypatch.delenv("DIRECTORIES", raising=False)
    monkeypatch.chdir(tmp_path)
    assert directories_file() is None
    assert {directory(key) for key in KEYS} == {tmp_path.resolve() / "storage" / key[:-4] for key in KEYS}
    (tmp_path / "directories.txt").write_text("data_dir d\n")
    assert directory("data_dir") == tmp_path.resolve() / "d"


def test_the_environment_names_another_storage_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DIRECTORIES", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINEARIZED_STORAGE", str(tmp_path / "elsewhere"))
    (tmp_path / "directories.txt").write_text("nn_dir here\n")
    assert directory("nn_dir") == tmp_path / "elsewhere" / "nn"
    monkeypatch.setenv("LINEARIZED_STORAGE", "~nosuchuser/storage")
    with pytest.raises(UserError, match=r"\$LINEARIZED_STORAGE: ~nosuchuser/storage cannot be expanded"):
        directory("nn_dir")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"data_dir d\xe4ta\n", "UTF-8"),
        (b"data_dir ~nosuchuser/data\n", "line 1: ~nosuchuser/data cannot be expanded"),
        (b"\ndata_dir da\0ta\n", "line 2: a path has no control characters"),
    ],
)
def test_unusable_text_is_refused_with_the_file_s_name(file, content, message):
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        directory("data_dir")
    assert str(file) in str(caught.value)


def test_environment_variable_that_cannot_be_expanded_is_named(monkeypatch):
    monkeypatch.setenv("DIRECTORIES", "~nosuchuser/directories.txt")
    with pytest.raises(UserError, match=r"\$DIRECTORIES: ~nosuchuser/directories.txt cannot be expanded"):
        directories_file()


def test_only_line_feeds_end_a_line(file):
    file.write_bytes("data_dir a\u2028b\r\nnn_dir c\r\n".encode())
    assert directory("data_dir") == file.parent / "a\u2028b" and directory("nn_dir") == file.parent / "c"
