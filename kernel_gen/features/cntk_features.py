"""CNTK: features of the kernels of convolutional networks (Myrtle-5, 7 and 10, or plain convolutions with a head).

The kernel itself is in `kernel_gen.kernels.cntk`. The networks are those of `kernel_gen.cntk.architecture`: 3 x 3
convolutions with an activation after each of them, pools, a head and a dense readout.
"""

from typing import TYPE_CHECKING

from kernel_gen.features.reads import NETWORK
from linearized.base.errors import UserError
from linearized.settings.embedding_settings import EmbeddedRows
from linearized.settings.reads import reads

if TYPE_CHECKING:
    from kernel_gen.features.network import Features

READS = reads("kind", "depth", "head", "activation", "weight_std", "bias_std") | NETWORK


def build(settings: EmbeddedRows, image_shape: tuple[int, ...] | None, dim: int) -> "Features":
    """Return the features of the CNTK with `settings.depth`, `settings.head` and `settings.kind`.

    Args:
        settings: Settings of the kernel and of the features.
        image_shape: (height, width, channels); None for rows that are not images.
        dim: Number of columns of the rows, height · width · channels.

    Raises `UserError` if there are no images, a pool does not divide them, the features are too few for the network, or
    `settings.method` is landmarks.
    """
    if image_shape is None or len(image_shape) != 3:
        raise UserError(f"A CNTK needs images (height, width, channels). Received: {image_shape}.")
    if settings.method == "landmarks":
        raise UserError("--method=landmarks has features of NTK and RF. Received: CNTK. Take random or sketch.")
    from kernel_gen.cntk import architecture
    from kernel_gen.features import linear
    from kernel_gen.features.common import activation_of, embedding_of, scale_of
    from kernel_gen.features.network import Features

    myrtle = settings.head == "myrtle"
    network = architecture.myrtle(settings.depth) if myrtle else architecture.plain(settings.depth, settings.head)
    network.stages(*image_shape[:2])  # raises for images that the pools do not divide
    weights = settings.weight_std, settings.bias_std
    layers = []
    for step in network.steps:
        match step:
            case architecture.Conv():
                layers.append(linear.ConvStep((3, 3), weight_std=weights[0], bias_std=weights[1]))
            case architecture.Relu():
                layers.append(activation_of(settings))
            case architecture.AvgPool(side=side):
                layers.append(linear.AvgPoolStep((side, side), (side, side)))
            case architecture.Flatten():
                layers.append(linear.FlattenStep())
            case architecture.GlobalAvgPool():
                layers.append(linear.GlobalAvgPoolStep())
    layers.append(linear.DenseStep(*weights))
    return Features(layers, dim, image_shape, settings.kind, embedding_of(settings), scale=scale_of(settings, "stax"))
