"""Names that become one component of a path: checks of names that a user chooses, and names made from other text."""

import hashlib
import re

from linearized.base.errors import UserError

LIMIT = 100  # largest length of a name in bytes; file systems allow 255, and the name of a run adds words of its own


def checked_name(value: str, flag: str) -> str:
    """Return `value` unchanged if it can be the name of a subfolder.

    Args:
        value: Name to check.
        flag: Flag that the name was given with, for the error message.

    Raises `UserError` for a name that is empty, contains a path separator or a control character, starts or ends with a
    space, starts with a dot (which includes "." and ".."), or has more than `LIMIT` bytes.
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
    """Convert a text to a part of a file name that has at most `limit` characters.

    ASCII letters, digits and `_.,=+()-` are kept, except leading dots; each group of other characters becomes `_`. A
    truncated name ends in eight digits of the text's digest, so that two long texts with the same beginning have
    different names.
    """
    name = re.sub(r"[^A-Za-z0-9_.,=+()-]+", "_", text).lstrip(".")
    if len(name) <= limit:
        return name or "_"
    return f"{name[: limit - 9]}-{hashlib.blake2b(text.encode(errors='replace'), digest_size=4).hexdigest()}"
