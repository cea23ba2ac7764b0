"""The function `check_shape`, which compares the inputs of a layer with the sizes that the layer was built for.

A layer's weights fix some of the sizes of its inputs. Without a check, a call with other sizes ends in an error of the
backend's matrix product or reshape, or in no error at all if broadcasting hides the difference.
"""

from collections.abc import Sequence
from typing import Any


def check_shape(layer: Any, shape: Sequence[int | None], expected: Sequence[int | None], name: str = "x") -> None:
    """Raise ValueError unless `shape` agrees with `expected`.

    Args:
        layer: Layer that is called; its class and name are part of the message.
        shape: Static shape of the argument. A size of None is unknown and passes.
        expected: Sizes that the layer was built for; None stands for any size. A leading `...` stands for any number of
            axes, at least one.
        name: Name of the argument in the message.
    """
    shape, wanted = tuple(shape), tuple(expected)
    if wanted[0] is Ellipsis:
        fits = len(shape) >= len(wanted)
        wanted = (None,) * (len(shape) - len(wanted) + 1) + wanted[1:]
    else:
        fits = len(shape) == len(wanted)
    fits = fits and all(
        size is None or other is None or size == other for size, other in zip(shape, wanted, strict=True)
    )
    if not fits:
        sizes = ", ".join("..." if size is Ellipsis else str(size) for size in expected)
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} was built for `{name}` of shape ({sizes}), where None stands for "
            f"any size. Received: {name}.shape={shape}."
        )
