"""Where raw data and results lie: `directories.txt` where there is one, else ./storage.

In order: the file that $DIRECTORIES names; the folder that $LINEARIZED_STORAGE names, with one subfolder per key;
./directories.txt; ./storage. A file has one `key path` per line. Relative paths count from its folder; `~` and
$VARIABLES are expanded.
"""

import os
from pathlib import Path

from linearized.base.errors import UserError
from linearized.base.reading import expanded, read_lines

LIMIT = 2**20  # bytes of directories.txt
KEYS = ("data_dir", "ntk_dir", "cntk_dir", "rf_dir", "synth_dir", "rkhs_dir", "nn_dir")
STORAGE = "storage"  # in the working folder, where nothing else is said


def directories_file() -> Path | None:
    """Return the `directories.txt` in force, or None where there is none and `storage` holds everything."""
    named = os.environ.get("DIRECTORIES")
    if named:
        return expanded(named, "$DIRECTORIES")
    here = Path("directories.txt")
    return here.resolve() if here.exists() and not os.environ.get("LINEARIZED_STORAGE") else None


def storage() -> Path:
    """Return the folder that holds one subfolder per key where no `directories.txt` is in force."""
    named = os.environ.get("LINEARIZED_STORAGE")
    return expanded(named, "$LINEARIZED_STORAGE") if named else Path(STORAGE).resolve()


def directory(key: str) -> Path:
    """Return the folder that `key` stands for; it need not exist yet.

    Raises `UserError` if a file that $DIRECTORIES names is missing, and if a file is not UTF-8, has a line that cannot
    be understood or has no line for `key`; the message names the line to correct or to add.
    """
    path = directories_file()
    if path is None:
        return storage() / key.removesuffix("_dir")
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
