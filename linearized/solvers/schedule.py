"""Learning rates and batch sizes, epoch by epoch: the published ones (arXiv 2006.13409), and warm-up plus cosine."""

import numpy as np
from jaxtyping import Float64

from data.errors import UserError

WARM_UP = 15  # epochs
LARGEST_BATCH = 10_000
CONVOLUTIONAL = ("CNN", "KERV_CNN", "RESNET", "LAMBDA_RESNET")


def warm_up_epochs(epochs: int) -> int:
    """15 as published; a fifth of the epochs (rounded down) where there are no more than 15 in all."""
    return WARM_UP if epochs > WARM_UP else epochs // 5


def learning_rates(learning_rate: float, epochs: int) -> Float64[np.ndarray, " epochs"]:
    """The rate of each epoch: a linear warm-up to twice `learning_rate`, then a cosine with a floor.

    With W = `warm_up_epochs(epochs)`, lr·2t/W for t < W (so the first published epoch has rate 0 and changes nothing),
    then max(lr(1 + cos(π(t - W)/(epochs - W))), lr/15). Up to 15 epochs, where the published schedule would end within
    its warm-up, the warm-up is lr·2(t + 1)/(W + 1), so that no epoch is spent at rate 0.

    Raises `UserError` for no epochs and for a rate that is not positive and finite.
    """
    _check(learning_rate, epochs)
    warm_up = warm_up_epochs(epochs)
    epoch = np.arange(epochs, dtype=np.float64)
    rising = 2 * epoch / warm_up if epochs > WARM_UP else 2 * (epoch + 1) / (warm_up + 1)
    falling = np.maximum(1 + np.cos(np.pi * (epoch - warm_up) / (epochs - warm_up)), 1 / 15)
    return learning_rate * np.where(epoch < warm_up, rising, falling)


def cosine_rates(learning_rate: float, epochs: int, warm_up: int) -> Float64[np.ndarray, " epochs"]:
    """A linear warm-up to `learning_rate`, then half a cosine towards 0, as in training on CIFAR-10 and ImageNet.

    lr(t + 1)/(W + 1) for t < W = `warm_up`, then lr(1 + cos(π(t - W)/(epochs - W)))/2; no epoch is at rate 0. A warm-up
    that is longer than the training is all of it.
    """
    _check(learning_rate, epochs)
    epoch = np.arange(epochs, dtype=np.float64)
    falling = (1 + np.cos(np.pi * (epoch - warm_up) / max(epochs - warm_up, 1))) / 2
    return learning_rate * np.where(epoch < warm_up, (epoch + 1) / (warm_up + 1), falling)


def _check(learning_rate: float, epochs: int) -> None:
    if epochs < 1:
        raise UserError(f"The number of epochs must be at least 1. Received: {epochs}.")
    if not (learning_rate > 0 and np.isfinite(learning_rate)):
        raise UserError(f"The learning rate must be positive and finite. Received: {learning_rate}.")


def batch_sizes(model: str, family: str, max_batch_size: int = LARGEST_BATCH) -> tuple[int, int]:
    """Rows a batch while warming up, and after: (500, 1000).

    Args:
        model: RF and NT take `max_batch_size` (10,000 at the most), the convolutional networks 128, any other by
            family.
        family: CIFAR2 250; FMNIST 500, then 1000; any other 512, then 1024.
        max_batch_size: Bounds every size.
    """
    if max_batch_size < 1:
        raise UserError(f"--max_batch_size must be at least 1. Received: {max_batch_size}.")
    if model in ("RF", "NT"):
        sizes = (LARGEST_BATCH, LARGEST_BATCH)
    elif model in CONVOLUTIONAL:
        sizes = (128, 128)
    elif family == "CIFAR2":
        sizes = (250, 250)
    else:
        sizes = (500, 1000) if family == "FMNIST" else (512, 1024)
    return min(sizes[0], max_batch_size), min(sizes[1], max_batch_size)
