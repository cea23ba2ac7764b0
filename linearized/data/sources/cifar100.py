"""CIFAR-100 (Krizhevsky 2009) in its Python version: the pickles train, test and meta, in a folder or a tar archive.

Labels are the 100 fine classes; the 20 coarse ones are not read. No code of the pickles is executed.
"""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.reading import opened, parsing, read_bytes
from linearized.data.source import Raw
from linearized.data.sources.cifar10 import FILE_LIMIT, images_of
from linearized.storage.pickles import read_pickle

FOLDER = "cifar-100-python"
FILES = ("train", "test", "meta")
NUM_CLASSES = 100


def read(place: Path, advice: str) -> tuple[Raw, tuple[str, ...]]:
    """Read CIFAR-100: images with the numbers of their fine classes, and the names of the fine classes.

    Args:
        place: Folder of the files train, test and meta, or a tar archive of them.
        advice: Sentence at the end of error messages that says what to do.

    Raises `UserError` for a missing or damaged file.
    """
    files = _from_archive(place, advice) if place.is_file() else {
        name: read_bytes(place / name, "a pickle", advice, limit=FILE_LIMIT) for name in FILES}  # fmt: skip
    train, test = (_part(files[name], place / name, advice) for name in ("train", "test"))
    meta = _pickled(files["meta"], place / "meta", advice)
    with parsing(place / "meta", "CIFAR-100's names", advice):
        names = tuple(one.decode() if isinstance(one, bytes) else str(one) for one in meta["fine_label_names"])
        if len(names) != NUM_CLASSES:
            raise ValueError(f"it has {len(names)} names")
    return Raw(*train, *test), names


def _from_archive(archive: Path, advice: str) -> dict[str, bytes]:
    """Return the bytes of the files train, test and meta in a tar archive, by name.

    The folder within the archive does not matter. Nothing is unpacked to the disk.

    Args:
        archive: The archive.
        advice: Sentence at the end of error messages that says what to do.

    Raises `UserError` if the archive is damaged or lacks one of the files.
    """
    files: dict[str, bytes] = {}
    with (
        opened(archive, "a tar archive of CIFAR-100", advice, limit=FILE_LIMIT) as file,
        tarfile.open(fileobj=file, mode="r:*") as tar,
    ):
        for member in tar:
            name = member.name.rpartition("/")[2]
            if member.isfile() and name in FILES:
                if member.size > FILE_LIMIT:
                    raise ValueError(f"{name} has {member.size:,} bytes")
                files[name] = tar.extractfile(member).read()
        if missing := [name for name in FILES if name not in files]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    return files


def _part(content: bytes, path: Path, advice: str) -> tuple[np.ndarray, np.ndarray]:
    values = _pickled(content, path, advice)
    with parsing(path, "a part of CIFAR-100", advice):
        labels, images = np.asarray(values["fine_labels"], np.int64), images_of(values["data"])
        if images is None or len(images) != len(labels) or not ((labels >= 0) & (labels < NUM_CLASSES)).all():
            raise ValueError("expected bytes (n, 3072) and labels of 0..99, one for each image")
    return images, labels


def _pickled(content: bytes, path: Path, advice: str) -> dict[str, Any]:
    values = read_pickle(content, str(path))
    with parsing(path, "a pickled dict", advice):
        return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in values.items()}
