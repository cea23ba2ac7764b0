"""STAX: any architecture that neural_tangents.stax can say, computed by neural_tangents."""

from kernel_gen.stax.network import StaxKernel, from_stax
from linearized.settings.gram_settings import KernelSettings


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> StaxKernel:
    """The kernel of the expression `architecture`; its layers decide whether rows or images go in."""
    return from_stax(
        settings.architecture, kind=settings.kind, dtype=settings.dtype, image_shape=image_shape,
        activation=settings.activation,
    )  # fmt: skip
