"""Functions that recognise the format of a value of `--data` and compute its digest; base class of file readers."""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from linearized.base.errors import UserError, shown
from linearized.base.reading import opened
from linearized.data.images import SUFFIXES
from linearized.settings.data_settings import DATASETS
from linearized.settings.own_settings import FORMATS, OwnDataSettings

BLOCK = 2**20  # bytes that are read at once
BRIEF, PATIENCE = 0.05, 20  # seconds; a digest that took longer is kept for PATIENCE times as long
WHOLE = 2**30  # bytes up to which a whole file is digested


def format_of(text: str) -> str:
    """Return the name of the format of `text`, a value of `--data`, such as "csv" for a path that ends with .csv.

    If several formats fit, the first one in the table `FORMATS` is returned.

    Raises `UserError` for a text that fits no format, with a hint if it is the name of a built-in dataset.
    """
    for name in FORMATS:
        if FORMATS.load(name).fits(text):
            return name
    published = {name.lower(): name for name in DATASETS}
    if text.lower() in published:
        raise UserError(f"--data reads your own files, and {shown(text)} is the published dataset "
                        f"{published[text.lower()]}: give --dataset={published[text.lower()]}.")  # fmt: skip
    if Path(text).is_dir():
        raise UserError(f"--data={text} {_lacking(Path(text))}")
    there = " Save a table as .csv, arrays as .npz." if Path(text).exists() else " It does not exist."
    raise UserError(f"--data={text} is of no known format.{there} The formats are: {', '.join(FORMATS)}.")


def _lacking(folder: Path) -> str:
    """Return the part of an error message that states why a folder is not a data set, and what to do."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"is a folder that cannot be read ({error.strerror})."
    advice = f"Put the pictures of each class into a folder that bears its name, such as {folder / 'cat'}."
    if not names:
        return f"is an empty folder. {advice}"
    pictures = sum(Path(name).suffix.lower() in SUFFIXES for name in names)
    if pictures:
        return f"has {pictures:,} picture{'s' * (pictures > 1)} and no class folders with pictures. {advice}"
    more = ", ..." if len(names) > 3 else ""
    return (f"holds no class folders with pictures, no idx files and no batches of CIFAR-10; it has "
            f"{', '.join(names[:3])[:120]}{more}. Name a file in it, or: {advice}")  # fmt: skip


def content_digest(options: OwnDataSettings) -> str:
    """Return "FORMAT-DIGEST": the format and the digest of the content of `options.data`, the value of --data.

    Settings need the digest many times. If computing it takes longer than `BRIEF` seconds, as for a folder of some
    hundred images, the digest is reused without a check for `PATIENCE` times as long, so that a command spends little
    time on digests.

    Raises `UserError` if no format fits, or if the content does not exist.
    """
    kept = _looked_at.get(options)
    if kept is not None and time.monotonic() < kept[1]:
        return kept[0]
    start = time.monotonic()
    name = format_of(options.data)
    digest = f"{name}-{FORMATS.load(name).digest(options.data, options)}"
    end = time.monotonic()
    if end - start > BRIEF:
        _looked_at[options] = digest, end + PATIENCE * (end - start)
    return digest


_looked_at: dict[OwnDataSettings, tuple[str, float]] = {}


def file_digest(path: Path | str, kind: str, advice: str = "", limit: int | None = None) -> str:
    """Return 16 hex digits that identify the bytes of a regular file.

    Reads about 1 GB per second. The digest is kept in memory, and computed again if the size or the time of the
    last change differs. For a file above `WHOLE` bytes, the digest covers evenly spaced blocks of `WHOLE` bytes in
    total, the size, and the time of the last change.

    Args:
        path: The file.
        kind: Name of the expected content for the error message, such as "an idx file".
        advice: Sentence at the end of the error message that says what to do.
        limit: Maximum size in bytes; None for no bound.

    Raises `Absent` for a missing file, and `Unreadable` for one that cannot be read or is too large.
    """
    with contextlib.suppress(OSError, ValueError):  # `opened` reports what is wrong with the path
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode) and (digest := _digests.get(_key(path, status))):
            return digest
    with opened(path, kind, advice, limit=limit) as file:
        status = os.fstat(file.fileno())
        key = _key(path, status)
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


def _key(path: Path | str, status: os.stat_result) -> tuple[str, int, int]:
    return str(Path(path).absolute()), status.st_size, status.st_mtime_ns


_digests: dict[tuple[str, int, int], str] = {}


class FileFormat:
    """Base class of the readers (see `Reader`) of data in files that are given by their paths.

    A subclass implements `read`, and `paths` if a text of --data may name several files.

    Attributes:
        suffixes: Suffixes of its files, in lower case.
        kind: Name of the expected content for error messages, such as "an idx file".
        advice: Sentence at the end of error messages that says what to do.
        limit: Maximum size of a file in bytes; None for no bound.
        reads: Names of the format-specific flags of `OwnDataSettings` that this reader uses.
    """

    suffixes: tuple[str, ...]
    kind: str
    advice: str = ""
    limit: int | None = None
    reads: tuple[str, ...] = ()

    def paths(self, text: str) -> Sequence[Path | str]:
        """Return the paths of the files that `text`, a value of --data, names; here this is the text itself."""
        return [text]

    def fits(self, text: str) -> bool:
        """Return whether `text`, a value of --data, ends with one of the suffixes."""
        return Path(text).suffix.lower() in self.suffixes

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """Return the digest of the bytes of all files that `text`, a value of --data, names; `options` is not used.

        Raises `Absent` for a missing file, and `Unreadable` for one that cannot be read or is too large.
        """
        return digest_of([file_digest(path, self.kind, self.advice, self.limit) for path in self.paths(text)])


def digest_of(marks: Sequence[str]) -> str:
    """Combine the digests of several files (hex digits) into 16 hex digits; return a single digest unchanged."""
    return marks[0] if len(marks) == 1 else hashlib.blake2b("\n".join(marks).encode(), digest_size=8).hexdigest()
