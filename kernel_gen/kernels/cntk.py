"""CNTK: kernels of convolutional networks (Myrtle-5, 7, 10, or plain convolutions with a head).

ReLU networks take the fused kernel (`kernel_gen.cntk.fused`), others the recursion on whole covariances in JAX
(`kernel_gen.cntk.general_jax`).
"""

from kernel_gen.activations import name_of
from kernel_gen.cntk.architecture import myrtle, plain
from kernel_gen.cntk.fused import Cntk
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings


def build(settings: KernelSettings, image_shape: tuple[int, int, int] | None) -> Cntk:
    """Return the kernel of `settings.depth`, `settings.head` and `settings.kind` on images (height, width, channels).

    Raises `UserError` where there are no images, or a pool does not divide them.
    """
    if image_shape is None or len(image_shape) != 3 or min(image_shape) < 1:
        raise UserError(
            f"A CNTK needs images (height, width, channels). Received: {image_shape}. "
            "Take a dataset of images, or --kernel=NTK."
        )
    network = myrtle(settings.depth) if settings.head == "myrtle" else plain(settings.depth, settings.head)
    image_shape = tuple(int(size) for size in image_shape)
    if name_of(settings.activation) == "relu":
        return Cntk(network, image_shape, settings)
    from kernel_gen.cntk.general_jax import GeneralCntk  # here, so that ReLU networks start without JAX

    return GeneralCntk(network, image_shape, settings)
