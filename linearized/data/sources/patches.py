"""Photo patches: 32x32 colour patches of ten photos, labelled by their photo, in the file format of CIFAR-10.

They are a substitute for CIFAR-10 that needs no download, because scikit-image and scikit-learn include the photos.
Train patches are cut from the left of each photo and test patches from the right, with a gap, so that train and test
patches share no pixel. In PATCHES, noise is added to high frequencies; in NPATCHES, noise replaces low frequencies. The
patches can be learned well above chance: on the clean patches of NPATCHES, ridge regression classifies 45 % of the 500
test patches correctly, and kernel ridge regression with the two-layer NTK 58 %.
"""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.seals import seal_file
from linearized.base.shapes import UInt8
from linearized.data.source import STRENGTHS, THRESHOLDS_32, Found, ImageSource
from linearized.data.sources.cifar10 import NUM_BATCHES, CifarFiles
from linearized.storage.files import reap, whole_folder

FOLDER = "photo-patches-py"
NUM_TRAIN, NUM_TEST, SEED = 1500, 500, 1990
SIDE = 32
TRAIN_SHARE, GAP = 0.7, 8  # fraction of the width, from the left; pixels between the parts
LEAST_DEVIATION = 8  # grey levels; flatter patches (black sky) carry no information and cannot be scaled
PHOTOS = {
    "coffee": "skimage/data/coffee.png",
    "astronaut": "skimage/data/astronaut.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "galaxies": "skimage/data/hubble_deep_field.jpg",
    "retina": "skimage/data/retina.jpg",
    "tissue": "skimage/data/ihc.png",
    "rocket": "skimage/data/rocket.jpg",
    "cat": "skimage/data/chelsea.png",
    "temple": "sklearn/datasets/images/china.jpg",
    "flower": "sklearn/datasets/images/flower.jpg",
}


class PatchFiles(CifarFiles):
    """Raw files of the photo patches in CIFAR-10's format, which this class makes if they are missing (`RawFiles`)."""

    name = "the photo patches"

    def find(self, directory: Path) -> Found:
        """Look for the patches in `directory`, a folder of raw data, without reading them.

        Leftovers of killed processes in the folder are removed.
        """
        reap(directory, deep=False)
        place = directory / FOLDER
        how = f"Loading makes it; so does: linearized data --fetch PATCHES. It lies in {place}."
        return Found(place if (place / "test_batch").is_file() else None, [str(place)], how, made_on_load=True)

    def fetch(self, directory: Path) -> Path:
        """Cut the patches, write them into a subfolder of `directory`, and return it.

        Raises `UserError` if a photo is missing or the folder cannot be written.
        """
        return make(directory / FOLDER)


def make(folder: Path, num_train: int = NUM_TRAIN, num_test: int = NUM_TEST, seed: int = SEED) -> Path:
    """Cut patches from photos and write them in the format of CIFAR-10: pickles, of which five have train patches.

    After an error or an interruption the folder does not exist.

    Args:
        folder: Folder of the pickles.
        num_train: Number of train patches, at least one per batch.
        num_test: Number of test patches, at least 1.
        seed: Random-number seed of the positions and the order.

    Returns:
        The folder.

    Raises:
        UserError: If a photo is missing, the folder cannot be written, or a number is too small.
    """
    if num_train < NUM_BATCHES or num_test < 1:
        raise UserError(f"Patches need {NUM_BATCHES} train and 1 test row or more. Received: {num_train}, {num_test}.")
    random = np.random.RandomState(seed)
    photos = {name: _photo(path) for name, path in PHOTOS.items()}
    train = _patches(photos, num_train, random, left=True)
    test = _patches(photos, num_test, random, left=False)
    try:
        with whole_folder(folder) as aside:
            for number, rows in enumerate(np.array_split(np.arange(num_train), NUM_BATCHES), start=1):
                _write(aside / f"data_batch_{number}", train[0][rows], train[1][rows], f"train batch {number}")
            _write(aside / "test_batch", *test, "test batch")
            names = {b"label_names": [name.encode() for name in PHOTOS], b"num_vis": 3 * SIDE**2}
            (aside / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
        (folder / "test_batch").stat()
    except OSError as error:
        raise UserError(
            f"Cannot write photo patches to {folder}: {error.strerror}. Choose another data_dir."
        ) from error
    logging.info("Cut %d + %d photo patches into %s.", num_train, num_test, folder)
    return folder


def _photo(path: str) -> UInt8[np.ndarray, "h w 3"]:
    """Return a photo of an installed package as an array of bytes; the package is located but not imported.

    Args:
        path: Name of the package and path of the photo within it, such as "skimage/data/coffee.png".

    Raises `UserError` if the photo is missing or damaged.
    """
    from PIL import Image

    package, _, inside = path.partition("/")
    spec = importlib.util.find_spec(package)
    file = Path(spec.origin).parent / inside if spec and spec.origin else Path(path)
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise UserError(
            f"Cannot read the photo {file} ({error}): pip install scikit-image scikit-learn bring it."
        ) from error


def _patches(
    photos: dict[str, np.ndarray], count: int, random: np.random.RandomState, *, left: bool
) -> tuple[UInt8[np.ndarray, "n 32 32 3"], UInt8[np.ndarray, " n"]]:
    """Cut patches at random positions; return them shuffled, (n, 32, 32, 3), with the index of the photo of each, (n,).

    Args:
        photos: Photos (h, w, 3) by name.
        count: Number of patches n; the numbers of patches of two photos differ by at most one.
        random: Generator of positions and order.
        left: Whether patches are cut from the left part of the photos (train) or from the right part (test).
    """
    labels = random.permutation(np.arange(count) % len(photos)).astype(np.uint8)
    sides = list(photos.values())
    cut = [
        photo[:, : int(TRAIN_SHARE * photo.shape[1])] if left else photo[:, int(TRAIN_SHARE * photo.shape[1]) + GAP :]
        for photo in sides
    ]
    return np.stack([_patch(cut[label], random) for label in labels]), labels


def _patch(photo: np.ndarray, random: np.random.RandomState) -> UInt8[np.ndarray, "32 32 3"]:
    while True:
        row, column = (random.randint(length - SIDE + 1) for length in photo.shape[:2])
        patch = photo[row : row + SIDE, column : column + SIDE]
        if patch.std() >= LEAST_DEVIATION:
            return patch


def _write(path: Path, images: np.ndarray, labels: np.ndarray, label: str) -> None:
    batch = {
        b"batch_label": label.encode(),
        b"labels": labels.tolist(),
        b"data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1),
    }
    path.write_bytes(pickle.dumps(batch, protocol=2))
    seal_file(path)


_COMMON = {"task": "classes", "num_classes": 10, "image_shape": (32, 32, 3), "family": "CIFAR10", "raw": PatchFiles()}

PATCHES = ImageSource(
    name="PATCHES",
    title="ten photos' 32x32 colour patches, noise in high frequencies",
    noise_name="τ",
    noise_levels=STRENGTHS,
    noise="high_frequency",
    **_COMMON,
)
NPATCHES = ImageSource(
    name="NPATCHES",
    title="ten photos' 32x32 colour patches, low frequencies replaced by noise",
    noise_name="threshold",
    level_word="noise",
    noise_levels=THRESHOLDS_32,
    noise="low_frequency_colour",
    **_COMMON,
)
