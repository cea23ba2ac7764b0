"""Safe reading of untrusted files: every problem with a file raises the same exception.

Parsers raise exceptions of many kinds on damaged bytes: json raises RecursionError, NumPy tokenize.TokenError, zipfile
BadZipFile. `parsing` converts each of them to an `Unreadable`, which names the file. `opened` refuses everything except
regular files, because reading a pipe waits for a writer and reading a device may never end. This module needs only the
standard library; `linearized.storage.array_files`, `linearized.data.images` and `linearized.storage.pickles` read the
other formats.
"""

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from linearized.base import seals
from linearized.base.errors import UserError

JSON_LIMIT = 2**28  # bytes; the largest JSON file of the suite, the manifest of 10⁵ shards, takes about 2**24
TEXT_LIMIT = 2**30  # bytes; the largest file of GLUE takes 2**27
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
          stat.S_IFBLK: "a device"}  # fmt: skip


class Unreadable(UserError):
    """An error for a file that cannot be read or does not have the expected content.

    Attributes:
        path: Path of the file.
        reason: The problem alone; the message also contains the path and the advice.
    """

    def __init__(self, path: Path | str, problem: str, advice: str = "", *, reason: str = ""):
        self.path, self.reason = Path(path), reason or problem
        self._made_from = (str(path), problem, advice)
        super().__init__(f"{path} {problem}. {advice}".strip())

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions are pickled by their arguments
        return _rebuilt, (type(self), *self._made_from, self.reason)


def _rebuilt(kind: type[Unreadable], path: str, problem: str, advice: str, reason: str) -> Unreadable:
    return kind(path, problem, advice, reason=reason)


class Absent(Unreadable):
    """An error for a file that does not exist."""


def one_line(error: BaseException) -> str:
    """Return an error's message as one line of at most 200 characters, or the name of its class if it has none."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = " ".join(text.split())
    return f"{line[:197]}..." if len(line) > 200 else line or type(error).__name__


def expanded(text: str, where: str) -> Path:
    """Return the path that a user gave, with `~` and `~user` replaced by the home folder.

    Args:
        text: The path.
        where: Name of the flag, variable or line in which the user gave it, for error messages.

    Raises `UserError` for an unknown user and for control characters.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UserError(f"{where}: a path has no control characters. Received: {text!r}.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{where}: {text} cannot be expanded ({one_line(error)}). Give the whole path.") from error


