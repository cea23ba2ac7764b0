"""The exception for what a user can cause and mend: one line and an exit code, without a traceback."""

from typing import Any

SHOWN = 60  # characters of a received value that an error repeats


class UserError(ValueError):
    """Says what is wrong, what came in and what to do next.

    Characters that a terminal does not show, which a file's content may bring into the message, are escaped.
    """

    code = 2  # a command's exit code

    def __init__(self, message: object = ""):
        super().__init__("".join(map(_shown, str(message))))


def _shown(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


class TryLater(UserError):
    """Nothing is wrong: another process is at work on the same thing."""

    code = 75  # as sysexits.h has it for "try again later"


def shown(value: Any) -> str:
    """Return a received value as an error repeats it: at most `SHOWN` characters, on one line."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
