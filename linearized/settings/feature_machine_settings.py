"""Settings of a recursive feature machine (`--kernel=RFM`), and the kernels that it accepts.

A feature machine learns the metric of a kernel whose gradients are known in closed form. The module of such a kernel
has `GRADIENTS`, the condition on its settings under which they are known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from linearized.base.errors import UserError
from linearized.base.lists import listed_numbers
from linearized.settings.gram_settings import KERNELS, KernelSettings


def with_gradients() -> list[str]:
    """Return the names of the kernels whose gradients are known, at least under some settings."""
    return [name for name in KERNELS if hasattr(KERNELS.load(name), "GRADIENTS")]


def refuse_without_gradients(name: str, settings: KernelSettings) -> None:
    """Raise `UserError` unless the gradients of a kernel are known under these settings; builds nothing."""
    condition = getattr(KERNELS.load(name), "GRADIENTS", None)
    if condition is None:
        raise UserError(
            f"A feature machine needs the gradients of its kernel, which are known of {', '.join(with_gradients())}. "
            f"Received: {name}."
        )
    if not condition.holds(settings):
        raise UserError(f"The gradients of {name} are known with {condition} alone.")


def bandwidth_factors(settings: KernelSettings) -> list[float]:
    """Return the bandwidths to choose from, in units of the median distance; [1] if the setting is not read."""
    if not settings.reads("rfm_bandwidths"):
        return [1.0]
    return list(dict.fromkeys(listed_numbers(settings.rfm_bandwidths, "rfm_bandwidths", least=1e-6, most=1e6)))


def further_bases(settings: KernelSettings) -> list[str]:
    """Return the base kernels that a search tries besides the settings' own; none if the setting is not read.

    Raises `UserError` for a kernel without gradients.
    """
    if not settings.reads("rfm_bases"):
        return []
    named = [KERNELS.canonical(name.strip()) for name in settings.rfm_bases.split(",") if name.strip()]
    for name in named:
        refuse_without_gradients(name, settings)
    return [name for name in dict.fromkeys(named) if name != settings.base]


def shared_start(variants: Sequence[Mapping[str, Any]], number: int) -> int:
    """Return the index of the first variant with the same fixed kernel as a variant; they share its iteration 0.

    Args:
        variants: Variants as stored in a feature machine's record.
        number: Index of a variant.
    """
    kernels = [(variant["factor"], variant.get("base", "")) for variant in variants]
    return kernels.index(kernels[number])
