"""Functions that decide whether the folders in a folder of pictures are splits (train, validation, test) or classes.

The folders are either all splits or all classes, and depending on their names and contents the first of these rules
applies:

1. The folders are splits if every name refers to a split, no two names refer to the same split, and one refers to
   train. Examples are train and test, Train Images and Eval Images, traindata and testdata, 1_train and 2_val.
2. There is an error if a name is in `SPLIT_NAMES` (ignoring case). Rule 1 then fails for one of three reasons: no name
   refers to train, two names refer to the same split, or another name does not refer to a split.
3. There is an error if each name combines a split and a class: trainA, trainB, testA, testB.
4. There is an error if the folders look like splits by their contents: there are at least two, none of them directly
   contains pictures, and at least two names of subfolders (the classes) occur in all of them. The test is repeated with
   only those folders whose names refer to a split.
5. Otherwise the folders are classes.
"""

import re
import unicodedata
from pathlib import Path

from linearized.base.errors import UserError
from linearized.data.images import SUFFIXES

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLIT_WORDS = SPLIT_NAMES | dict.fromkeys(("eval", "evaluation"), "validation")  # the additional ones only with others
FILLERS = ("data", "dataset", "set", "images", "image", "imgs", "img", "pictures", "pics", "photos")
SYSTEM_NAMES = ("__macosx", "@eadir", "$recycle.bin", "lost+found")  # made by operating systems, in lower case
_SPLIT = re.compile(rf"(?P<before>.*?)(?P<split>{'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))})(?P<after>.*)")
SHARED = 2  # least number of folder names in all folders for these to be splits
LISTED = 12  # maximum of names in an error


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each existing split ("train", "validation", "test") in a folder of pictures, by name.

    If the folders in it are classes, return {"train": folder}.

    Args:
        folder: The folder of pictures.

    Raises `UserError` if `folder` is not a folder, and if the folders in it are refused by the rules of this module.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Give one with a folder of pictures for each class.")
    names = folders(folder)
    kinds = {name: split_of(name) for name in names}
    if None not in kinds.values() and len(set(kinds.values())) == len(names) and "train" in kinds.values():
        return {kind: folder / name for name, kind in kinds.items()}
    exact = [name for name in names if name.casefold() in SPLIT_NAMES]
    if not exact:
        if names and _times_classes(names):
            raise _refused(folder, f"{_list(names)}, which are splits and classes in one name",
                           "Move them, such as trainA to train/A.")  # fmt: skip
        speaking = [name for name in names if kinds[name]]
        if not _share_classes(folder, names) and not _share_classes(folder, speaking):
            return {"train": folder}
    unknown = [name for name in names if kinds[name] is None or (exact and name not in exact)]
    if unknown:
        known = exact or [name for name in names if name not in unknown]
        beside = f" beside {_list(known)}" if known else ""
        why = "" if exact else ", which share their folders and so are splits"
        raise _refused(folder, f"{_list(unknown)}{beside}{why}",
                       "Rename the folders, or move those that do not belong here.")  # fmt: skip
    found: dict[str, Path] = {}
    for name, kind in kinds.items():
        if kind in found:
            raise _refused(folder, f"both {found[kind].name} and {name}, which mean the same", "Keep one of them.")
        found[kind] = folder / name
    raise _refused(folder, f"{_list(names)} and no train folder", "Rename or add it.")


def split_of(name: str) -> str | None:
    """Return the split, such as "train", to which a word of a folder's name refers; None for no split or several."""
    words = set(re.split(r"[^a-z]+", name.casefold()))
    camel = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())
    plain = words | {word.removesuffix("set") for word in words}
    every = plain | {bare for word in (*words, *camel) for bare in (word, _bare(word))}
    for among, known in ((plain, SPLIT_NAMES), (every, SPLIT_WORDS)):
        kinds = {known[word] for word in among if word in known}
        if len(kinds) == 1:
            return kinds.pop()
    return None


def folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, except hidden folders and folders of operating systems."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not hidden(path.name))


def hidden(name: str) -> bool:
    """Return whether a file or folder of this name is ignored: it begins with "." or is one of `SYSTEM_NAMES`."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def _bare(word: str) -> str:
    """Return a word of a folder's name without a word such as "data" (`FILLERS`) at its end or its beginning."""
    for filler in sorted(FILLERS, key=len, reverse=True):
        if word != filler and (word.endswith(filler) or word.startswith(filler)):
            return word.removesuffix(filler) if word.endswith(filler) else word.removeprefix(filler)
    return word


def _times_classes(names: list[str]) -> bool:
    """Return whether each name combines a split with a class, such as trainA, trainB, testA and testB.

    There are at least two splits, and each of them is combined with the same classes, at least two.
    """
    rests: dict[str, set[str]] = {}
    for name in names:
        match = _SPLIT.fullmatch(name.casefold())
        if not match:
            return False
        rest = re.sub(r"[\W_]+", "", match["before"] + match["after"])
        rests.setdefault(SPLIT_WORDS[match["split"]], set()).add(rest)
    first, *others = rests.values()
    return bool(others) and len(first) > 1 and all(rest == first for rest in others)


def _share_classes(folder: Path, names: list[str]) -> bool:
    """Return whether the folders in a folder look like splits, because they hold folders of the same names.

    The result is true if there are at least two folders, none of them directly holds pictures, and at least `SHARED`
    names of subfolders occur in all of them.

    Args:
        folder: The folder of pictures.
        names: Names of the folders in it to compare.
    """
    if len(names) < 2:
        return False
    shared: set[str] | None = None
    for name in names:
        inner = {unicodedata.normalize("NFC", one).casefold() for one in folders(folder / name)}
        shared = inner if shared is None else shared & inner
        if len(shared) < SHARED:
            return False
    files = (path for name in names for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
    return not any(path.is_file() and not hidden(path.name) for path in files)


def _list(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _refused(folder: Path, what: str, advice: str) -> UserError:
    return UserError(f"{folder} has {what}. Splits are called {', '.join(SPLIT_WORDS)}. {advice}")
