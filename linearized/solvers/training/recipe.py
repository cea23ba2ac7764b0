"""Options of training by SGD and Adam: schedules, momentum rules, decay, label smoothing and augmentation."""

import dataclasses

import numpy as np

from linearized.base.shapes import Float32, Float64
from linearized.solvers.training.schedule import cosine_rates, lambda_rates, learning_rates, warm_up_epochs


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Options of first-order training; the defaults are those of Ghorbani et al. (arXiv 2006.13409).

    Attributes:
        schedule: Learning rate by epoch, as a multiple of a base rate (see `linearized.solvers.training.schedule`).
            "published": warm-up to twice the base rate over 15 epochs, then a cosine with a floor. "cosine": warm-up to
            the base rate over `warm_up` epochs, then a cosine to 0. "lambda": warm-up to `warm_up` times the base rate,
            then a cosine to 0.
        warm_up: Number of warm-up epochs for "cosine" and "lambda".
        label_smoothing: ε: each target y of k classes becomes (1 - ε) y + ε / k (k = 2 for a binary label).
        weight_decay: Decay of AdamW: every step subtracts the product of this number, the learning rate and the weight.
        l2_decay: λ of momentum SGD and Adam: gradients g become g + λ w for the weight w, like `weight_decay` of
            PyTorch's SGD and Adam.
        beta_2: β₂ of Adam and AdamW.
        momentum: Rule of momentum SGD: "classical", "nesterov" or "keras", see
            `linearized.solvers.training.scaled.ScaledSGD`.
        augment_crop: Largest number of pixels by which an image is shifted in each direction; zeros are shifted in.
        augment_flip: Whether each image is mirrored left to right with probability ½.
    """

    schedule: str = "published"
    warm_up: int = 5
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    l2_decay: float = 0.0
    beta_2: float = 0.999
    momentum: str = "classical"
    augment_crop: int = 0
    augment_flip: bool = False

    def rates(self, learning_rate: float, epochs: int) -> Float64[np.ndarray, " epochs"]:
        """Return the learning rate of each of `epochs` epochs, by the schedule of this recipe.

        Args:
            learning_rate: Base rate, which the schedule multiplies.
            epochs: Number of epochs.
        """
        if self.schedule == "published":
            return learning_rates(learning_rate, epochs)
        rates = {"cosine": cosine_rates, "lambda": lambda_rates}[self.schedule]
        return rates(learning_rate, epochs, self.warm_up)

    def warm_up_epochs(self, epochs: int) -> int:
        """Return the number of warm-up epochs in a training of `epochs` epochs; these use the first batch size."""
        return warm_up_epochs(epochs) if self.schedule == "published" else min(self.warm_up, epochs)

    def augments(self) -> bool:
        """Return whether train images are shifted or mirrored."""
        return self.augment_crop > 0 or self.augment_flip


def moved(
    x: Float32[np.ndarray, "n d"], shape: tuple[int, int, int], crop: int, flip: bool, random: np.random.Generator
) -> Float32[np.ndarray, "n d"]:
    """Return images mirrored with probability ½ (if `flip`) and then shifted by up to `crop` pixels each way.

    Args:
        x: Rows (n, d), each a flattened image.
        shape: (height, width, channels) of an image.
        crop: Largest shift in pixels; zeros are shifted in.
        flip: Whether images are mirrored.
        random: Random-number generator. The numbers for mirroring are drawn even if `flip` is False.
    """
    height, width, channels = shape
    images = x.reshape(len(x), height, width, channels)
    mirrored = random.integers(0, 2, len(x), dtype=bool)
    down, right = random.integers(0, 2 * crop + 1, (2, len(x)))
    if flip:
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    padded = np.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
    rows = (down[:, None] + np.arange(height))[:, :, None]
    columns = (right[:, None] + np.arange(width))[:, None, :]
    return padded[np.arange(len(x))[:, None, None], rows, columns].reshape(len(x), -1)
