"""STAX: any architecture that neural_tangents.stax can say, computed by neural_tangents."""

from data.errors import UserError
from kernel_gen.kernels.checks import only_scale, refuse_others
from kernel_gen.settings import KernelSettings
from kernel_gen.stax import StaxKernel, from_stax


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> StaxKernel:
    """The kernel of the expression `architecture`; its layers decide whether rows or images go in."""
    refuse_others(settings, "STAX", "architecture")
    only_scale(settings, "STAX")
    if not settings.architecture:
        raise UserError("STAX needs an architecture, such as --architecture='serial(Dense(1), Relu(), Dense(1))'.")
    return from_stax(settings.architecture, kind=settings.kind, dtype=settings.dtype, image_shape=image_shape)
