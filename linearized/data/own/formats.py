"""Which format a text of `--data` is of, and the digest of what it names."""

import hashlib
import os
from pathlib import Path

from linearized.base.errors import UserError, shown
from linearized.base.reading import opened
from linearized.settings.data_settings import DATASETS
from linearized.settings.own_settings import FORMATS, OwnDataSettings


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

    Args:
        kind: What the file should be, with its article, for the error.

    Raises `Absent` or `Unreadable`.
    """
    with opened(path, kind, advice) as file:
        status = os.fstat(file.fileno())
        key = str(Path(path).absolute()), status.st_size, status.st_mtime_ns
        if key not in _digests:
            _digests[key] = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
        return _digests[key]


_digests: dict[tuple[str, int, int], str] = {}
