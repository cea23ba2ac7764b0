"""CNN: the Myrtle networks of 5, 7 and 10 layers, 3x3 convolutions and average pools (arXiv 2003.02237, 2006.13409).

Penalty: λ Σ‖kernel‖² over the convolutions; none on biases and readout.
"""

from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.layers.initializers import SeededNormal
from linearized.models.common import image_input, penalty, readout, refuse_settings

LINEAR = False
GROUPS = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}  # convolutions before each of the first three pools
LAST_POOLS = 2
BIAS = 0.01


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> keras.Model:
    """An uncompiled model from flat rows (n, d) to outputs (n, k).

    Pools are padded at the edge where a size is odd, so that images of any size pass the five of them; on 32x32 they
    are the published ones.

    Args:
        config: num_units (channels of every convolution), depth (5, 7 or 10, counting the readout), seed.
        ridge: λ of the penalty above.

    Raises `UserError` if the rows are not images, or for another depth.
    """
    refuse_settings(config, "CNN", num_layers=1, drop_rate=0.0)
    inputs, x = image_input(dataset, "CNN")
    if config.depth not in GROUPS:
        raise UserError(f"--depth must be one of {', '.join(map(str, GROUPS))}. Received: {config.depth}.")
    channels = config.num_units
    stddev = np.sqrt(2 / (9 * channels))
    layer = 0
    for group, convolutions in enumerate(GROUPS[config.depth] + (0,) * LAST_POOLS, start=1):
        for _ in range(convolutions):
            layer += 1
            x = keras.layers.Conv2D(
                channels,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=SeededNormal(stddev, (config.seed, layer)),
                bias_initializer=keras.initializers.Constant(BIAS),
                kernel_regularizer=penalty(ridge),
                name=f"conv_{layer}",
            )(x)
        x = keras.layers.AveragePooling2D(2, padding="same", name=f"pool_{group}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, readout(dataset, x.shape[-1], config.seed)(x), name="CNN")
