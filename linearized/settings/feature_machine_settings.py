"""Settings of a recursive feature machine (`--kernel=RFM`), and the kernels that it accepts.

A feature machine learns the metric of a kernel from gradients of the fitted function, and so needs a kernel whose
gradients are known in closed form. The module of such a kernel has `GRADIENTS`, the condition on the kernel's settings
under which the gradients are known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from linearized.base.errors import UserError
from linearized.base.lists import listed_numbers
from linearized.settings.gram_settings import KERNELS, KernelSettings


def with_gradients() -> list[str]:
    """Return the names of the kernels whose gradients are known in closed form, at least under some settings."""
    return [name for name in KERNELS if hasattr(KERNELS.load(name), "GRADIENTS")]


def refuse_without_gradients(name: str, settings: KernelSettings) -> None:
    """Raise `UserError` unless the gradients of a kernel are known in closed form under these settings.

    The kernel itself is not built.

    Args:
        name: Name of the kernel.
        settings: Settings of the kernel.
    """
    condition = getattr(KERNELS.load(name), "GRADIENTS", None)
    if condition is None:
        raise UserError(
            f"A feature machine needs the gradients of its kernel, which are known of {', '.join(with_gradients())}. "
            f"Received: {name}."
        )
    if not condition.holds(settings):
        raise UserError(f"The gradients of {name} are known with {condition} alone.")


def bandwidth_factors(settings: KernelSettings) -> list[float]:
    """Return the bandwidths that a feature machine tries, in units of the median distance between train rows.

    The result is [1.0] if `--rfm_bandwidths` is not read. Raises `UserError` for text that is not a list of numbers.
    """
    if not settings.reads("rfm_bandwidths"):
        return [1.0]
    return list(dict.fromkeys(listed_numbers(settings.rfm_bandwidths, "rfm_bandwidths", least=1e-6, most=1e6)))


def further_bases(settings: KernelSettings) -> list[str]:
    """Return the names of the kernels that the search of a feature machine tries in addition to `--base`.

    The list is empty if `--rfm_bases` is not read. Raises `UserError` for a kernel whose gradients are not known.
    """
    if not settings.reads("rfm_bases"):
        return []
    named = [KERNELS.canonical(name.strip()) for name in settings.rfm_bases.split(",") if name.strip()]
    for name in named:
        refuse_without_gradients(name, settings)
    return [name for name in dict.fromkeys(named) if name != settings.base]


def shared_start(variants: Sequence[Mapping[str, Any]], number: int) -> int:
    """Return the index of the first variant that starts from the same fixed kernel as a given variant.

    A variant is a combination of base kernel, bandwidth and kind of metric that a feature machine tries. Iteration 0
    uses the kernel before any metric is learned. It is therefore equal for all variants with the same base kernel and
    bandwidth, and stored only for the first one.

    Args:
        variants: Variants as stored in a feature machine's record.
        number: Index of the given variant in `variants`, from 0.
    """
    kernels = [(variant["factor"], variant.get("base", "")) for variant in variants]
    return kernels.index(kernels[number])
