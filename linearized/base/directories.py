"""Where things lie on disk: `directories.txt`, a `key path` a line.

The file named by $DIRECTORIES is read, else ./directories.txt, else the repository's own. Relative paths count from
the folder of the file; `~` and $VARIABLES are expanded.
"""

import os
from pathlib import Path

from linearized.base.errors import UserError
from linearized.base.reading import expanded, read_lines

LIMIT = 2**20  # bytes of directories.txt
KEYS = ("data_dir", "ntk_dir", "cntk_dir", "rf_dir", "synth_dir", "rkhs_dir", "nn_dir")


def directories_file() -> Path:
    """The `directories.txt` in force."""
    named = os.environ.get("DIRECTORIES")
    if named:
        return expanded(named, "$DIRECTORIES")
    here = Path("directories.txt")
    return here.resolve() if here.exists() else Path(__file__).resolve().parent.parent / "directories.txt"


def directory(key: str) -> Path:
    """Return the folder that `key` stands for; it need not exist yet.

    Raises `UserError` if the file is missing, is not UTF-8 or has a line that cannot be understood, and if it has no
    line for `key`; the message names the line to mend or to add.
    """
    path = directories_file()
    lines = read_lines(path, f"It holds lines of `key path` for {', '.join(KEYS)}.", limit=LIMIT)
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split(maxsplit=1)
        if not words:
            continue
        if len(words) != 2 or words[0] not in KEYS:
            raise UserError(
                f"{path}, line {number}: expected `key path` with a key of {', '.join(KEYS)}. Received: {line!r}."
            )
        if words[0] == key:
            return path.parent / expanded(os.path.expandvars(words[1].strip()), f"{path}, line {number}")
    raise UserError(f"{path} has no line for {key}. Add one such as: {key} storage/{key.removesuffix('_dir')}")
