"""Readers of CIFAR-10, CIFAR-100 and SVHN by path, in the layouts in which they are distributed.

CIFAR-10 is a folder or a tar archive of its Python, binary or Matlab version (`linearized.data.sources.cifar10`), and
CIFAR-100 of its Python version; the folder may also be the parent of theirs, such as torchvision's `root`. SVHN is a
folder with train_32x32.mat and test_32x32.mat, whose arrays are X (32, 32, 3, n) and y (n, 1); its class 10 is the
digit 0.
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
    """Reader of the batches of CIFAR-10, in any of its versions."""

    kind, advice, limit = "a batch", ADVICE, FILE_LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the text is a folder that holds a batch, or an archive by its name; see `Reader`."""
        return place_of(Path(text), _holds_batches) is not None or _is_archive(text, "cifar-10-")

    def paths(self, text: str) -> list[Path]:
        """Return the archive, or the files of the batches."""
        place = self.place(text)
        return [place] if place.is_file() else sorted(batches(place).values())

    def place(self, text: str) -> Path:
        """Return the archive, or the folder of the batches."""
        return place_of(Path(text), _holds_batches) or Path(text)

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Read the batches, see `Reader`."""
        raw = CifarFiles().read(self.place(text))
        return OwnArrays(raw.train, raw.train_labels, raw.test, raw.test_labels, images=True, class_names=CLASSES)


class Cifar100(FileFormat):
    """Reader of CIFAR-100's train, test and meta files, with its fine classes."""

    kind, advice, limit = "a pickle of CIFAR-100", ADVICE, FILE_LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the text is a folder that holds the three files, or an archive by its name; see `Reader`."""
        return place_of(Path(text), _holds_hundred) is not None or _is_archive(text, "cifar-100-")

    def paths(self, text: str) -> list[Path]:
        """Return the archive, or the three files."""
        place = self.place(text)
        return [place] if place.is_file() else [place / name for name in cifar100.FILES]

    def place(self, text: str) -> Path:
        """Return the archive, or the folder of the files."""
        return place_of(Path(text), _holds_hundred) or Path(text)

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Read the files, see `Reader`."""
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
    """Reader of the cropped digits of SVHN."""

    kind, advice, limit = "a Matlab file", ADVICE, LIMIT

    def fits(self, text: str) -> bool:
        """Return whether the text is a folder with one of SVHN's files, see `Reader`."""
        return any((Path(text) / name).is_file() for name in SVHN_FILES)

    def paths(self, text: str) -> list[Path]:
        """Return the train and the test file."""
        return [Path(text) / name for name in SVHN_FILES]

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Read both files, see `Reader`."""
        train, test = map(_svhn, self.paths(text))
        return OwnArrays(*train, *test, images=True)


def _svhn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and their digits 0..9."""
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
