"""Names that become one component of a path: what a user may choose, and what is made from other text."""

import hashlib
import re

from linearized.base.errors import UserError

LIMIT = 100  # bytes of a name; file systems allow 255, of which a run's own words take a part


def checked_name(value: str, flag: str) -> str:
    """Return `value` if it can name a folder inside another one.

    Args:
        flag: The flag that it was given with, for the error.

    Raises `UserError` for an empty name, one with a separator, a control character or a space at an end, one that
    starts with a dot (which includes "." and ".."), and one of more than `LIMIT` bytes.
    """
    wrong = ""
    if not value.strip():
        wrong = "must not be empty"
    elif "/" in value or "\\" in value:
        wrong = "names one folder, without / and \\"
    elif value.startswith("."):
        wrong = "must not start with a dot"
    elif value != value.strip() or not value.isprintable():
        wrong = "must not hold control characters, or spaces at its ends"
    elif len(value.encode()) > LIMIT:
        wrong = f"must have at most {LIMIT} bytes"
    if wrong:
        raise UserError(f"--{flag} {wrong}. Received: {value!r:.200}.")
    return value


def slug(text: str, limit: int = LIMIT) -> str:
    """Return a text as a part of a file name: letters, digits and `_.,=+()-` of it, at most `limit` characters.

    Other characters become `_`. A text that is cut off ends in eight digits of its digest, so that two long texts
    with the same beginning stay apart.
    """
    name = re.sub(r"[^A-Za-z0-9_.,=+()-]+", "_", text).lstrip(".")
    if len(name) <= limit:
        return name or "_"
    return f"{name[: limit - 9]}-{hashlib.blake2b(text.encode(errors='replace'), digest_size=4).hexdigest()}"
