"""Readers of CIFAR-10, CIFAR-100 and SVHN from the files in which they are distributed.

`--data` is the path of one of the following:

- for CIFAR-10, a folder or a tar archive of the Python, binary or Matlab version (`linearized.data.sources.cifar10`);
- for CIFAR-100, a folder or a tar archive of the Python version;
- for both, a folder that contains such a folder under its usual name, such as torchvision's `root`;
- for SVHN, a folder with train_32x32.mat and test_32x32.mat, whose arrays are X (32, 32, 3, n) and y (n, 1); class 10
  of y is the digit 0.
"""

from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import parsing, read_bytes
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import FileFormat
from linearized.data.own.readers.roots import place_of
from linearized.data.sources import cifar100
from linearized.data.sources.cifar10 import CLASSES, FILE_LIMIT, CifarFiles, batches
from linearized.settings.own_settings import OwnDataSettings

SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ADVICE = "Replace it."
LIMIT = 2**31  # bytes of a .mat file; SVHN's largest has 2**28


class Cifar10(FileFormat):
    """Reader of CIFAR-10 in any of its versions, whose images are stored in several files called batches."""

    kind, advice, limit = "a batch", ADVICE, FILE_LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the path `text` is a folder with a batch, a parent of such a folder, or an archive.

        A batch is a file with a part of the images. The name of an archive starts with cifar-10-.
        """
        return place_of(Path(text), _holds_batches) is not None or _is_archive(text, "cifar-10-")

    def paths(self, text: str) -> list[Path]:
        """Return the files of images (batches) in the folder `text`, or the archive `text` itself."""
        place = self.place(text)
        return [place] if place.is_file() else sorted(batches(place).values())

    def place(self, text: str) -> Path:
        """Return the folder that holds the batches (`text` or a folder below it), or the archive `text` itself.

        Raises `UserError` if there are several well-known data sets below `text`.
        """
        return place_of(Path(text), _holds_batches) or Path(text)

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the images of CIFAR-10 (n, 32, 32, 3), as bytes, and their labels.

        Args:
            text: Path of the folder or archive, the value of --data.
            options: Not used.

        Raises `UserError` for missing or damaged batches.
        """
        raw = CifarFiles().read(self.place(text))
        return OwnArrays(raw.train, raw.train_labels, raw.test, raw.test_labels, images=True, class_names=CLASSES)


class Cifar100(FileFormat):
    """Reader of CIFAR-100 in its Python version, the files train, test and meta, with its 100 fine classes."""

    kind, advice, limit = "a pickle of CIFAR-100", ADVICE, FILE_LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the path `text` is a folder of CIFAR-100, a parent of such a folder, or an archive.

        A folder of CIFAR-100 contains the files train, test and meta, or is called cifar-100-python and contains one of
        these. The name of an archive starts with cifar-100-.
        """
        return place_of(Path(text), _holds_hundred) is not None or _is_archive(text, "cifar-100-")

    def paths(self, text: str) -> list[Path]:
        """Return the three files in the folder `text`, or the archive `text` itself."""
        place = self.place(text)
        return [place] if place.is_file() else [place / name for name in cifar100.FILES]

    def place(self, text: str) -> Path:
        """Return the folder that holds the three files (`text` or a folder below it), or the archive `text` itself.

        Raises `UserError` if there are several well-known data sets below `text`.
        """
        return place_of(Path(text), _holds_hundred) or Path(text)

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the images of CIFAR-100 (n, 32, 32, 3), as bytes, and the numbers of their fine classes.

        Args:
            text: Path of the folder or archive, the value of --data.
            options: Not used.

        Raises `UserError` for missing or damaged files.
        """
        raw, names = cifar100.read(self.place(text), ADVICE)
        return OwnArrays(raw.train, raw.train_labels, raw.test, raw.test_labels, images=True, class_names=names)


def _is_archive(text: str, prefix: str) -> bool:
    name = Path(text).name.lower()
    return name.startswith(prefix) and name.endswith(ARCHIVES) and Path(text).is_file()


def _holds_batches(folder: Path) -> bool:
    return bool(batches(folder))


def _holds_hundred(folder: Path) -> bool:
    there = [(folder / name).is_file() for name in cifar100.FILES]
    return all(there) or (folder.name == cifar100.FOLDER and any(there))


class Svhn(FileFormat):
    """Reader of SVHN's images of single digits, 32x32 in colour, from two Matlab files."""

    kind, advice, limit = "a Matlab file", ADVICE, LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the path `text` is a folder with train_32x32.mat or test_32x32.mat."""
        return any((Path(text) / name).is_file() for name in SVHN_FILES)

    def paths(self, text: str) -> list[Path]:
        """Return the paths of the train and of the test file in the folder `text`."""
        return [Path(text) / name for name in SVHN_FILES]

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the images of SVHN (n, 32, 32, 3), as bytes, and their digits 0..9 as labels.

        Args:
            text: Path of the folder, the value of --data.
            options: Not used.

        Raises `UserError` for missing or damaged files.
        """
        train, test = map(_svhn, self.paths(text))
        return OwnArrays(*train, *test, images=True)


def _svhn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (n, 32, 32, 3) and their digits 0..9 in one of SVHN's Matlab files.

    Raises `UserError` for a file that is missing, damaged or holds other arrays.
    """
    import io

    from scipy.io import loadmat

    content = read_bytes(path, "a Matlab file", ADVICE, limit=LIMIT)
    with parsing(path, "a Matlab file", ADVICE):
        values = loadmat(io.BytesIO(content), variable_names=("X", "y"))
        images, labels = np.moveaxis(values["X"], -1, 0), values["y"].ravel().astype(np.int64)
    if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise UserError(f"{path}: expected X as uint8 of shape (32, 32, 3, n) and y of shape (n, 1). Received: "
                        f"{values['X'].dtype} {values['X'].shape} and {values['y'].shape}. {ADVICE}")  # fmt: skip
    return np.ascontiguousarray(images), labels % 10


CIFAR10, CIFAR100, SVHN = Cifar10(), Cifar100(), Svhn()
