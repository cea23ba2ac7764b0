"""A folder of images as a dataset: train/<class>/<file> and test/<class>/<file>, or <class>/<file> split by a seed.

Reads what Pillow reads; the images take the size and the number of channels that the model has.
"""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.dataset import Dataset, Split, fingerprint
from data.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
TEST_NAMES = ("test", "val", "validation")
TEST_SHARE = 0.2  # of a folder without a test part
SCALINGS = {"unit": (1 / 255, 0.0), "symmetric": (2 / 255, -1.0), "bytes": (1.0, 0.0)}


def load(folder: Path | str, image_shape: tuple[int, int, int], *, scaling: str = "unit", seed: int = 0) -> Dataset:
    """The images of `folder` as rows, classes numbered in the order of their folders' names.

    Args:
        image_shape: (height, width, channels) to which each image is brought, bilinear; 1 channel is grey, 3 are RGB.
        scaling: "unit" [0, 1], "symmetric" [-1, 1], or "bytes" 0..255.
        seed: Of the split, where there is no folder test (or val, or validation): a fifth is held out.

    Raises `UserError` for a folder without classes, a file that is no image, and classes that train and test do not
    share.
    """
    folder = Path(folder)
    test = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if test is not None and (folder / "train").is_dir():
        classes, train = _files(folder / "train")
        test_classes, held_out = _files(test)
        if set(test_classes) - set(classes):
            raise UserError(f"{test} has classes that {folder / 'train'} has not: "
                            f"{', '.join(sorted(set(test_classes) - set(classes)))}.")  # fmt: skip
        held_out = [(path, classes.index(test_classes[label])) for path, label in held_out]
    else:
        classes, files = _files(folder)
        order = np.random.default_rng(seed).permutation(len(files))
        cut = max(1, round(TEST_SHARE * len(files)))
        held_out, train = [files[i] for i in order[:cut]], [files[i] for i in order[cut:]]
        if not train:
            raise UserError(f"{folder} has {len(files)} images. Two are needed at least, to train and to test.")
    parts = [_split(files, image_shape, SCALINGS[scaling]) for files in (train, held_out)]
    mark = fingerprint(*(array for part in parts for array in (part.x, part.y)))
    return Dataset(folder.name, 0, parts[0], None, parts[1], "classes", len(classes), image_shape, "FMNIST", mark)


def _files(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """The classes' names, and the images with their class numbers, both sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Give one with a folder of images for each class.")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if len({label for _, label in files}) < 2:
        raise UserError(f"{folder} holds images of {len({label for _, label in files})} classes; two are needed at "
                        f"least. Put {', '.join(SUFFIXES)} files into a folder for each class.")  # fmt: skip
    return classes, files


def _split(files: list[tuple[Path, int]], shape: tuple[int, int, int], scale: tuple[float, float]) -> Split:
    height, width, channels = shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
    if mode is None:
        raise UserError(f"Images have 1, 3 or 4 channels. Received: a model of {channels}.")
    x = np.empty((len(files), height * width * channels), np.float32)
    for row, (path, _) in zip(x, files, strict=True):
        try:
            with Image.open(path) as image:
                small = image.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{path} is no image that can be read ({error}). Remove it or mend it.") from error
        row[:] = np.asarray(small, np.float32).ravel() * scale[0] + scale[1]
    return Split(x, np.array([[label] for _, label in files], np.float32))
