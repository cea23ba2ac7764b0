"""CIFAR-10 (Krizhevsky 2009): 50,000 train and 10,000 test colour images, 32x32 pixels, of ten classes.

Noise replaces the low frequencies of the images. The data set is read from its Python, binary or Matlab version, in a
folder or in the distributed tar.gz. The Python version consists of pickles, which are read without executing any of
their code.
"""

import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.reading import opened, parsing, read_bytes
from linearized.data.source import THRESHOLDS_32, Found, ImageSource, Raw
from linearized.data.sources import keras_cache
from linearized.storage.pickles import read_pickle

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
FOLDERS = (FOLDER, "cifar-10-batches-bin", "cifar-10-batches-mat")
ARCHIVES = tuple(
    f"cifar-10-{version}.{suffix}" for version in ("python", "binary", "matlab") for suffix in ("tar.gz", "tgz", "tar")
)
NUM_BATCHES = 5
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ADVICE = "Remove it and fetch it again."
FILE_LIMIT = 2**30  # bytes of a batch or an archive; CIFAR-10's largest has 2**28
_BATCH = re.compile(r"(data_batch_[1-9]\d*|test_batch)(\.bin|\.mat|\.pkl|\.pickle|)")
_ROW = 3073  # bytes of an image of the binary version: its label, then its colour planes


class CifarFiles:
    """Raw files of CIFAR-10, `data_batch_1`, ..., `test_batch` in any version, in a folder or archive (`RawFiles`)."""

    name = "CIFAR-10"

    def sought(self, directory: Path) -> list[Path]:
        """Return the folders and archives in which the batches (files of images) are sought, in this order.

        Args:
            directory: Folder of raw data, whose subfolders come first; the folders of Keras' cache come last.
        """
        cached = [
            folder / place
            for folder in keras_cache.folders()
            for place in (f"{FOLDER}-target/{FOLDER}", FOLDER, f"{FOLDER}.tar.gz")  # of Keras 3 and older ones
        ]
        parents = (directory, directory / "cifar10")
        folders = [place for parent in parents for place in (*(parent / folder for folder in FOLDERS), parent)]
        return [*folders, *(parent / name for parent in parents for name in ARCHIVES), *cached]

    def find(self, directory: Path) -> Found:
        """Find the first folder or archive with batches, without reading them.

        Args:
            directory: Folder of raw data, where the search begins.
        """
        sought = self.sought(directory)
        place = next((path for path in sought if path.is_file() or "test_batch" in batches(path)), None)
        how = f"Get it with: linearized data --fetch CIFAR10, or put {FOLDER}/ or {ARCHIVE} into {directory}."
        return Found(place, [str(path) for path in sought], how)

    def fetch(self, directory: Path) -> Path:
        """Download the batches by Keras into its cache, and return the folder or archive that holds them.

        Args:
            directory: Folder of raw data, which is searched again after the download.

        Raises `UserError` if the download fails.
        """
        return keras_cache.fetched(self, self.name, "cifar10", directory)

    def digest(self, place: Path) -> str:
        """Return the digest of the names and bytes of the batches in `place`, a folder or an archive."""
        digest = hashlib.blake2b(digest_size=16)
        for path in [place] if place.is_file() else sorted(batches(place).values()):
            digest.update(path.name.encode())
            digest.update(read_bytes(path, "a batch", ADVICE, limit=FILE_LIMIT))
        return digest.hexdigest()

    def read(self, place: Path) -> Raw:
        """Read and check all batches.

        Args:
            place: Folder or archive of the batches.

        Raises `UserError` for missing or damaged batches.
        """
        files = _from_archive(place) if place.is_file() else _from_folder(place)
        numbers = sorted(int(name.removeprefix("data_batch_")) for name in files if name != "test_batch")
        if "test_batch" not in files or not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise UserError(
                f"{place}: expected data_batch_1, data_batch_2, ... and test_batch, none left out. "
                f"Received: {', '.join(sorted(files)) or 'nothing'}. Fetch it anew."
            )
        if len(numbers) < NUM_BATCHES:
            logging.warning("%s has %d of CIFAR-10's %d train batches.", place, len(numbers), NUM_BATCHES)
        train = [_batch(files[f"data_batch_{number}"], place) for number in numbers]
        test = _batch(files["test_batch"], place)
        return Raw(np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train]), *test)


