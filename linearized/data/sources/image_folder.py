"""Reader of a folder of pictures: train/<class>/<file> and test/<class>/<file>, or <class>/<file> alone.

Without test and validation folders the pictures are split at random into train and test rows, reproducibly for a seed.

`linearized.data.sources.split_folders` decides which of the folders at the top are splits (train, test) and which are
classes. Names that begin with "." and those in `SYSTEM_NAMES` are ignored everywhere. `linearized.data.images`
describes the conversion of pictures.
"""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.messages import log_once
from linearized.base.reading import Unreadable
from linearized.data.dataset import Dataset, Split, fingerprint
from linearized.data.images import MODES, SUFFIXES, read_image
from linearized.data.sources.split_folders import folders, hidden, split_folders

TEST_SHARE = 0.2  # fraction of test rows in a folder without a test part
SCALINGS = {"unit": (1 / 255, 0.0), "symmetric": (2 / 255, -1.0), "bytes": (1.0, 0.0)}
ADVICE = "Remove it or replace it, or give --skip_bad."
LISTED = 10  # maximum of names of skipped pictures in a record


class Pictures(NamedTuple):
    """The pictures of one split (train, validation or test) of a folder.

    Attributes:
        folder: Folder of the split.
        paths: Path of each picture.
        labels: Name of the class of each picture.
    """

    folder: Path
    paths: list[Path]
    labels: list[str]

    def take(self, rows: Sequence[int]) -> "Pictures":
        """Return some of the pictures, given by their indices, in the order of `rows`."""
        return Pictures(self.folder, [self.paths[row] for row in rows], [self.labels[row] for row in rows])


def load(
    folder: Path | str, image_shape: tuple[int, int, int], *, scaling: str = "unit", seed: int = 0,
    skip_bad: bool = False,
) -> Dataset:  # fmt: skip
    """Load the pictures of a folder as a `Dataset`, with classes numbered in the order of their folders' names.

    The classes are those of the train part; the test part may lack some of them. Without a test part, the validation
    part is used as the test part; without either, a fifth of the pictures is held out. With both, the validation part
    becomes the dataset's validation rows.

    Args:
        folder: The folder of pictures.
        image_shape: (height, width, channels) to which each picture is converted; see
            `linearized.data.images.read_image`.
        scaling: Range of the inputs: "unit" [0, 1], "symmetric" [-1, 1], or "bytes" 0..255.
        seed: Random-number seed of the held-out rows, if there is no test part.
        skip_bad: Whether files that are not pictures are left out, and listed in the dataset's notes.

    Raises `UserError` for a folder with fewer than two classes, for folders besides train and test that are not splits,
    for test classes that the train part lacks, for a file that is not a picture, and for a part without a readable
    picture.
    """
    if image_shape[2] not in MODES:
        raise UserError(f"Pictures have 1, 3 or 4 channels. Received: a model of {image_shape[2]}.")
    folder = Path(folder)
    parts, classes = found_pictures(folder)
    if "test" not in parts:
        parts["train"], parts["test"] = _held_out(parts["train"], seed)
    skipped: list[Path] | None = [] if skip_bad else None
    splits = {kind: _split(part, classes, image_shape, SCALINGS[scaling], skipped) for kind, part in parts.items()}
    logging.info("%s: %d classes, %s pictures.", folder, len(classes),
                 ", ".join(f"{len(split)} {kind}" for kind, split in splits.items()))  # fmt: skip
    mark = fingerprint(classes, *(array for split in splits.values() for array in (split.x, split.y)))
    return Dataset(folder.resolve().name, 0, splits["train"], splits.get("validation"), splits["test"], "classes",
                   len(classes), image_shape, "FMNIST", mark, notes=skipped_notes(skipped or [], folder))  # fmt: skip


def skipped_notes(skipped: Sequence[Path], folder: Path) -> dict[str, str | int]:
    """Return a dataset's notes on pictures that were left out: their number, and the first `LISTED` names.

    Args:
        skipped: Paths of the pictures.
        folder: Folder of the data set; names are relative to it.
    """
    if not skipped:
        return {}
    names, more = sorted(str(path.relative_to(folder)) for path in skipped), len(skipped) - LISTED
    listed = ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
    return {"pictures_skipped": len(names), "pictures_skipped_names": listed}


