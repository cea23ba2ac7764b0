"""Reader of the idx format of MNIST, Fashion-MNIST, KMNIST and EMNIST, gzipped or not.

`--data` is one of the following:

- a folder with the four files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
  t10k-labels-idx1-ubyte. "test" may replace "t10k", the test files may be missing, and all names may share a prefix
  such as emnist-letters-;
- a folder with such a folder below it, as torchvision makes it (`linearized.data.own.readers.roots`);
- the paths of the files, separated by commas: images,labels or images,labels,test_images,test_labels.

EMNIST stores its images transposed; they are read unchanged.
"""

import re
from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import opened
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import FileFormat, file_digest
from linearized.data.own.readers.roots import place_of
from linearized.data.own.unpacked import unpacked
from linearized.settings.own_settings import OwnDataSettings
from linearized.storage.array_files import GZIP, IDX_LIMIT, read_idx

ADVICE = "Replace it."
_FILE = re.compile(r"(?P<prefix>.*?)(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?")
_NAMED = re.compile(r".*[-.]idx([13]?-ubyte)?(\.gz)?")
ORDER = (("train", "images"), ("train", "labels"), ("test", "images"), ("test", "labels"))


class Idx(FileFormat):
    """Reader of files in idx format: bytes that follow a header with the shape of the array."""

    kind, advice, limit = "an idx file", ADVICE, IDX_LIMIT

    def fits(self, text: str) -> bool:
        """Return whether `text` is a folder with idx files, or paths of idx files separated by commas."""
        if Path(text).is_dir():
            return place_of(Path(text), _holds_some) is not None
        return all(_NAMED.fullmatch(Path(one).name.lower()) for one in text.split(","))

    def paths(self, text: str) -> list[Path]:
        """Return the files that `text` names: train images and labels, then test images and labels if they exist.

        Raises `UserError` for a folder with missing files or two sets of them, and unless there are two or four files.
        """
        return paths_of(text)

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the images and labels in the files.

        Images are memory maps of the file, or of its unpacked copy (`linearized.data.own.unpacked`).

        Args:
            text: Value of --data: a folder, or two or four paths of files, separated by commas.
            options: Not used.

        Raises `UserError` for missing or damaged files, for images that do not have three or four axes, and unless
        there is one label per image.
        """
        paths = paths_of(text)
        arrays = [_images(path) if place % 2 == 0 else read_idx(path, ADVICE) for place, path in enumerate(paths)]
        for images, labels, path in zip(arrays[::2], arrays[1::2], paths[::2], strict=True):
            if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
                raise UserError(f"{path}: expected images (n, height, width) and one label per image. Received: arrays "
                                f"of {images.shape} and {labels.shape}. Give images,labels in this order.")  # fmt: skip
        return OwnArrays(*arrays, images=True)


def _images(path: Path) -> np.ndarray:
    """Return the images in an idx file, as a memory map if it is not gzipped or was unpacked before."""
    with opened(path, "an idx file", ADVICE, limit=IDX_LIMIT) as file:
        zipped = file.read(2) == GZIP
    if not zipped:
        return read_idx(path, ADVICE, mapped=True)
    return unpacked(file_digest(path, "an idx file", ADVICE, IDX_LIMIT), lambda: read_idx(path, ADVICE))


def paths_of(text: str) -> list[Path]:
    """Return the files that a value of --data names: train images and labels, then test images and labels if any.

    Args:
        text: A folder, or two or four paths of files, separated by commas.

    Raises `UserError` for a folder without the two train files, with only one of the test files or with two sets of
    files, and for any number of named files except two and four.
    """
    if not Path(text).is_dir():
        paths = [Path(one) for one in text.split(",")]
        if len(paths) not in (2, 4):
            raise UserError(f"idx files come in pairs: --data=images,labels or images,labels,test_images,test_labels, "
                            f"or their folder. Received: {len(paths)}.")  # fmt: skip
        return paths
    found = _in_folder(place_of(Path(text), _holds_some) or Path(text))
    sets = sorted({prefix for prefix, _split, _what in found})
    if len(sets) > 1:
        listed = ", ".join(one or "no prefix" for one in sets[:8])
        raise UserError(f"{text} holds several sets of idx files ({listed}). "
                        "Name the files: --data=images,labels,test_images,test_labels.")  # fmt: skip
    missing = [f"{split}-{what}" for split, what in ORDER if (sets[0], split, what) not in found]
    if missing and missing != ["test-images", "test-labels"]:
        raise UserError(f"{text} lacks the idx files {', '.join(missing)}. Add them, or name the files with commas.")
    return [found[sets[0], split, what] for split, what in ORDER if (sets[0], split, what) in found]


def _holds_some(folder: Path) -> bool:
    return bool(_in_folder(folder))


def _in_folder(folder: Path) -> dict[tuple[str, str, str], Path]:
    """Find the idx files in a folder; a file that is not gzipped is preferred to its gzipped copy.

    Returns: The path for each prefix such as "emnist-letters-", part ("train" or "test") and content ("images" or
        "labels").
    """
    found: dict[tuple[str, str, str], Path] = {}
    try:
        entries = sorted(folder.iterdir())
        paths = [path / path.name if path.is_dir() else path for path in entries]  # some unzip into one folder each
        paths = [path for path in paths if path.is_file()]
    except OSError:
        return {}
    for path in paths:
        if match := _FILE.fullmatch(path.name):
            split = "train" if match["split"] == "train" else "test"
            found.setdefault((match["prefix"], split, match["what"]), path)
    return found


IDX = Idx()
