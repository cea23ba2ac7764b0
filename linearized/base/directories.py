"""Folders of raw data and results, set by a file `directories.txt` or by an environment variable, else below ./storage.

Each folder has a key, such as data_dir for raw data (see `KEYS`). In order of precedence, the folders are:

1. those listed in the file named by $DIRECTORIES;
2. subfolders, one per key, of the folder named by $LINEARIZED_STORAGE;
3. those listed in ./directories.txt;
4. subfolders, one per key, of ./storage.

A file has one `key path` per line. Relative paths are relative to the folder of the file; `~` and $VARIABLES are
expanded.

Files that only save time and may be deleted (see `cache`) are in the folder $LINEARIZED_CACHE. If this variable is not
set, they are in the subfolder `linearized` of $XDG_CACHE_HOME, or of ~/.cache.
"""

import os
import tempfile
from pathlib import Path

from linearized.base.errors import UserError
from linearized.base.reading import expanded, read_lines

LIMIT = 2**20  # largest size of directories.txt in bytes
KEYS = ("data_dir", "ntk_dir", "cntk_dir", "rf_dir", "synth_dir", "rkhs_dir", "nn_dir")
STORAGE = "storage"  # default folder, in the working folder
WRITTEN = "written to "  # start of the line by which a command names the folder of its result


def directories_file() -> Path | None:
    """Return the path of the `directories.txt` in use, or None if all folders are below `storage()`."""
    named = os.environ.get("DIRECTORIES")
    if named:
        return expanded(named, "$DIRECTORIES")
    here = Path("directories.txt")
    return here.resolve() if here.exists() and not os.environ.get("LINEARIZED_STORAGE") else None


def storage() -> Path:
    """Return the folder named by $LINEARIZED_STORAGE, or ./storage if the variable is not set.

    If no `directories.txt` is in use, raw data, kernels and results each have a subfolder in this folder.
    """
    named = os.environ.get("LINEARIZED_STORAGE")
    return expanded(named, "$LINEARIZED_STORAGE") if named else Path(STORAGE).resolve()


def cache() -> Path:
    """Return the folder of small files that may be deleted at any time; it need not exist yet.

    Without a home folder, this folder is in the system's folder of temporary files.
    """
    if named := os.environ.get("LINEARIZED_CACHE"):
        return expanded(named, "$LINEARIZED_CACHE")
    if named := os.environ.get("XDG_CACHE_HOME"):
        return expanded(named, "$XDG_CACHE_HOME") / "linearized"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.expanduser raises without a home folder
    return (home / ".cache" if home.is_absolute() else Path(tempfile.gettempdir())) / "linearized"


def directory(key: str) -> Path:
    """Return the folder for a key of `KEYS`, such as "data_dir"; it need not exist yet.

    Raises `UserError` if the file named by $DIRECTORIES is missing, and if the file in use is not UTF-8, has a line
    that cannot be parsed, or has no line for `key`. The message states the line to correct or to add.
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
