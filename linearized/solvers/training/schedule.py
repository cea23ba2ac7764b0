"""Learning-rate schedules of training (three kinds, each one rate per epoch), and the batch sizes of models."""

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float64

WARM_UP = 15  # epochs
LARGEST_BATCH = 10_000


def warm_up_epochs(epochs: int) -> int:
    """Return the number of warm-up epochs of the published schedule for a training of `epochs` epochs.

    The number is 15 for more than 15 epochs, and otherwise a fifth of the epochs, rounded down.
    """
    return WARM_UP if epochs > WARM_UP else epochs // 5


def learning_rates(learning_rate: float, epochs: int) -> Float64[np.ndarray, " epochs"]:
    """Return the rate of each epoch: a linear warm-up to twice `learning_rate`, then a cosine with a floor.

    This is the schedule of Ghorbani et al. (arXiv 2006.13409). With lr = `learning_rate`, W = `warm_up_epochs(epochs)`
    and epochs t = 0, 1, ..., the rate is lr·2t/W for t < W. The first epoch thus has rate 0 and changes nothing. For
    t >= W the rate is max(lr(1 + cos(π(t - W)/(epochs - W))), lr/15). With at most 15 epochs, the published schedule
    would be all warm-up; here the rate is then lr·2(t + 1)/(W + 1) for t < W, and never 0.

    Raises `UserError` if there are no epochs or the rate is not positive and finite.
    """
    _check(learning_rate, epochs)
    warm_up = warm_up_epochs(epochs)
    epoch = np.arange(epochs, dtype=np.float64)
    rising = 2 * epoch / warm_up if epochs > WARM_UP else 2 * (epoch + 1) / (warm_up + 1)
    falling = np.maximum(1 + np.cos(np.pi * (epoch - warm_up) / (epochs - warm_up)), 1 / 15)
    return learning_rate * np.where(epoch < warm_up, rising, falling)


def cosine_rates(learning_rate: float, epochs: int, warm_up: int) -> Float64[np.ndarray, " epochs"]:
    """Return the rate of each epoch: a linear warm-up to `learning_rate`, then half a cosine towards 0.

    Such schedules are common in training on CIFAR-10 and ImageNet. With lr = `learning_rate`, W = `warm_up` and epochs
    t = 0, 1, ..., the rate is lr(t + 1)/(W + 1) for t < W, then lr(1 + cos(π(t - W)/(epochs - W)))/2. No epoch has
    rate 0. If the warm-up is longer than the training, all epochs are warm-up.

    Raises `UserError` if there are no epochs or the rate is not positive and finite.
    """
    _check(learning_rate, epochs)
    epoch = np.arange(epochs, dtype=np.float64)
    falling = (1 + np.cos(np.pi * (epoch - warm_up) / max(epochs - warm_up, 1))) / 2
    return learning_rate * np.where(epoch < warm_up, (epoch + 1) / (warm_up + 1), falling)


def lambda_rates(learning_rate: float, epochs: int, warm_up: int = 5) -> Float64[np.ndarray, " epochs"]:
    """Return the rate of each epoch as in the reproduction of LambdaNetworks on CIFAR-10 (joigalcar3/LambdaNetworks).

    With lr = `learning_rate`, W = `warm_up` and epochs t = 0, 1, ..., the rate is lr(t + 1) for t < W, so that the peak
    is W·lr. Then it is W·lr(1 + cos(π(t - W + 1)/(epochs - W)))/2, which is 0 in the last epoch. The reproduction has
    lr = 5e-4, W = 5 and 90 epochs. If the warm-up is longer than the training, all epochs are warm-up.

    Raises `UserError` if there are no epochs, if the rate is not positive and finite, or if `warm_up` is below 1.
    """
    _check(learning_rate, epochs)
    if warm_up < 1:
        raise UserError(f"The lambda schedule needs --warm_up_epochs of at least 1. Received: {warm_up}.")
    epoch = np.arange(epochs, dtype=np.float64)
    falling = warm_up * (1 + np.cos(np.pi * (epoch - warm_up + 1) / max(epochs - warm_up, 1))) / 2
    return learning_rate * np.where(epoch < warm_up, epoch + 1, falling)


def _check(learning_rate: float, epochs: int) -> None:
    if epochs < 1:
        raise UserError(f"The number of epochs must be at least 1. Received: {epochs}.")
    if not (learning_rate > 0 and np.isfinite(learning_rate)):
        raise UserError(f"The learning rate must be positive and finite. Received: {learning_rate}.")


def batch_sizes(
    batches: str | tuple[int, int], family: str, batch_size: int | None = None
) -> tuple[int, int]:  # fmt: skip
    """Return the rows per batch during the warm-up and after it, such as (500, 1000).

    Args:
        batches: `Declaration.batches` of the model (`linearized.models.declaration`): two numbers, which are returned,
            or a name for the sizes of Ghorbani et al.: "linear" (RF and NT: 10,000), "convolutional" (CNN: 128) or
            "dense" (NN: see `family`).
        family: Dataset family, which determines the sizes for "dense": CIFAR2 250; FMNIST 500, then 1000; all others
            512, then 1024.
        batch_size: Size that replaces both sizes of `batches`; None: no replacement.

    Raises `UserError` if `batch_size` is below 1, and ValueError for an unknown text of `batches`.
    """
    if batch_size is not None:
        if batch_size < 1:
            raise UserError(f"--max_batch_size must be at least 1. Received: {batch_size}.")
        return batch_size, batch_size
    if not isinstance(batches, str):
        return batches
    if batches == "linear":
        return LARGEST_BATCH, LARGEST_BATCH
    if batches == "convolutional":
        return 128, 128
    if batches != "dense":
        raise ValueError(f"Unknown batch sizes {batches!r}. Use dense, convolutional, linear or two numbers.")
    if family == "CIFAR2":
        return 250, 250
    return (500, 1000) if family == "FMNIST" else (512, 1024)
