"""Exceptions for errors that a user can cause and correct: commands show one line and an exit code, no traceback."""

from typing import Any

SHOWN = 60  # largest number of characters of a received value that an error message repeats


class UserError(ValueError):
    """An error whose message states what is wrong, what was received and what to do next.

    Unprintable characters in the message, which may come from the content of a file, are escaped.
    """

    code = 2  # a command's exit code

    def __init__(self, message: object = ""):
        super().__init__("".join(map(_shown, str(message))))


def _shown(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


class Interrupted(UserError):
    """A failure outside the work, such as a full disk. Unfinished work is valid, and the same command continues it."""


class TryLater(Interrupted):
    """A temporary failure: another process is working on the same file or folder, and nothing is wrong."""

    code = 75  # EX_TEMPFAIL of sysexits.h, "try again later"


def shown(value: Any) -> str:
    """Return the text of a received value for an error message: at most `SHOWN` characters, on one line."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
