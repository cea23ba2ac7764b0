"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, MIT licence): 60,000 + 10,000 grey images 28x28 of ten kinds of clothes.

FMNIST has noise in high frequencies, NFMNIST in place of the low ones. The files are in MNIST's idx format, gzipped.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data import keras_cache
from data.errors import UserError
from data.source import STRENGTHS, THRESHOLDS_28, Found, ImageSource, Raw, missing

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = tuple(
    f"{kind}-{what}-ubyte.gz" for kind in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)  # in the order of `Raw`


class FashionFiles:
    """The four files, in the folders where they are usually found."""

    def folders(self, directory: Path) -> list[Path]:
        """Where they are sought, in this order."""
        cached = [folder / "fashion-mnist" for folder in keras_cache.folders()]
        return [directory / "fashion-mnist", directory, DEBIAN_FOLDER, *cached]

    def find(self, directory: Path) -> Found:
        folders = self.folders(directory)
        place = next((folder for folder in folders if all((folder / name).is_file() for name in FILES)), None)
        how = (
            "Get it with: apt-get install dataset-fashion-mnist, or python -m data --fetch FMNIST, "
            f"or put {', '.join(FILES)} into {folders[0]}."
        )
        return Found(place, [str(folder) for folder in folders], how)

    def fetch(self, directory: Path) -> Path:
        reason = ""
        try:
            keras_cache.download("fashion_mnist")
        except UserError as error:
            reason = f"{error} "
        found = self.find(directory)
        if found.place is None:
            raise missing("Fashion-MNIST", found, reason)
        return found.place

    def digest(self, place: Path) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for name in FILES:
            digest.update((place / name).read_bytes())
        return digest.hexdigest()

    def read(self, place: Path) -> Raw:
        arrays = [read_idx(place / name) for name in FILES]
        for images, labels, name in zip(arrays[::2], arrays[1::2], FILES[::2], strict=True):
            if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
                raise UserError(
                    f"{place / name}: expected images of (28, 28), a label each. Received: images {images.shape}, "
                    f"labels {labels.shape}. Fetch the files anew."
                )
        return Raw(arrays[0][..., None], arrays[1], arrays[2][..., None], arrays[3])


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Reads a gzipped idx file of bytes: 0, 0, type 8, the number of dimensions, each length, then the bytes.

    Raises `UserError` for a file that is truncated, is no idx file of bytes, or holds more or fewer than it says.
    """
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or truncated ({error}). Remove it and fetch it anew.") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise UserError(f"{path} is no idx file of bytes: it starts with {content[:4].hex()}. Fetch it anew.")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != np.prod(shape, dtype=object):
        raise UserError(f"{path} says it holds an array of {shape}, but holds {values.size} bytes. Fetch it anew.")
    return values.reshape(shape)


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
    noise_levels=THRESHOLDS_28,
    noise="low_frequency",
    **_COMMON,
)
