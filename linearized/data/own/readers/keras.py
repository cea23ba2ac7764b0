"""Reader of Keras' data sets by name (`--data=keras:mnist`), from the cache into which Keras downloads them.

The files are read directly, so that no framework is imported; Keras downloads missing ones. Data sets of images keep
their train and test parts. The test rows of the two housing sets are not those that Keras draws with a fixed seed: all
rows are split at random into train and test rows, reproducibly for a `--seed`.
"""

from collections.abc import Callable
from pathlib import Path

from linearized.base.errors import UserError
from linearized.data.own.arrays import OwnArrays, from_names
from linearized.data.own.readers.fetched import Fetched
from linearized.data.source import Raw, RawFiles
from linearized.data.sources import cifar10, cifar100, fmnist, keras_cache
from linearized.storage.array_files import read_npz

ADVICE = "Remove it, and it is downloaded again."


class Keras(Fetched):
    """Reader of Keras' data sets, `--data=keras:NAME`, whose names are the keys of `READERS`."""

    scheme = "keras"

    def fetch(self, name: str) -> OwnArrays:
        """Return the arrays of the data set `keras.datasets.<name>`, which is downloaded if it is not in Keras' cache.

        Raises `UserError` for a name that is not in `READERS`, and for files that are damaged or cannot be downloaded.
        """
        if name not in READERS:
            raise UserError(f"Unknown data set keras:{name}. The choices are: {', '.join(READERS)}.")
        return READERS[name](name)


def _npz(name: str) -> OwnArrays:
    """Return the arrays of a data set that Keras' cache holds as `<name>.npz`; download it if it is missing."""
    return from_names(read_npz(_cached(name, f"{name}.npz"), ADVICE, compressed=True), f"keras:{name}")


def _published(files: RawFiles, file: str, classes: tuple[str, ...]) -> Callable[[str], OwnArrays]:
    def read(name: str) -> OwnArrays:
        return _images(files.read(_sought(name, lambda folder: files.find(folder).place, file)), classes)

    return read


def _images(raw: Raw, classes: tuple[str, ...]) -> OwnArrays:
    return OwnArrays(raw.train, raw.train_labels, raw.test, raw.test_labels, images=True, class_names=classes)


def _cifar100(name: str) -> OwnArrays:
    """Return CIFAR-100 with its 100 fine classes from Keras' cache; download it if it is missing.

    Args:
        name: Name of the data set in `keras.datasets`, "cifar100".
    """
    train = _cached(name, f"{cifar100.FOLDER}-target/{cifar100.FOLDER}/train", f"{cifar100.FOLDER}/train")
    return _images(*cifar100.read(train.parent, ADVICE))


def _cached(name: str, *places: str) -> Path:
    """Return the path of a file in Keras' cache; if there is none, download the data set.

    Args:
        name: Name of the data set in `keras.datasets`.
        *places: Possible paths of the file within the cache; the first one that exists is returned.

    Raises `UserError` if the download fails.
    """

    def look(folder: Path) -> Path | None:
        return next((folder / place for place in places if (folder / place).is_file()), None)

    return _sought(name, look, places[0])


def _sought(name: str, look: Callable[[Path], Path | None], file: str) -> Path:
    """Return the path of a data set in Keras' cache; if it is not found, download the data set and look again.

    Args:
        name: Name of the data set in `keras.datasets`.
        look: Function that returns the path of the data set in a folder, or None.
        file: The file that Keras stores there, for the error message.

    Raises `UserError` if the download fails.
    """
    for downloaded in (False, True):
        for folder in keras_cache.folders():
            if place := look(folder):
                return place
        if not downloaded:
            try:
                keras_cache.download(name)
            except UserError as error:
                where = keras_cache.folders()[0]
                raise UserError(f"{error} Put {file} into {where}, or try again with a network.") from error
    raise UserError(f"Keras downloaded {name}, but {file} is not in {keras_cache.folders()[0]}.")


READERS: dict[str, Callable[[str], OwnArrays]] = {
    "mnist": _npz,
    "fashion_mnist": _published(fmnist.FashionFiles(), "fashion-mnist/", fmnist.CLASSES),
    "cifar10": _published(cifar10.CifarFiles(), "cifar-10-batches-py/", cifar10.CLASSES),
    "cifar100": _cifar100,
    "california_housing": _npz,
    "boston_housing": _npz,
}
KERAS = Keras()
