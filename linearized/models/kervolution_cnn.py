"""KERV_CNN: the Myrtle networks of `cnn` with kervolutions in the place of convolutions (CVPR 2019, arXiv 2003.02237).

Each kervolution is followed by batch normalisation, which brings the kernels' ranges together ((0, 1) of a Gaussian,
cubes of a polynomial), and a relu. Penalty: λ Σ‖filters‖² over the kervolutions; none on the rest.
"""

from typing import Any

import keras
import numpy as np

from data.dataset import Dataset
from data.errors import UserError
from linearized.layers.initializers import SeededNormal
from linearized.layers.kervolution import DISTANCES, Kervolution2D
from linearized.models.cnn import GROUPS, LAST_POOLS
from linearized.models.common import batch_norm, image_input, penalty, readout, refuse_settings

LINEAR = False


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> keras.Model:
    """An uncompiled model from flat rows (n, d) to outputs (n, k).

    Args:
        config: num_units (channels of every kervolution), depth (5, 7 or 10, counting the readout), seed, and
            `linearized.model_settings.KervolutionSettings`.
        ridge: λ of the penalty above.

    Raises `UserError` if the rows are not images, and for settings that the kernel does not have.
    """
    refuse_settings(config, "KERV_CNN", num_layers=1, drop_rate=0.0)
    inputs, x = image_input(dataset, "KERV_CNN")
    layer = 0
    for group, kervolutions in enumerate(GROUPS[config.depth] + (0,) * LAST_POOLS, start=1):
        for _ in range(kervolutions):
            layer += 1
            x = _kervolution(config, ridge, layer, x.shape[-1])(x)
            x = batch_norm(name=f"norm_{layer}")(x)
            x = keras.layers.ReLU(name=f"relu_{layer}")(x)
        x = keras.layers.AveragePooling2D(2, padding="same", name=f"pool_{group}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, readout(dataset, x.shape[-1], config.seed)(x), name="KERV_CNN")


def _kervolution(config: Any, ridge: float, layer: int, channels: int) -> Kervolution2D:
    """Filters start as far apart as patches are where the kernel is a distance, else as He et al. have them."""
    first = config.kervolution_layers
    kernel = config.kervolution_kernel if not first or layer <= first else "linear"
    options = {} if kernel == "linear" != config.kervolution_kernel else _options(config)
    stddev = 1.0 if kernel in DISTANCES else np.sqrt(2 / (9 * channels))
    try:
        return Kervolution2D(
            config.num_units,
            3,
            kernel=kernel,
            **options,
            padding="same",
            use_bias=False,  # the normalisation has one
            kernel_initializer=SeededNormal(stddev, (config.seed, layer)),
            kernel_regularizer=penalty(ridge),
            name=f"kervolution_{layer}",
        )
    except ValueError as error:
        raise UserError(f"The --kervolution_ flags do not go together. {error}") from error


def _options(config: Any) -> dict[str, Any]:
    return {
        "degree": config.kervolution_degree,
        "offset": config.kervolution_offset,
        "gamma": config.kervolution_gamma,
        "learnable": config.kervolution_learnable,
    }