@contextlib.contextmanager
def parsing(
    path: Path | str, kind: str, advice: str = "", *, passes: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Convert exceptions of a `with` block that parses one file to `Unreadable`, whose message names the file.

    Args:
        path: The file, or another name for the source of the bytes.
        kind: Expected kind of file with its article, such as "a JSON file".
        advice: Sentence at the end of the message that says what to do about the problem.
        passes: Exceptions besides `UserError` that are not converted.

    Raises `Absent` for a missing file and `Unreadable` for everything else.
    """
    try:
        yield
    except (UserError, *passes):
        raise
    except FileNotFoundError as error:
        raise Absent(path, "does not exist", advice) from error
    except Exception as error:  # on damaged bytes a parser may raise anything
        reason = one_line(error)
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            raise Unreadable(path, f"cannot be read ({error.strerror})", advice, reason=error.strerror) from error
        raise Unreadable(path, f"is damaged or not {kind} ({reason})", advice, reason=reason) from error


def check_regular(path: Path | str, advice: str = "", *, limit: int | None = None) -> int:
    """Return the size of a regular file in bytes, without opening it.

    Args:
        path: The file.
        advice: Sentence for error messages that says what to do about a problem.
        limit: Largest size in bytes; None for no limit.

    Raises `Absent` for a missing file, and `Unreadable` for a folder, pipe, socket or device, and for a file of more
    than `limit` bytes.
    """
    with parsing(path, "a file", advice):
        return _checked(path, Path(path).stat(), advice, limit)


def _checked(path: Path | str, status: os.stat_result, advice: str, limit: int | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise Unreadable(path, f"is {kind}, not a regular file", advice)
    if limit is not None and status.st_size > limit:
        raise Unreadable(
            path, f"has {status.st_size:,} bytes, more than the {limit:,} that such a file may have", advice
        )
    return status.st_size


@contextlib.contextmanager
def opened(path: Path | str, kind: str, advice: str = "", *, limit: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file for reading bytes inside a `with` block.

    Args:
        path: File to open.
        kind: Expected kind of file with its article, such as "a JSON file".
        advice: Sentence for error messages that says what to do about a problem.
        limit: Largest size of the file in bytes; None for no limit.

    Raises `Absent` for a missing file, and `Unreadable` for one that is not regular or is larger than `limit`.
    Exceptions of the block are converted to `Unreadable` too, except `UserError`.
    """
    check_regular(path, advice, limit=limit)
    with parsing(path, kind, advice):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe that replaced it does not block
        with os.fdopen(handle, "rb") as file:
            _checked(path, os.fstat(handle), advice, limit)
            yield file


def read_bytes(path: Path | str, kind: str = "a file", advice: str = "", *, limit: int | None = TEXT_LIMIT) -> bytes:
    """Return the content of a regular file.

    Args:
        path: File to read.
        kind: Expected kind of file with its article, such as "a JSON file".
        advice: Sentence for error messages that says what to do about a problem.
        limit: Largest size of the file in bytes; None for no limit.

    Raises `Absent` for a missing file, and `Unreadable` for one that is not regular, cannot be read or is larger than
    `limit`.
    """
    with opened(path, kind, advice, limit=limit) as file:
        return file.read(-1 if limit is None else limit)


def read_lines(path: Path | str, advice: str = "", *, limit: int = TEXT_LIMIT) -> list[str]:
    r"""Return the lines of a UTF-8 text file without their line ends and without a byte order mark.

    Lines end only at "\n" or "\r\n". Unlike in `str.splitlines`, U+2028, "\x0b", "\x85" and a lone "\r" are ordinary
    characters. An empty last line is left out.

    Args:
        path: File to read.
        advice: Sentence for error messages that says what to do about a problem.
        limit: Largest size of the file in bytes.

    Raises `Absent` for a missing file, and `Unreadable` for one that is not UTF-8, is not regular or is larger than
    `limit`.
    """
    content = read_bytes(path, "a text file", advice, limit=limit)
    with parsing(path, "a text file in UTF-8", advice):
        text = content.decode("utf-8-sig")
    return split_lines(text)


def split_lines(text: str) -> list[str]:
    r"""Split a text into lines at "\n" and "\r\n" only, without these line ends; an empty last line is left out."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_json(path: Path | str, advice: str = "", *, kind: type = dict) -> Any:
    """Return the value of a JSON file of at most `JSON_LIMIT` bytes.

    If the file has a digest of its content as its last key (`linearized.base.seals.write_json` adds one), the digest is
    compared and left out of the value.

    Args:
        path: File to read.
        advice: Sentence for error messages that says what to do about a problem.
        kind: Expected type of the value, such as dict or list.

    Raises `Absent` for a missing file, and `Unreadable` for content that is not valid JSON (NaN and Infinity are not),
    is nested too deeply, is of another type, or has changed since it was written.
    """
    content = read_bytes(path, "a JSON file", advice, limit=JSON_LIMIT)
    with parsing(path, "a JSON file", advice):
        sealed = seals.is_sealed(content)
        value = parse_json(content.decode("utf-8"))
        if not isinstance(value, kind):
            raise ValueError(f"it holds a {type(value).__name__}, not a {kind.__name__}")
        if sealed:
            del value["digest"]
        elif isinstance(value, dict) and value.get("format") in seals.SEALED_FORMATS:
            raise ValueError("its digest is missing")
        return value


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError for invalid JSON, for NaN and numbers that overflow, for too deep nesting, and for escapes of half
    a surrogate pair, which is no valid text and could not be written again.
    """
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no number of JSON")
    return value
