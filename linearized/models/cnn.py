"""CNN: the Myrtle networks of 5, 7 and 10 layers, 3x3 convolutions and average pools (arXiv 2003.02237, 2006.13409).

Penalty: λ Σ‖kernel‖² over the convolutions; biases and the readout have no penalty. Networks in other parametrizations
than "published" have no biases. Their penalty is Σ (λ/r_l)‖kernel_l‖² over the convolutions l, where r_l is the factor
of the layer's learning rate, see `linearized.models.parametrization`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.models.declaration import Declaration
from linearized.models.parametrization import Scaling, check_pairs
from linearized.settings.model_settings import PARAMETRIZATION, ParametrizationSettings
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras

GROUPS = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}  # depth -> convolutions before each of the first three pools
LAST_POOLS = 2  # number of pools that follow the last convolution and its pool
BIAS = 0.01  # initial value of the biases


def check_depth(config: Any) -> None:
    """Raise `UserError` if the setting `config.depth` is not 5, 7 or 10."""
    if config.depth not in GROUPS:
        raise UserError(f"--depth must be one of {', '.join(map(str, GROUPS))}. Received: {config.depth}.")


def one_convolution(config: Any, _dim: int, _outputs: int) -> int:
    """Return the number of weights of a 3x3 convolution between `config.num_units` channels.

    This is a lower bound of the number of parameters of a convolutional model, for `Declaration.parameters`.

    Args:
        config: Setting num_units, the number of input and of output channels.
        _dim: Length of a row, which is not used.
        _outputs: Number of outputs, which is not used.
    """
    return 9 * config.num_units**2


def convolved(config: Any, _dim: int, _outputs: int) -> int:
    """Return the number of multiplications in all convolutions of a Myrtle network except the first, for one image.

    This is a lower bound of the multiplications of the network, for `Declaration.multiplications`.

    Args:
        config: Settings depth and num_units, and the data set, whose image shape is read.
        _dim: Length of a row, which is not used.
        _outputs: Number of outputs, which is not used.
    """
    height, width, _ = config.described().image_shape
    counts = list(GROUPS[config.depth])
    counts[0] -= 1
    return sum(count * (height >> group) * (width >> group) for group, count in enumerate(counts)) * one_convolution(
        config, 0, 0
    )


def _check(config: Any) -> None:
    check_depth(config)
    check_pairs(config)


DECLARED = Declaration(
    reads("num_units", "depth", "seed") | PARAMETRIZATION, groups=(ParametrizationSettings,), units=32, images=True,
    optimizer="sgd", ridges="convolutional", batches="convolutional", hidden_layers=lambda config: config.depth - 1,
    parameters=one_convolution, multiplications=convolved, check=_check,
    infinite=lambda config: {"kernel": "CNTK", "depth": config.depth},
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled Myrtle network from flat rows (n, d) to outputs (n, k).

    Pools use padding "same", so that images of any size pass all five pools. For 32x32 images no padding is needed, and
    the network is the one of the two papers.

    Args:
        config: Settings num_units (channels of every convolution), depth (5, 7 or 10, counting the readout), seed,
            parametrization and output_scale.
        dataset: Dataset that determines the image shape and the number of outputs k.
        ridge: λ of the penalty that the module's docstring states.

    Raises:
        UserError: If the rows are not images, or for another depth.
    """
    import keras

    from linearized.layers.initializers import SeededNormal
    from linearized.layers.rated import RatedConv2D
    from linearized.models.common import image_input, penalty, readout

    check_depth(config)
    inputs, x = image_input(dataset, "CNN")
    channels, scaling = config.num_units, Scaling(config)
    stddev = np.sqrt(2 / (9 * channels))
    layer, last = 0, config.depth - 1
    for group, convolutions in enumerate(GROUPS[config.depth] + (0,) * LAST_POOLS, start=1):
        for _ in range(convolutions):
            layer += 1
            shape = {"filters": channels, "kernel_size": 3, "padding": "same", "activation": "relu"}
            if not scaling.published:
                x = scaling.layer(
                    x, RatedConv2D, "input" if layer == 1 else "hidden", 9 * x.shape[-1], channels, number=layer,
                    ridge=ridge, paired="outputs" if layer == last else "", name=f"conv_{layer}", **shape,
                )  # fmt: skip
                continue
            x = keras.layers.Conv2D(
                kernel_initializer=SeededNormal(stddev, (config.seed, layer)),
                bias_initializer=keras.initializers.Constant(BIAS),
                kernel_regularizer=penalty(ridge),
                name=f"conv_{layer}",
                **shape,
            )(x)
        x = keras.layers.AveragePooling2D(2, padding="same", name=f"pool_{group}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    if not scaling.published:
        return keras.Model(inputs, scaling.readout(x, dataset.num_outputs, number=0), name="CNN")
    return keras.Model(inputs, readout(dataset, x.shape[-1], config.seed)(x), name="CNN")
