"""Kervolutions in the place of the convolutions of a network, made from the settings of `KervolutionSettings`."""

from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.layers.initializers import SeededNormal
from linearized.layers.kervolution import DISTANCES, Kervolution2D
from linearized.models.common import penalty


@keras.saving.register_keras_serializable("linearized")
class SeededUniform(SeededNormal):
    """Uniform entries of the standard deviation `stddev`, from the seeds of `SeededNormal`."""

    def __call__(self, shape, dtype=None):
        bound = np.sqrt(3) * self.stddev
        drawn = np.random.default_rng(self.seed).uniform(-bound, bound, tuple(shape)).astype(np.float32)
        return keras.ops.convert_to_tensor(drawn, dtype=dtype or "float32")


def kervolution(
    config: Any, kernel: str, ridge: float, filters: int, size: int, strides: int, channels: int, seed: tuple[int, int],
    name: str, padding: str = "same",
) -> Kervolution2D:  # fmt: skip
    """Return a kervolution without bias, for a network that normalises its outputs.

    Filters start as far apart as patches are where the kernel is a distance, else as He et al. have them; in the
    published variant they start uniform within ±1/√P, P the length of a patch.

    Args:
        config: Settings of the kernel.
        kernel: Its name; "linear" for a convolution, which ignores the settings of another kernel.
        ridge: λ of the penalty λ‖filters‖².
        seed: Of the initial filters.

    Raises `UserError` for settings that the kernel does not have.
    """
    options = {
        "degree": config.kervolution_degree,
        "offset": config.kervolution_offset,
        "gamma": config.kervolution_gamma,
        "learnable": config.kervolution_learnable,
        "variant": config.kervolution_variant,
    }
    if kernel == "linear" != config.kervolution_kernel:
        options = {}
    published = options.get("variant") == "published"
    patch = size * size * channels
    stddev = 1.0 if kernel in DISTANCES else np.sqrt(2 / patch)
    start = SeededUniform((3 * patch) ** -0.5, seed) if published else SeededNormal(stddev, seed)
    try:
        return Kervolution2D(
            filters, size, kernel=kernel, **options, strides=strides, padding=padding, use_bias=False,
            kernel_initializer=start, kernel_regularizer=penalty(ridge), name=name,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"The --kervolution_ flags do not go together. {error}") from error
