"""STAX: the NTK or NNGP of any architecture of the library neural_tangents.stax, computed by that library.

The architecture is given as text, such as `serial(Dense(1), Relu(), Dense(1))`.
"""

from typing import TYPE_CHECKING

from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import reads
from linearized.settings.stax_expression import check_expression, check_inputs

if TYPE_CHECKING:
    from kernel_gen.stax.network import StaxKernel

READS = reads("kind", "architecture", "activation")


def check(settings: KernelSettings) -> None:
    """Raise `UserError` if `settings.architecture` is missing or cannot be read."""
    if not settings.architecture:
        raise UserError("STAX needs an architecture, such as --architecture='serial(Dense(1), Relu(), Dense(1))'.")
    check_expression(settings.architecture, settings.activation)


def check_rows(settings: KernelSettings, image_shape: tuple[int, ...] | None) -> None:
    """Raise `UserError` for an architecture that does not fit the inputs, such as a convolution of rows.

    Args:
        settings: Settings of the kernel.
        image_shape: (height, width, channels) of the rows, or None if they are not images.
    """
    check_inputs(
        settings.architecture, check_expression(settings.architecture, settings.activation), image_shape is not None
    )


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> "StaxKernel":
    """Return the kernel of the architecture `settings.architecture`, an expression of stax layers.

    Args:
        settings: Settings of the kernel.
        image_shape: (height, width, channels) of the rows, or None if they are not images. The layers of the expression
            determine whether the kernel reads them as rows or as images.
    """
    from kernel_gen.stax.network import from_stax

    return from_stax(
        settings.architecture, kind=settings.kind, dtype=settings.dtype, image_shape=image_shape,
        activation=settings.activation,
    )  # fmt: skip
