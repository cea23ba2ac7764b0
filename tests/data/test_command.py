"""Commands end in one clear line and a code, never a traceback, for what a user can cause."""

import dataclasses
import errno

import pytest

from linearized.base.errors import UserError
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    units: int = setting(1, "how many", minimum=1)


def fails(error):
    def main(config):
        raise error

    return main


def test_done(capsys):
    seen = []
    assert run_command(Config, "Doc.", seen.append, ["--units=3"]) == 0
    assert seen == [Config(units=3)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error, code, words",
    [
        (UserError("no such\n  thing"), 2, "error: no such thing\n"),
        (MemoryError(), 2, "out of memory"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/big"),
            2,
            "error: No space left on device (/big). Free space or choose",
        ),
        (OSError(errno.EROFS, "Read-only file system", "/fixed"), 2, "error: Read-only file system (/fixed). Choose "),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_errors_become_one_line_and_a_code(capsys, error, code, words):
    assert run_command(Config, "Doc.", fails(error), []) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(Config, "Doc.", fails(ZeroDivisionError()), [])


def test_bad_flag(capsys):
    assert run_command(Config, "Doc.", fails(AssertionError()), ["--units=0"]) == 2
    assert "--units must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(capsys, flag):
    assert run_command(Config, "Doc.", fails(AssertionError()), [flag]) == 0
    assert "--units=1" in capsys.readouterr().out
