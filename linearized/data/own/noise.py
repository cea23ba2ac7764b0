"""Noise that is added to the user's own data (flag `--noise`), at the levels of the flag `--noise_levels`.

The noises high_frequency and low_frequency are those of Ghorbani et al. (arXiv 2006.13409). Their default levels are
those of the built-in data sets: FMNIST has noise in high frequencies, NFMNIST (grey) and CIFAR10 (colour) in low ones.

| `--noise` | level | effect |
|---|---|---|
| high_frequency | τ >= 0 | noise is added near the highest frequency; its norm is τ times that of the centred image |
| low_frequency | k = 0, ..., height | noise replaces the k x k lowest frequencies |
| label | p in [0, 1] | each train label is replaced, with probability p, by a class drawn uniformly |
| gaussian | σ >= 0 | independent normal noise is added to the inputs |

The noises high_frequency and low_frequency (`linearized.data.transforms.noise`) need square images, and are drawn for
all rows of the data before rows are selected. Even at level 0, each image is centred and scaled to norm √d, where d is
height · width · channels; colour images with low_frequency are instead standardised, each channel over all train
images.

`--noise=label` changes train labels only. Validation and test rows keep their labels, so that the ridge is chosen and
scored on correct labels. The drawn class may be the original one; at p = 1, labels carry no information (Zhang, Bengio,
Hardt, Recht, Vinyals, "Understanding deep learning requires rethinking generalization", 2017).

With `--noise=gaussian`, the standard deviation is σ times the square root of the mean variance of the columns of the
selected train rows. The noise is added to the float32 inputs of every split.

All random-number seeds are fixed. The random numbers of a row do not depend on how many rows are selected.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.source import SEED, STRENGTHS, THRESHOLDS_8, THRESHOLDS_28, THRESHOLDS_32
from linearized.settings.own_settings import SPECTRAL, OwnDataSettings

NAMES = {"high_frequency": "τ", "low_frequency": "threshold", "label": "label noise", "gaussian": "σ", "": "noise"}
TITLES = {"high_frequency": "noise in high frequencies", "low_frequency": "low frequencies replaced by noise",
          "label": "wrong labels", "gaussian": "Gaussian noise", "": "as it is"}  # fmt: skip
BLOCK = 1024  # rows of Gaussian noise that are drawn together


def noise_levels(
    options: OwnDataSettings, task: str, image_shape: tuple[int, int, int] | None, where: str
) -> tuple[int | float, ...]:
    """Return the levels of the noise on the user's own data, from `--noise` and `--noise_levels`.

    Without `--noise_levels`, high_frequency and low_frequency have the levels of the built-in data sets.

    Args:
        options: Settings of the user's own data.
        task: "classes", "binary" or "regression".
        image_shape: (height, width, channels) of the inputs, or None for vectors.
        where: Name of the data in error messages.

    Returns: The levels in the order of `--noise_ind`; (0,) without noise. Also (0,) for label or gaussian noise without
        levels, which occurs only in settings whose combination is not checked (`Settings.draft`).

    Raises `UserError` for invalid levels, and for data to which the noise does not apply.
    """
    kind, text = options.noise, options.noise_levels
    if not kind or (not text and kind not in SPECTRAL):
        return (0,)
    try:
        levels = [float(one) for one in text.split(",")] if text else []
    except ValueError:
        levels = [math.nan]
    if not all(math.isfinite(level) and level >= 0 for level in levels):
        raise UserError(f"--noise_levels takes numbers from 0 on, such as 0,0.5,1. Received: {text[:60]!r}.")
    if kind in SPECTRAL and (image_shape is None or image_shape[0] != image_shape[1]):
        what = "vectors" if image_shape is None else f"images of {image_shape[0]}x{image_shape[1]}"
        advice = "--noise=gaussian takes any inputs." if image_shape is None else "Give --image_size, or resize them."
        raise UserError(f"--noise={kind} needs square images, and {where} has {what}. {advice}")
    if not text and image_shape is not None:
        return STRENGTHS if kind == "high_frequency" else published_thresholds(image_shape[0])
    if kind == "label":
        if task == "regression":
            raise UserError(f"--noise=label needs classes, and {where} is a regression. Use --noise=gaussian.")
        if max(levels) > 1:
            raise UserError(f"Label noise is a share of the labels, from 0 to 1. Received: --noise_levels={text[:60]}.")
    if kind == "low_frequency":
        side = image_shape[0] if image_shape else 0
        if any(level != int(level) or level > side for level in levels):
            raise UserError(f"--noise=low_frequency replaces k x k frequencies, k = 0..{side}. Received: "
                            f"--noise_levels={text[:60]}.")  # fmt: skip
        return tuple(int(level) for level in levels)
    return tuple(levels)


def published_thresholds(side: int) -> tuple[int, ...]:
    """Return the default levels of the noise low_frequency: thresholds k for images of `side` x `side` pixels.

    At the level k, the k x k lowest frequencies are replaced. The thresholds are those of the built-in data sets for
    sides of 8, 28 and 32. For other sides, those of 32 are multiplied by `side` / 32 and rounded down; equal ones are
    kept once.
    """
    known = {8: THRESHOLDS_8, 28: THRESHOLDS_28, 32: THRESHOLDS_32}
    return known.get(side) or tuple(sorted({threshold * side // 32 for threshold in THRESHOLDS_32}))


def noisy_images(
    kind: str, parts: dict[str, np.ndarray], shape: tuple[int, int, int], level: int | float
) -> dict[str, np.ndarray]:
    """Add noise to the high frequencies of images, or replace their low frequencies by noise, and normalise the images.

    Each image is centred and scaled to norm √d, d = height · width · channels: for "high_frequency" it is scaled after
    the noise is added, for "low_frequency" before frequencies are replaced. Colour images with "low_frequency" are
    treated differently: after the replacement, each channel is standardised over the noisy train images.

    The noise is drawn by NumPy's legacy generator with the seed 2048: first for the train rows, then for the test rows,
    then for the validation rows.

    Args:
        kind: "high_frequency" or "low_frequency".
        parts: All images of each part of the data by name: "train", and "test" or "validation" or both.
        shape: (height, width, channels) of an image.
        level: The noise level. For "high_frequency" this is τ, the Euclidean norm of the noise of an image divided by
            that of the centred image; for "low_frequency" it is k, and the k x k lowest frequencies are replaced.

    Returns: Float32 rows (n, d) by part.
    """
    from linearized.data.transforms import noise

    others = [name for name in ("test", "validation") if name in parts]
    images = {name: _last(parts[name], shape) for name in parts}
    apply = noise.high_frequency if kind == "high_frequency" else (
        noise.low_frequency if shape[2] == 1 else noise.low_frequency_colour
    )  # fmt: skip
    train, rest = apply(images["train"], np.concatenate([images[name] for name in others]), level, SEED)
    found, start = {"train": train}, 0
    for name in others:
        found[name] = rest[start : start + len(parts[name])]
        start += len(parts[name])
    return found


def _last(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return images as (n, h, w, c), from flat rows or with channels first or last.

    Args:
        x: Images (n, h w c), (n, h, w), (n, h, w, c) or (n, c, h, w).
        shape: (h, w, c).
    """
    x = np.asarray(x)
    return np.moveaxis(x, 1, -1) if x.ndim == 4 and x.shape[1:] != shape else x.reshape(len(x), *shape)


