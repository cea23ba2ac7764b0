"""Reader of a folder of pictures: one folder per class, or train/ and test/ with one folder per class in each.

`linearized finetune` reads the same folders. `linearized.data.sources.image_folder` describes the folders,
`linearized.data.images` the conversion of pictures. Without `--image_size`, all pictures must have the same size, which
they keep. Without `--channels`, they must be all grey or all coloured.
"""

import collections
import hashlib
import math
import re
from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import Unreadable
from linearized.data.images import SUFFIXES, Head, read_head, read_image
from linearized.data.own.arrays import OwnArrays
from linearized.data.own.formats import file_digest
from linearized.data.sources.image_folder import ADVICE, Pictures, found_pictures, skipped_notes
from linearized.data.sources.split_folders import hidden
from linearized.settings.memory import refuse_beyond_machine
from linearized.settings.own_settings import OwnDataSettings


class ImageFolder:
    """Reader of pictures in one folder per class, a format of `--data` (`Reader`)."""

    reads: tuple[str, ...] = ("image_size", "channels", "skip_bad")

    def fits(self, text: str) -> bool:
        """Return whether the path `text` is a folder with a picture in a folder at most three levels below."""
        folder = Path(text)
        return folder.is_dir() and _has_picture(folder, depth=3)

    def digest(self, text: str, options: OwnDataSettings) -> str:
        """Return the digest of the names and contents of all pictures below the folder `text`; `options` is unused."""
        parts, _classes = found_pictures(Path(text))
        digest = hashlib.blake2b(digest_size=8)
        for name, part in parts.items():
            for path, label in zip(part.paths, part.labels, strict=True):
                digest.update(f"{name}/{label}/{path.name} {file_digest(path, 'a picture', ADVICE)}\n".encode())
        return digest.hexdigest()

    def read(self, text: str, options: OwnDataSettings) -> OwnArrays:
        """Return the pictures, as bytes (n, h, w, c) or float32 in [0, 1], and the names of their classes.

        They are float32 if a picture has more than 8 bits per sample.

        Args:
            text: Path of the folder, the value of --data.
            options: Settings of the user's own data, of which `image_size`, `channels` and `skip_bad` are used.

        Raises `UserError` for pictures of several sizes without `image_size`, for grey ones among colour ones without
        `channels`, and for files that are not pictures without `skip_bad`.
        """
        folder = Path(text)
        parts, _classes = found_pictures(folder)
        skipped: list[str] = []
        heads = {}
        for name, part in parts.items():
            parts[name], heads[name] = _with_heads(part, options.skip_bad, skipped)
        every = [head for part in heads.values() for head in part]
        if not every:
            raise UserError(f"None of the {len(skipped)} files of {folder} can be read as a picture. "
                            "Replace them.")  # fmt: skip
        shape = (*_size(every, options.image_size, folder), _channels(every, options.channels, folder))
        deep = any(head.deep for head in every)
        refuse_beyond_machine((4 if deep else 1) * len(every) * math.prod(shape), f"{folder}, {len(every):,} pictures,",
                              "Give a smaller --image_size, or fewer pictures.")  # fmt: skip
        arrays = {name: _read(part, shape, deep, options.skip_bad, skipped) for name, part in parts.items()}
        for name, (x, _y) in arrays.items():
            if not len(x):
                raise UserError(f"No picture of the {name} part of {folder} can be read. Replace them.")
        notes = skipped_notes([Path(name) for name in skipped], folder)
        named = {f"{axis}{'' if name == 'train' else f'_{name}'}": array
                 for name, pair in arrays.items() for axis, array in zip("xy", pair, strict=True)}  # fmt: skip
        return OwnArrays(**named, images=True, notes=notes)


def _has_picture(folder: Path, depth: int) -> bool:
    """Return whether a folder has a picture in one of its subfolders, at most `depth` levels below."""
    try:
        entries = sorted(path for path in folder.iterdir() if not hidden(path.name))
    except OSError:
        return False
    folders = [path for path in entries if path.is_dir()]
    if any(path.suffix.lower() in SUFFIXES for inner in folders for path in _files(inner)):
        return True
    return depth > 1 and any(_has_picture(inner, depth - 1) for inner in folders)


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file() and not hidden(path.name)]
    except OSError:
        return []


