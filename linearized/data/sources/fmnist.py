"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 train and 10,000 test images of ten kinds of clothes.

The images are grey, 28x28 pixels, and under the MIT licence. In FMNIST, noise is added to high frequencies; in NFMNIST,
noise replaces low frequencies. The files are in MNIST's idx format, gzipped or not.
"""

import functools
import hashlib
import re
from pathlib import Path

from absl import logging

from linearized.base.errors import UserError
from linearized.base.reading import read_bytes
from linearized.data.source import STRENGTHS, THRESHOLDS_28, Found, ImageSource, Raw
from linearized.data.sources import keras_cache
from linearized.storage.array_files import read_idx

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = tuple(
    f"{kind}-{what}-ubyte.gz" for kind in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)  # in the order of `Raw`
SUBFOLDERS = ("fashion-mnist", "FashionMNIST/raw", "fashion_mnist", "FashionMNIST", "")  # the second is torchvision's
NAMES = ("fashionmnist", "fmnist")  # of further folders, in lower case and without other characters than letters
INSIDE = ("", "raw", "FashionMNIST/raw", "data/fashion")  # subfolders; the last is that of the authors' repository
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
ADVICE = "Remove it and fetch it again."


def variants(name: str) -> list[str]:
    """Return the names under which one of the four files of Fashion-MNIST is usually stored.

    The file may be gzipped or not, have a dot in place of the hyphen before idx, or lie in a folder of the same name.

    Args:
        name: One of `FILES`, such as "train-images-idx3-ubyte.gz".
    """
    plain = name.removesuffix(".gz")
    names = [plain, plain.replace("-idx", ".idx")]
    return [*(f"{one}.gz" for one in names), *names, *(f"{one}/{one}" for one in names)]


def located(folder: Path) -> list[Path] | None:
    """Return the paths of the four files of Fashion-MNIST in a folder, or None if one of them is missing.

    The order is: train images, train labels, test images, test labels. Each may have one of several usual names, such
    as without .gz.
    """
    found = [
        next((path for path in (folder / one for one in variants(name)) if path.is_file()), None) for name in FILES
    ]
    return None if None in found else found


def looks_like(directory: Path) -> list[Path]:
    """Return the subfolders of a folder whose names start with FashionMNIST or FMNIST.

    Case, and characters that are not letters, are ignored.
    """
    try:
        folders = sorted(path for path in directory.iterdir() if path.is_dir())
    except OSError:  # the folder does not exist or is not readable
        return []
    return [path for path in folders if re.sub("[^a-z]+", "", path.name.casefold()).startswith(NAMES)]


@functools.lru_cache
def _log_other_copy(place: Path, ours: tuple[Path, ...]) -> None:
    """Warn, once per process, that a copy elsewhere is read although folders in data_dir look like Fashion-MNIST.

    Args:
        place: Folder that is read.
        ours: Folders that look like the data set but lack some of its files.
    """
    logging.warning("Fashion-MNIST is read from %s, because %s lacks one of %s.", place,
                    " and ".join(map(str, ours)), ", ".join(FILES))  # fmt: skip


class FashionFiles:
    """Raw files of Fashion-MNIST, four idx files, in one of the folders where they are usually found (`RawFiles`)."""

    def folders(self, directory: Path) -> list[Path]:
        """Return the folders in which the files are sought, in this order.

        Args:
            directory: Folder of raw data, whose subfolders come first; then come the folders of Debian's package
                and of Keras' cache.
        """
        places = [directory / folder for folder in SUBFOLDERS]
        more = [folder / inside for folder in looks_like(directory) for inside in INSIDE]
        places = list(dict.fromkeys([*places, *more]))
        return [*places, DEBIAN_FOLDER, *(folder / "fashion-mnist" for folder in keras_cache.folders())]

    def find(self, directory: Path) -> Found:
        """Find the first folder with the four files, without reading them.

        Args:
            directory: Folder of raw data, where the search begins.
        """
        folders = self.folders(directory)
        place = next((folder for folder in folders if located(folder)), None)
        ours = looks_like(directory)
        if ours and place is not None and not place.is_relative_to(directory):
            _log_other_copy(place, tuple(ours))
        how = (
            "Get it with: apt-get install dataset-fashion-mnist, or linearized data --fetch FMNIST, "
            f"or put {', '.join(FILES)} (unzipped, if you like) into {folders[0]}."
        )
        return Found(place, [str(folder) for folder in folders], how)

    def fetch(self, directory: Path) -> Path:
        """Download the files by Keras into its cache, and return the folder that holds them.

        Args:
            directory: Folder of raw data, which is searched again after the download.

        Raises `UserError` if the download fails.
        """
        return keras_cache.fetched(self, "Fashion-MNIST", "fashion_mnist", directory)

    def digest(self, place: Path) -> str:
        """Return the digest of the bytes of the four files in the folder `place`."""
        digest = hashlib.blake2b(digest_size=16)
        for path in _files(place):
            digest.update(read_bytes(path, "an idx file", ADVICE))
        return digest.hexdigest()

    def read(self, place: Path) -> Raw:
        """Read and check the four files.

        Args:
            place: Folder of the files.

        Raises `UserError` for files that are missing or damaged, or hold arrays of other shapes.
        """
        paths = _files(place)
        arrays = [read_idx(path, ADVICE) for path in paths]
        for images, labels, path in zip(arrays[::2], arrays[1::2], paths[::2], strict=True):
            if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
                raise UserError(
                    f"{path}: expected images of (28, 28), a label each. Received: images {images.shape}, "
                    f"labels {labels.shape}. Fetch the files again."
                )
        return Raw(arrays[0][..., None], arrays[1], arrays[2][..., None], arrays[3])


def _files(place: Path) -> list[Path]:
    paths = located(place)
    if paths is None:
        raise UserError(f"{place} lacks one of {', '.join(FILES)}. Fetch the files again.")
    return paths


_COMMON = {"task": "classes", "num_classes": 10, "image_shape": (28, 28, 1), "family": "FMNIST", "raw": FashionFiles()}

FMNIST = ImageSource(
    name="FMNIST",
    title="Fashion-MNIST, noise in high frequencies",
    noise_name="τ",
    noise_levels=STRENGTHS,
    noise="high_frequency",
    **_COMMON,
)
NFMNIST = ImageSource(
    name="NFMNIST",
    title="Fashion-MNIST, low frequencies replaced by noise",
    noise_name="threshold",
    level_word="noise",
    noise_levels=THRESHOLDS_28,
    noise="low_frequency",
    **_COMMON,
)
