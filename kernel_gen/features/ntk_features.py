"""NTK: features of the kernel of a fully connected network of `num_layers` hidden layers.

The kernel itself is in `kernel_gen.kernels.ntk`.
"""

from typing import TYPE_CHECKING

from kernel_gen.features.reads import NETWORK
from linearized.settings.embedding_settings import EmbeddedRows
from linearized.settings.reads import reads

if TYPE_CHECKING:
    from kernel_gen.features.function import FeatureFunction

READS = reads("kind", "num_layers", "dense_layers", "weight_std", "bias_std", "activation") | NETWORK


def build(settings: EmbeddedRows, image_shape: tuple[int, ...] | None, dim: int) -> "FeatureFunction":
    """Return features whose products approximate the NTK or NNGP kernel of the network that the settings describe.

    The network is fully connected, and images are treated as rows. With the setting `scale` = "stax" inputs are divided
    by √d for d columns; with "input" they are not. "published" stands for "input" with one hidden layer of ReLUs, and
    for "stax" otherwise.

    Args:
        settings: Settings of the kernel and of the features.
        image_shape: (height, width, channels) or None; not used.
        dim: Number of columns of the rows.
    """
    from kernel_gen.features.common import activation_of, embedding_of, landmarks_of, scale_of
    from kernel_gen.features.linear import DenseStep
    from kernel_gen.features.network import Features

    if settings.method == "landmarks":
        return landmarks_of(settings, dim)
    raw = settings.num_layers == 1 and activation_of(settings) == activation_of(None)
    scale = scale_of(settings, "input" if raw else "stax")
    dense = DenseStep(settings.weight_std, settings.bias_std)
    layers = [dense] + [layer for _ in range(settings.num_layers) for layer in (activation_of(settings), dense)]
    return Features(layers, dim, None, settings.kind, embedding_of(settings), scale=scale)
