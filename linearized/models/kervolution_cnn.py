"""KERV_CNN: the Myrtle networks of `cnn` with kervolutions in the place of convolutions (CVPR 2019, arXiv 2003.02237).

Each kervolution is followed by batch normalisation, which brings the kernels' ranges together ((0, 1) of a Gaussian,
cubes of a polynomial), and a relu. Penalty: λ Σ‖filters‖² over the kervolutions; none on the rest.
"""

from typing import Any

import keras

from linearized.data.dataset import Dataset
from linearized.models.cnn import GROUPS, LAST_POOLS
from linearized.models.common import batch_norm, image_input, readout, refuse_settings
from linearized.models.kervolutions import kervolution

LINEAR = False


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> keras.Model:
    """An uncompiled model from flat rows (n, d) to outputs (n, k).

    Args:
        config: num_units (channels of every kervolution), depth (5, 7 or 10, counting the readout), seed, and
            `linearized.settings.model_settings.KervolutionSettings`.
        ridge: λ of the penalty above.

    Raises `UserError` if the rows are not images, and for settings that the kernel does not have.
    """
    refuse_settings(config, "KERV_CNN", num_layers=1, drop_rate=0.0)
    inputs, x = image_input(dataset, "KERV_CNN")
    layer = 0
    for group, kervolutions in enumerate(GROUPS[config.depth] + (0,) * LAST_POOLS, start=1):
        for _ in range(kervolutions):
            layer += 1
            kernel = config.kervolution_kernel if layer <= (config.kervolution_layers or layer) else "linear"
            x = kervolution(
                config, kernel, ridge, config.num_units, 3, 1, x.shape[-1], (config.seed, layer), f"kervolution_{layer}"
            )(x)
            x = batch_norm(name=f"norm_{layer}")(x)
            x = keras.layers.ReLU(name=f"relu_{layer}")(x)
        x = keras.layers.AveragePooling2D(2, padding="same", name=f"pool_{group}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, readout(dataset, x.shape[-1], config.seed)(x), name="KERV_CNN")
