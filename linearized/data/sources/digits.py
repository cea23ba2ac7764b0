"""scikit-learn's handwritten digits, the default data set: 1,797 grey images 8x8 from its package.

In DIGITS, noise is added to high frequencies; in NDIGITS, noise replaces low frequencies. A fixed shuffle splits the
images into 1,437 train and 360 test images.
"""

import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.data.source import STRENGTHS, THRESHOLDS_8, Found, ImageSource, Raw

NUM_TRAIN, NUM_TEST = 1437, 360
SHUFFLE_SEED = 1990


class DigitsFiles:
    """Raw file of the digits in the installed scikit-learn (`RawFiles`); nothing is downloaded."""

    def find(self, directory: Path) -> Found:
        """Find the folder of the file in the installed scikit-learn; `directory` is not used."""
        spec = importlib.util.find_spec("sklearn")
        place = Path(spec.origin).parent / "datasets" / "data" if spec and spec.origin else None
        return Found(place, ["the installed scikit-learn"], "Get it with: pip install scikit-learn.")

    def fetch(self, directory: Path) -> Path:
        """Return the folder of the file in the installed scikit-learn; `directory` is not used.

        Raises `UserError` if scikit-learn is not installed.
        """
        place = self.find(directory).place
        if place is None:
            raise UserError("DIGITS comes with scikit-learn, which is not installed: pip install scikit-learn.")
        return place

    def digest(self, place: Path) -> str:
        """Return the digest of the bytes of the file in the folder `place`."""
        return hashlib.blake2b((place / "digits.csv.gz").read_bytes(), digest_size=16).hexdigest()

    def read(self, place: Path) -> Raw:
        """Return the shuffled images of `sklearn.datasets.load_digits` from the folder `place`.

        The file is read directly, because scikit-learn's imports take a second.
        """
        with gzip.open(place / "digits.csv.gz", "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
        table = table[np.random.RandomState(SHUFFLE_SEED).permutation(len(table))]
        images, labels = table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1].astype(np.int64)
        return Raw(images[:NUM_TRAIN], labels[:NUM_TRAIN], images[NUM_TRAIN:], labels[NUM_TRAIN:])


_COMMON = {"task": "classes", "num_classes": 10, "image_shape": (8, 8, 1), "family": "FMNIST", "raw": DigitsFiles(),
           "rows": (NUM_TRAIN, NUM_TEST)}  # fmt: skip

DIGITS = ImageSource(
    name="DIGITS",
    title="scikit-learn's digits 8x8, noise in high frequencies",
    noise_name="τ",
    noise_levels=STRENGTHS,
    noise="high_frequency",
    **_COMMON,
)
NDIGITS = ImageSource(
    name="NDIGITS",
    title="scikit-learn's digits 8x8, low frequencies replaced by noise",
    noise_name="threshold",
    level_word="noise",
    noise_levels=THRESHOLDS_8,
    noise="low_frequency",
    **_COMMON,
)
