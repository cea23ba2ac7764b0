"""What the kernels' builders share: refusing settings that a kernel does not have."""

import dataclasses

from data.errors import UserError
from kernel_gen.settings import KernelSettings

COMMON = ("kernel", "kind", "dtype", "scale")


def refuse_others(settings: KernelSettings, name: str, *used: str) -> None:
    """Raises `UserError` if a kernel setting other than those that kernel `name` uses is not at its default."""
    for field in dataclasses.fields(KernelSettings):
        received = getattr(settings, field.name)
        if field.name not in (*COMMON, *used) and received != field.default:
            raise UserError(f"{name} does not use {field.name}. Leave it at {field.default!r}. Received: {received!r}.")


def only_scale(settings: KernelSettings, name: str) -> str:
    """The scale "stax"; raises `UserError` if the inputs' own scale is asked of a kernel that does not have it."""
    if settings.scale == "input":
        raise UserError(f"{name} has one scale. Leave scale at published or stax. Received: 'input'.")
    return "stax"
