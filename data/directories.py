"""Where things lie on disk: `directories.txt`, a `key path` a line.

The file named by $DIRECTORIES is read, else ./directories.txt, else the repository's own. Relative paths count from
the folder of the file; `~` and $VARIABLES are expanded.
"""

import os
from pathlib import Path

from data.errors import UserError

KEYS = ("data_dir", "ntk_dir", "cntk_dir", "rf_dir", "synth_dir", "rkhs_dir", "nn_dir")


def directories_file() -> Path:
    """The `directories.txt` in force."""
    named = os.environ.get("DIRECTORIES")
    if named:
        return Path(named).expanduser()
    here = Path("directories.txt")
    return here.resolve() if here.is_file() else Path(__file__).resolve().parent.parent / "directories.txt"


def directory(key: str) -> Path:
    """The folder that `key` stands for (it need not exist yet).

    Raises `UserError` if the file or the key is missing, and says which line to add where.
    """
    path = directories_file()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error.strerror}. It holds lines of `key path` for {', '.join(KEYS)}."
        ) from error
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split(maxsplit=1)
        if not words:
            continue
        if len(words) != 2 or words[0] not in KEYS:
            raise UserError(
                f"{path}, line {number}: expected `key path` with a key of {', '.join(KEYS)}. Received: {line!r}."
            )
        if words[0] == key:
            return path.parent / Path(os.path.expandvars(words[1].strip())).expanduser()
    raise UserError(f"{path} has no line for {key}. Add one such as: {key} storage/{key.removesuffix('_dir')}")
