"""CNTK: kernels of convolutional networks of infinite width (Myrtle-5, 7 and 10, or plain convolutions with a head).

`--kind` selects the neural tangent kernel (NTK) or the covariance at initialisation (NNGP). `kernel_gen.cntk.fused`
computes the kernels of ReLU networks, and `kernel_gen.cntk.general_jax` those of networks with other activations.
"""

from typing import TYPE_CHECKING

from kernel_gen.activations import name_of
from kernel_gen.cntk.architecture import myrtle, plain
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import reads

if TYPE_CHECKING:
    from kernel_gen.cntk.fused import Cntk
    from linearized.settings.gram_settings import RowSettings

MYRTLE_DEPTHS = (5, 7, 10)
MYRTLE_POOLS = 5  # number of 2x2 pools of a Myrtle network, which divide the sides of its images by 32
READS = reads("kind", "depth", "head", "activation", "weight_std", "bias_std", "scale", "device")


def check(settings: KernelSettings) -> None:
    """Raise `UserError` for settings for which no kernel exists.

    These are Myrtle networks of a depth other than 5, 7 and 10, and weights with a standard deviation of 0.
    """
    if settings.head == "myrtle" and settings.depth not in MYRTLE_DEPTHS:
        raise UserError(f"Myrtle networks have a --depth of 5, 7 or 10. Received: {settings.depth}.")
    if not settings.weight_std > 0:
        raise UserError(f"A CNTK needs --weight_std above 0. Received: {settings.weight_std}.")


def check_rows(settings: "RowSettings", image_shape: tuple[int, ...] | None) -> None:
    """Raise `UserError` for rows that are not images, and for images whose sides the network's pools do not divide.

    Args:
        settings: Settings of the kernel and of the rows.
        image_shape: (height, width, channels) of the rows, or None if they are not images.
    """
    side = 2**MYRTLE_POOLS
    if image_shape is None:
        raise UserError(
            f"A CNTK needs images (height, width, channels), and the rows of {settings.data_name()} are not images. "
            "Take a dataset of images, or the NTK."
        )
    if settings.head == "myrtle" and (image_shape[0] % side or image_shape[1] % side):
        raise UserError(
            f"Myrtle-{settings.depth} cannot take images of {image_shape[0]}x{image_shape[1]}: its {MYRTLE_POOLS} "
            f"pools need sides that are multiples of {side}. Use --head=gap or --head=flatten, which have no pools."
        )


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None) -> "Cntk":
    """Return the CNTK with `settings.depth`, `settings.head`, `settings.kind` and `settings.activation` on images.

    Args:
        settings: Settings of the kernel.
        image_shape: (height, width, channels); None for rows that are not images.

    Raises `UserError` if there are no images, or a pool of the network does not divide them.
    """
    if image_shape is None or len(image_shape) != 3 or min(image_shape) < 1:
        raise UserError(
            f"A CNTK needs images (height, width, channels). Received: {image_shape}. "
            "Take a dataset of images, or the NTK."
        )
    network = myrtle(settings.depth) if settings.head == "myrtle" else plain(settings.depth, settings.head)
    image_shape = tuple(int(size) for size in image_shape)
    if name_of(settings.activation) == "relu":
        from kernel_gen.cntk.fused import Cntk  # here, so that declarations are read without Numba

        return Cntk(network, image_shape, settings)
    from kernel_gen.cntk.general_jax import GeneralCntk  # here, so that ReLU networks start without JAX

    return GeneralCntk(network, image_shape, settings)
