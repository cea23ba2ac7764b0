"""CIFAR2: the cats (label 0) and airplanes (label 1) of CIFAR-10, as grey images of d = 32 · 32 = 1,024 pixels."""

from pathlib import Path

import numpy as np

from linearized.base.errors import UserError
from linearized.data.source import STRENGTHS, ImageSource, Raw
from linearized.data.sources.cifar10 import CifarFiles

CAT, AIRPLANE = 3, 0
LUMINANCE = np.array([0.2125, 0.7154, 0.0721])  # weights of R, G and B (ITU-R BT.709, rounded as by Ghorbani et al.)


class CatsAndAirplanes(CifarFiles):
    """Raw files of CIFAR-10; `read` returns only the cats and airplanes, in grey on the scale [0, 1]."""

    def read(self, place: Path) -> Raw:
        """Read and check the batches of CIFAR-10; return the grey images of cats (label 0) and airplanes (label 1).

        Args:
            place: Folder or archive of the batches.

        Raises `UserError` for missing or damaged batches.
        """
        raw = super().read(place)
        train = _two_classes(raw.train, raw.train_labels, f"{place} (train)")
        return Raw(*train, *_two_classes(raw.test, raw.test_labels, f"{place} (test)"))


def _two_classes(images: np.ndarray, labels: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    kept = np.isin(labels, (CAT, AIRPLANE))
    if not kept.any():
        raise UserError(f"{what} holds no image of class {CAT} or {AIRPLANE}. Fetch CIFAR-10 anew.")
    return (images[kept] / 255 @ LUMINANCE)[..., None], (labels[kept] == AIRPLANE).astype(np.uint8)


CIFAR2 = ImageSource(
    name="CIFAR2",
    title="CIFAR-10's cats and airplanes in grey, noise in high frequencies",
    noise_name="τ",
    noise_levels=STRENGTHS,
    noise="high_frequency",
    task="binary",
    num_classes=2,
    image_shape=(32, 32, 1),
    family="CIFAR2",
    raw=CatsAndAirplanes(),
)
