"""CIFAR-10 and SVHN by path, in the layouts that they are distributed in.

CIFAR-10 is a folder or a tar archive of its Python, binary or Matlab version (`linearized.data.sources.cifar10`). SVHN
is a folder with train_32x32.mat and test_32x32.mat, whose arrays are X (32, 32, 3, n) and y (n, 1); its class 10 is the
digit 0.
"""

from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import parsing, read_bytes
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import FileFormat
from linearized.data.sources.cifar10 import CLASSES, FILE_LIMIT, CifarFiles, batches
from linearized.settings.own_settings import OwnDataSettings

SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ADVICE = "Replace it."
LIMIT = 2**31  # bytes of a .mat file; SVHN's largest has 2**28


class Cifar10(FileFormat):
    """The batches of CIFAR-10, any of its versions."""

    kind, advice, limit = "a batch", ADVICE, FILE_LIMIT

    def fits(self, text: str) -> bool:
        """See `Reader`: a folder that holds a batch, or an archive by its name."""
        path = Path(text)
        if path.is_dir():
            return bool(batches(path))
        name = path.name.lower()
        return name.startswith("cifar-10-") and name.endswith(ARCHIVES) and path.is_file()

    def paths(self, text: str) -> list[Path]:
        """As `FileFormat.paths`."""
        path = Path(text)
        return [path] if path.is_file() else sorted(batches(path).values())

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """See `Reader`."""
        raw = CifarFiles().read(Path(text))
        return OwnArrays(raw.train, raw.train_labels, raw.test, raw.test_labels, images=True, class_names=CLASSES)


class Svhn(FileFormat):
    """The cropped digits of SVHN."""

    kind, advice, limit = "a Matlab file", ADVICE, LIMIT

    def fits(self, text: str) -> bool:
        """See `Reader`."""
        return any((Path(text) / name).is_file() for name in SVHN_FILES)

    def paths(self, text: str) -> list[Path]:
        """As `FileFormat.paths`."""
        return [Path(text) / name for name in SVHN_FILES]

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """See `Reader`."""
        train, test = map(_svhn, self.paths(text))
        return OwnArrays(*train, *test, images=True)


def _svhn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) and the digits 0..9 that they show."""
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


CIFAR10, SVHN = Cifar10(), Svhn()
