"""Which format a text of `--data` is of, and the digest of what it names."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from linearized.base.errors import UserError, shown
from linearized.base.reading import opened
from linearized.settings.data_settings import DATASETS
from linearized.settings.own_settings import FORMATS, OwnDataSettings

BLOCK = 2**20  # bytes that are read at once
WHOLE = 2**30  # bytes up to which all of a file is digested


def format_of(text: str) -> str:
    """Return the name of the first format that fits a text of `--data`.

    Raises `UserError` for a text that no format fits, with a hint where it is the name of a published dataset.
    """
    for name in FORMATS:
        if FORMATS.load(name).fits(text):
            return name
    published = {name.lower(): name for name in DATASETS}
    if text.lower() in published:
        raise UserError(f"--data reads your own files, and {shown(text)} is the published dataset "
                        f"{published[text.lower()]}: give --dataset={published[text.lower()]}.")  # fmt: skip
    there = "" if Path(text).exists() else " It does not exist."
    raise UserError(f"--data={text} is of no known format.{there} The formats are: {', '.join(FORMATS)}.")


def content_digest(options: OwnDataSettings) -> str:
    """Return the digest of the content that `options.data` names, with the format's name."""
    name = format_of(options.data)
    return f"{name}-{FORMATS.load(name).digest(options.data, options)}"


def file_digest(path: Path | str, kind: str, advice: str = "") -> str:
    """Return 16 hex digits of the bytes of a regular file (about 1 GB/s; once per process, path, size and time).

    Of a file above `WHOLE` bytes, evenly spaced blocks that are `WHOLE` bytes together, its size and the time of its
    last change are taken.

    Args:
        kind: What the file should be, with its article, for the error.

    Raises `Absent` or `Unreadable`.
    """
    with opened(path, kind, advice) as file:
        status = os.fstat(file.fileno())
        key = str(Path(path).absolute()), status.st_size, status.st_mtime_ns
        if key not in _digests:
            digest = hashlib.blake2b(str(status.st_size).encode(), digest_size=8)
            whole = status.st_size <= WHOLE
            step = BLOCK if whole else status.st_size // (WHOLE // BLOCK)
            for start in range(0, status.st_size, step):
                file.seek(start)
                digest.update(file.read(BLOCK))
            if not whole:
                digest.update(str(status.st_mtime_ns).encode())
            _digests[key] = digest.hexdigest()
        return _digests[key]


_digests: dict[tuple[str, int, int], str] = {}


class FileFormat:
    """A reader of files. A subclass implements `read`, and `paths` where there may be several files.

    Attributes:
        suffixes: Of its files, in small letters.
        kind: What a file should be, with its article, for errors.
        advice: What to do if it is not.
        reads: See `Reader`.
    """

    suffixes: tuple[str, ...]
    kind: str
    advice: str = ""
    reads: tuple[str, ...] = ()

    def paths(self, text: str) -> Sequence[Path | str]:
        """Return the files that a text of --data names."""
        return [text]

    def fits(self, text: str) -> bool:
        """See `Reader`: by the suffix of the text."""
        return Path(text).suffix.lower() in self.suffixes

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """See `Reader`."""
        return digest_of([file_digest(path, self.kind, self.advice) for path in self.paths(text)])


def digest_of(marks: Sequence[str]) -> str:
    """Return the digest of several, 16 hex digits; a single one as it is."""
    return marks[0] if len(marks) == 1 else hashlib.blake2b("\n".join(marks).encode(), digest_size=8).hexdigest()