@dataclasses.dataclass(frozen=True)
class CleanImages:
    """Conversion of new images to rows without noise, for a model that was fitted to noisy images.

    Images are centred and scaled to norm √d. Colour images of the noise low_frequency are instead standardised by the
    channel statistics of the train images without noise; `noisy_images` uses those of the noisy train images.

    Attributes:
        columns: Function that converts raw inputs to rows (n, d).
        shape: (height, width, channels).
        mean, spread: Mean and standard deviation of each channel over the train images without noise; None: each image
            is centred and scaled to the norm √d.
    """

    columns: Callable[[Any], np.ndarray]
    shape: tuple[int, int, int]
    mean: np.ndarray | None = None
    spread: np.ndarray | None = None

    def __call__(self, x: Any) -> np.ndarray:
        """Convert raw images `x` to float32 rows (n, d)."""
        from linearized.data.transforms.noise import on_sphere

        rows = self.columns(x)
        if self.mean is None:
            return on_sphere(rows.reshape(len(rows), *self.shape)).reshape(len(rows), -1).astype(np.float32)
        pixels = rows.reshape(-1, len(self.mean))
        return ((pixels - self.mean) / self.spread).reshape(len(rows), -1).astype(np.float32)


def clean_images(kind: str, columns: Callable[[Any], np.ndarray], x: Any, shape: tuple[int, int, int]) -> CleanImages:
    """Return the conversion of new images to rows without noise, for a model that was fitted to noisy images.

    Args:
        kind: "high_frequency" or "low_frequency".
        columns: Function that converts raw inputs to rows (n, d).
        x: Raw train inputs without noise, which are used only for colour images of low_frequency: for the mean and the
            standard deviation of each channel.
        shape: (height, width, channels) of an image.
    """
    if kind == "high_frequency" or shape[2] == 1:
        return CleanImages(columns, shape)
    from linearized.data.transforms.noise import channel_statistics

    return CleanImages(columns, shape, *channel_statistics(columns(x).astype(np.float64), shape[2]))


def noisy_labels(labels: np.ndarray, num_classes: int, share: float) -> np.ndarray:
    """Replace each train label with probability `share` by a class drawn uniformly; return the new class numbers.

    The drawn class may be the original one. The random numbers come from a fixed seed.

    Args:
        labels: Class numbers (n,) of all train rows.
        num_classes: Number of classes.
        share: Probability p of a replacement.
    """
    random = np.random.default_rng([SEED, 1])
    replaced = random.random(len(labels)) < share
    return np.where(replaced, random.integers(num_classes, size=len(labels)), labels)


def add_gaussian(rows: dict[str, np.ndarray], numbers: dict[str, np.ndarray], level: float) -> dict[str, np.ndarray]:
    """Add independent normal noise to rows, and return new rows by part.

    The standard deviation is `level` times the square root of the mean variance of the columns of `rows["train"]`. The
    random numbers come from fixed seeds: one for each block of 1,024 rows of each complete part.

    Args:
        rows: Rows (n, d) by part: "train", "test", "validation".
        numbers: Index of each row within its complete part, which determines its noise.
        level: The noise level σ.
    """
    scale = np.float32(level * math.sqrt(float(rows["train"].var(axis=0, dtype=np.float64).mean())))
    noisy = {}
    for place, name in enumerate(("train", "test", "validation")):
        if name not in rows:
            continue
        noisy[name] = out = rows[name].copy()
        for block in np.unique(numbers[name] // BLOCK):
            mine = np.flatnonzero(numbers[name] // BLOCK == block)
            drawn = np.random.default_rng([SEED, 2, place, int(block)]).standard_normal(
                (BLOCK, out.shape[1]), dtype=np.float32
            )
            out[mine] += scale * drawn[numbers[name][mine] % BLOCK]
    return noisy
