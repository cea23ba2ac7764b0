"""Exceptions for errors that a user can cause and correct: commands show one line and an exit code, no traceback."""

from typing import Any

SHOWN = 60  # largest number of characters of a received value that an error message repeats


class UserError(ValueError):
    """An error whose message states what is wrong, what was received and what to do next.

    Unprintable characters in the message, which may come from the content of a file, are escaped.
    """

    code = 2  # a command's exit code

    def __init__(self, message: object = ""):
        super().__init__("\n".join(map(_printable, str(message).split("\n"))))


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    escaped = (letter.encode("unicode_escape", "surrogatepass").decode() for letter in line)
    return "".join(letter if letter.isprintable() else code for letter, code in zip(line, escaped, strict=True))


class Interrupted(UserError):
    """An error for work that an outside cause stopped, such as a full disk.

    Finished parts of the work remain valid, and the same command continues after them.
    """


class TryLater(Interrupted):
    """An error for a file or folder on which another process is working; the same command can succeed later."""

    code = 75  # EX_TEMPFAIL of sysexits.h, "try again later"


def shown(value: Any) -> str:
    """Return the text of a received value for an error message: at most `SHOWN` characters, on one line."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