def found_pictures(folder: Path) -> tuple[dict[str, Pictures], list[str]]:
    """Find the pictures of a folder without opening them.

    A validation part without a test part becomes the test part.

    Args:
        folder: The folder of pictures.

    Returns: The pictures of each split ("train", perhaps "validation" and "test"), and the names of the classes.

    Raises `UserError` for a folder with fewer than two classes, for folders besides train and test that are not splits,
    for test classes that the train part lacks, and for a part without pictures.
    """
    parts = {kind: _pictures(path) for kind, path in split_folders(folder).items()}
    if "test" not in parts and "validation" in parts:
        log_once(logging.INFO, "%s has no test part: its validation part is scored as one.", folder)
        parts["test"] = parts.pop("validation")
    classes = sorted(set(parts["train"].labels))
    if len(classes) < 2:
        raise UserError(f"{parts['train'].folder} holds pictures of {len(classes)} classes; two are needed at least. "
                        f"Put {', '.join(SUFFIXES)} files into a folder for each class.")  # fmt: skip
    for part in parts.values():
        unknown = sorted(set(part.labels) - set(classes))
        if unknown:
            raise UserError(f"{part.folder} has classes that {parts['train'].folder} lacks: {', '.join(unknown)}.")
        if not part.paths:
            raise UserError(f"{part.folder} holds no picture in a folder of a class. Add some, or remove the folder.")
    return parts, classes


def _pictures(folder: Path) -> Pictures:
    """Return all pictures in the class folders of one split, `folder`; log the number of ignored files."""
    paths, labels, others = [], [], 0
    for name in folders(folder):
        for place, inside, files in os.walk(folder / name):
            inside[:] = sorted(inner for inner in inside if not hidden(inner))
            for file in sorted(file for file in files if not hidden(file)):
                if Path(file).suffix.lower() in SUFFIXES:
                    paths.append(Path(place) / file)
                    labels.append(unicodedata.normalize("NFC", name))  # file systems may write "é" in two ways
                else:
                    others += 1
    loose = sum(path.suffix.lower() in SUFFIXES and not hidden(path.name) for path in folder.iterdir())
    if loose or others:
        log_once(logging.WARNING, "%s: passed over %d pictures outside of class folders and %d files that are no "
                 "pictures (%s).", folder, loose, others, ", ".join(SUFFIXES))  # fmt: skip
    order = sorted(range(len(paths)), key=lambda row: (labels[row], paths[row].parts))
    return Pictures(folder, paths, labels).take(order)


def _held_out(pictures: Pictures, seed: int) -> tuple[Pictures, Pictures]:
    """Split pictures at random into train pictures and a fifth for testing; return both parts.

    Args:
        pictures: All pictures.
        seed: Random-number seed of the split.
    """
    order = np.random.default_rng(seed).permutation(len(pictures.paths)).tolist()
    cut = max(1, round(TEST_SHARE * len(order)))
    return pictures.take(order[cut:]), pictures.take(order[:cut])


def _split(
    pictures: Pictures, classes: list[str], shape: tuple[int, int, int], scale: tuple[float, float],
    skipped: list[Path] | None,
) -> Split:  # fmt: skip
    """Read the pictures of one split, and return them as rows with class numbers.

    Args:
        pictures: Pictures to read.
        classes: Names of the classes in the order of their numbers.
        shape: (height, width, channels) to which each picture is converted.
        scale: Factor and offset that are applied to pixels on the scale 0..255.
        skipped: List to which the paths of unreadable files are added; None refuses such files.

    Raises `UserError` if no picture can be read, and for an unreadable one if `skipped` is None.
    """
    x, labels = np.empty((len(pictures.paths), int(np.prod(shape))), np.float32), []
    for path, label in zip(pictures.paths, pictures.labels, strict=True):
        try:
            image = read_image(path, shape, ADVICE)
        except Unreadable:
            if skipped is None:
                raise
            skipped.append(path)
            continue
        x[len(labels)] = image.ravel() * np.float32(scale[0]) + np.float32(scale[1])
        labels.append([classes.index(label)])
    if not labels:
        raise UserError(f"None of the {len(pictures.paths)} files of {pictures.folder} can be read as a picture. "
                        "Replace them.")  # fmt: skip
    return Split(x[: len(labels)], np.array(labels, np.float32))