def _with_heads(part: Pictures, skip_bad: bool, skipped: list[str]) -> tuple[Pictures, list[Head]]:
    """Read the headers of pictures; return the pictures whose headers can be read, and these headers.

    Args:
        part: Pictures to read.
        skip_bad: Whether unreadable pictures are left out and their paths added to `skipped`; otherwise `Unreadable` is
            raised for the first one.
        skipped: List of the paths of unreadable pictures, extended in place.
    """
    rows, heads = [], []
    for row, path in enumerate(part.paths):
        try:
            heads.append(read_head(path, ADVICE))
            rows.append(row)
        except Unreadable:
            if not skip_bad:
                raise
            skipped.append(str(path))
    return part.take(rows), heads


def _read(
    part: Pictures, shape: tuple[int, int, int], deep: bool, skip_bad: bool, skipped: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures, and return them as images (n, h, w, c) with the names of their classes (n,).

    Args:
        part: Pictures to read.
        shape: (height, width, channels) of every image.
        deep: Whether to return float32 in [0, 1] instead of bytes.
        skip_bad: Whether unreadable pictures are left out and their paths added to `skipped`; otherwise `Unreadable` is
            raised for the first one.
        skipped: List of the paths of unreadable pictures, extended in place.
    """
    images = np.empty((len(part.paths), *shape), np.float32 if deep else np.uint8)
    rows = []
    for row, path in enumerate(part.paths):
        try:
            image = read_image(path, shape, ADVICE)
        except Unreadable:
            if not skip_bad:
                raise
            skipped.append(str(path))
            continue
        images[len(rows)] = image / np.float32(255) if deep else image
        rows.append(row)
    return images[: len(rows)], np.array([part.labels[row] for row in rows], dtype=str)


def _size(heads: list[Head], wanted: str, folder: Path) -> tuple[int, int]:
    """Return the height and width of the images: those of `--image_size`, or the common size of all pictures.

    Args:
        heads: Headers of all pictures.
        wanted: Value of --image_size; "" for the common size.
        folder: Folder of the pictures, for the error message.

    Raises `UserError` for pictures of several sizes if `wanted` is "", and for a text that is not a size.
    """
    if wanted:
        return image_size(wanted)
    sizes = collections.Counter((head.height, head.width) for head in heads)
    if len(sizes) > 1:
        common = sizes.most_common(4)
        listed = ", ".join(f"{count} of {height}x{width}" for (height, width), count in common)
        more = f" and {len(sizes) - len(common)} more sizes" if len(sizes) > len(common) else ""
        height, width = common[0][0]
        raise UserError(f"{folder} has pictures of {len(sizes)} sizes (height x width): {listed}{more}. Bring them to "
                        f"one with --image_size={height if height == width else f'{height}x{width}'}.")  # fmt: skip
    return next(iter(sizes))


def _channels(heads: list[Head], wanted: str, folder: Path) -> int:
    """Return the number of channels of the images: that of `--channels`, or the common number of all pictures.

    Args:
        heads: Headers of all pictures.
        wanted: Value of --channels: "grey", "colour" or "auto".
        folder: Folder of the pictures, for the error message.

    Raises `UserError` for grey pictures among colour ones if `wanted` is "auto".
    """
    if wanted != "auto":
        return {"grey": 1, "colour": 3}[wanted]
    grey = sum(head.grey for head in heads)
    if 0 < grey < len(heads):
        raise UserError(f"{folder} has {grey} grey pictures and {len(heads) - grey} in colour. Give --channels=colour "
                        "or --channels=grey.")  # fmt: skip
    return 1 if grey else 3


def image_size(text: str) -> tuple[int, int]:
    """Return (height, width) from a text such as "32" or "32x48". Raises `UserError` for anything else."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= min(height, width) <= max(height, width) <= 4096:
        raise UserError("--image_size takes a side such as 32, or height x width such as 32x48, from 1 to 4096 pixels. "
                        f"Received: {text[:40]!r}.")  # fmt: skip
    return height, width


IMAGE_FOLDER = ImageFolder()
