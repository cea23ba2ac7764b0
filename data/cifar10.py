"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images 32x32 of ten classes, low frequencies replaced by noise.

Read from its Python pickles, in a folder or in the tar.gz they come in, by a reader that runs no code of theirs.
"""

import hashlib
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from data import keras_cache
from data.errors import UserError
from data.pickles import read_pickle
from data.source import THRESHOLDS_32, Found, ImageSource, Raw, missing

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
NUM_BATCHES = 5
_BATCH = re.compile(r"data_batch_([1-9]\d*)|test_batch")


class CifarFiles:
    """The pickles `data_batch_1`, ... and `test_batch`, in a folder or a tar.gz."""

    name = "CIFAR-10"

    def sought(self, directory: Path) -> list[Path]:
        """Where they are sought, in this order."""
        cached = [
            folder / place
            for folder in keras_cache.folders()
            for place in (f"{FOLDER}-target/{FOLDER}", FOLDER, f"{FOLDER}.tar.gz")  # Keras 3 and older ones
        ]
        return [directory / FOLDER, directory, directory / ARCHIVE, *cached]

    def find(self, directory: Path) -> Found:
        sought = self.sought(directory)
        place = next((path for path in sought if (path / "test_batch").is_file() or path.is_file()), None)
        how = f"Get it with: python -m data --fetch CIFAR10, or put {FOLDER}/ or {ARCHIVE} into {directory}."
        return Found(place, [str(path) for path in sought], how)

    def fetch(self, directory: Path) -> Path:
        reason = ""
        try:
            keras_cache.download("cifar10")
        except UserError as error:
            reason = f"{error} "
        found = self.find(directory)
        if found.place is None:
            raise missing(self.name, found, reason)
        return found.place

    def digest(self, place: Path) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for path in [place] if place.is_file() else sorted(place / name for name in _batch_names(place)):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def read(self, place: Path) -> Raw:
        files = _from_archive(place) if place.is_file() else _from_folder(place)
        numbers = sorted(int(name.removeprefix("data_batch_")) for name in files if name != "test_batch")
        if "test_batch" not in files or not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise UserError(
                f"{place}: expected data_batch_1, data_batch_2, ... and test_batch, none left out. "
                f"Received: {', '.join(sorted(files)) or 'nothing'}. Fetch it anew."
            )
        if len(numbers) < NUM_BATCHES:
            logging.warning("%s has %d of CIFAR-10's %d train batches.", place, len(numbers), NUM_BATCHES)
        train = [_batch(files[f"data_batch_{number}"], f"{place}/data_batch_{number}") for number in numbers]
        test = _batch(files["test_batch"], f"{place}/test_batch")
        return Raw(np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train]), *test)


def _batch_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _BATCH.fullmatch(path.name) and path.is_file()]


def _from_folder(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _batch_names(folder)}


def _from_archive(archive: Path) -> dict[str, bytes]:
    """The batches' bytes, whatever folder of the archive they are in. Nothing is unpacked to the disk."""
    files = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if member.isfile() and _BATCH.fullmatch(name):
                    files[name] = tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{archive} is damaged or truncated ({error}). Remove it and fetch it anew.") from error
    return files


def _batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) and labels (n,) of one pickle, checked."""
    values = read_pickle(content, where)
    if isinstance(values, dict):
        values = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in values.items()}
    if not isinstance(values, dict) or not {"data", "labels"} <= set(values):
        raise UserError(f"{where}: expected a dict with `data` and `labels`. Fetch it anew.")
    data, labels = values["data"], _labels(values["labels"])
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        received = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise UserError(f"{where}: expected `data` as uint8 of shape (n, 3072). Received: {received}. Fetch it anew.")
    if labels is None or labels.shape != (len(data),) or not np.isin(labels, np.arange(10)).all():
        raise UserError(f"{where}: expected {len(data)} labels of 0..9, one an image. Fetch it anew.")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _labels(values: Any) -> np.ndarray | None:
    """Labels as whole numbers, or None for what is no row of them."""
    if not isinstance(values, list | np.ndarray) or not all(isinstance(value, int | np.integer) for value in values):
        return None
    return np.asarray(values)


CIFAR10 = ImageSource(
    name="CIFAR10",
    title="CIFAR-10, low frequencies replaced by noise",
    noise_name="threshold",
    noise_levels=THRESHOLDS_32,
    noise="low_frequency_colour",
    task="classes",
    num_classes=10,
    image_shape=(32, 32, 3),
    family="CIFAR10",
    raw=CifarFiles(),
)