def batches(folder: Path) -> dict[str, Path]:
    """Return the files of CIFAR-10's batches in a folder, by name without suffix, such as "test_batch".

    If a batch exists in two versions, the last one in the order of the file names is returned.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if _BATCH.fullmatch(path.name) and path.is_file())
    except OSError:  # the folder does not exist or is not readable
        return {}
    return {path.name.partition(".")[0]: path for path in paths}


class _File(NamedTuple):
    """The content of the file of one batch of CIFAR-10.

    Attributes:
        name: Name with suffix.
        content: Bytes of the file.
    """

    name: str
    content: bytes


def _from_folder(folder: Path) -> dict[str, _File]:
    return {
        name: _File(path.name, read_bytes(path, "a batch", ADVICE, limit=FILE_LIMIT))
        for name, path in batches(folder).items()
    }


def _from_archive(archive: Path) -> dict[str, _File]:
    """Return the content of CIFAR-10's batches in a tar archive, by name without suffix.

    The folder within the archive does not matter. Nothing is unpacked to the disk.
    """
    files = {}
    with (
        opened(archive, "a tar archive", ADVICE, limit=FILE_LIMIT) as file,
        tarfile.open(fileobj=file, mode="r:*") as tar,
    ):
        for member in tar:
            name = member.name.rpartition("/")[2]
            if member.isfile() and _BATCH.fullmatch(name):
                if member.size > FILE_LIMIT:
                    raise ValueError(f"{name} has {member.size:,} bytes")
                files[name.partition(".")[0]] = _File(name, tar.extractfile(member).read())
    return files


def _batch(file: _File, place: Path) -> tuple[np.ndarray, np.ndarray]:
    """Parse and check one batch; return its images (n, 32, 32, 3) and labels (n,).

    Args:
        file: Content of the batch.
        place: Folder or archive of the batch, for error messages.

    Raises `UserError` if the batch is damaged or has another format.
    """
    where = f"{place}/{file.name}"
    if file.name.endswith(".bin"):
        if not file.content or len(file.content) % _ROW:
            raise UserError(f"{where}: expected rows of {_ROW} bytes. Received: {len(file.content):,} bytes. {ADVICE}")
        rows = np.frombuffer(file.content, np.uint8).reshape(-1, _ROW)
        values = {"data": rows[:, 1:], "labels": rows[:, 0]}
    elif file.name.endswith(".mat"):
        from scipy.io import loadmat  # imported here, because it takes 0.1 s and this version is rare

        with parsing(where, "a Matlab file", ADVICE):
            values = loadmat(io.BytesIO(file.content), variable_names=("data", "labels"))
            values["labels"] = values["labels"].ravel()
    else:
        values = read_pickle(file.content, where)
    if isinstance(values, dict):
        values = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in values.items()}
    if not isinstance(values, dict) or not {"data", "labels"} <= set(values):
        raise UserError(f"{where}: expected a dict with `data` and `labels`. {ADVICE}")
    data, labels = values["data"], _labels(values["labels"])
    images = images_of(data)
    if images is None:
        received = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise UserError(f"{where}: expected `data` as uint8 of shape (n, 3072). Received: {received}. {ADVICE}")
    if labels is None or labels.shape != (len(data),) or not np.isin(labels, np.arange(10)).all():
        raise UserError(f"{where}: expected {len(data)} labels of 0..9, one for each image. {ADVICE}")
    return images, labels


def images_of(data: Any) -> np.ndarray | None:
    """Return images (n, 32, 32, 3) from an array of bytes, or None for an array of another type or shape.

    Args:
        data: Array (n, 32, 32, 3); or (n, 3, 32, 32) or (n, 3072), with the three colour planes of an image one after
            the other.
    """
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
        return None
    if data.shape[1:] == (32, 32, 3):
        return data
    if data.shape[1:] not in ((3072,), (3, 32, 32)):
        return None
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _labels(values: Any) -> np.ndarray | None:
    """Return labels as an array of whole numbers, or None if `values` does not consist of whole numbers."""
    if not isinstance(values, list | np.ndarray) or not all(isinstance(value, int | np.integer) for value in values):
        return None
    return np.asarray(values, np.int64)


CIFAR10 = ImageSource(
    name="CIFAR10",
    title="CIFAR-10, low frequencies replaced by noise",
    noise_name="threshold",
    level_word="noise",
    noise_levels=THRESHOLDS_32,
    noise="low_frequency_colour",
    task="classes",
    num_classes=10,
    image_shape=(32, 32, 3),
    family="CIFAR10",
    raw=CifarFiles(),
)
