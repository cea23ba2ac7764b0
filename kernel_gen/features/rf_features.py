"""RF: features that approximate the kernel ½ ‖x‖‖z‖ κ₁(c) of infinitely many random ReLU features.

Here c is the correlation (cosine) of x and z, and κ₁(c) = (√(1-c²) + c (π - arccos c))/π. The random neurons themselves
are `RandomRest` in `kernel_gen.features.activation`.
"""

from typing import TYPE_CHECKING

from kernel_gen.features.reads import NETWORK
from linearized.settings.embedding_settings import EmbeddedRows

if TYPE_CHECKING:
    from kernel_gen.features.function import FeatureFunction

READS = NETWORK


def build(settings: EmbeddedRows, image_shape: tuple[int, ...] | None, dim: int) -> "FeatureFunction":
    """Return the features of the RF kernel; the kinds NTK and NNGP are the same kernel.

    The setting `scale` = "published" stands for "input": inputs are not divided by √d for rows of d columns.

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
    layers = [DenseStep(), activation_of(None), DenseStep()]
    return Features(layers, dim, None, "nngp", embedding_of(settings), scale=scale_of(settings, "input"))
