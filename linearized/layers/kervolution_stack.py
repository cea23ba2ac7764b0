"""Warning for stacks of kervolutions without a normalisation in between; training such stacks mostly diverges."""

import warnings
from typing import Any

from keras import layers

# Layers that do not affect the growth of a stack, because they keep the size of their inputs.
PASSES = (
    layers.ReLU, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D,
    layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D, layers.AveragePooling1D, layers.AveragePooling2D,
    layers.AveragePooling3D, layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D,
)  # fmt: skip
UNBOUNDED = ("linear", "relu")  # activations that do not bound the outputs of a layer
MOST = {"polynomial": 2, "l1": 1, "l2": 1}  # kernel -> largest number of stacked layers that causes no warning
DISTANCES = ("l1", "l2")  # kernels that count as one kind in a stack, because both increase the size of their inputs
WHY = {
    "polynomial": "their gradients grow with a power of the inputs, and plain SGD diverges at usual rates",
    "l1": "each one multiplies the mean square of its inputs by about the square of a patch's length",
    "l2": "each one multiplies the mean square of its inputs by about the length of a patch",
}


def warn_of_stack(layer: Any, x: Any) -> None:
    """Warn if a kervolution follows other kervolutions of its kind with no normalisation in between (a "stack").

    There are two kinds: polynomial kervolutions of degree 2 or more, and kervolutions with the kernel "l1" or "l2".
    Each stack causes one warning: at its third polynomial kervolution, or at its second one with "l1" or "l2".

    A stack is not an error, because it can be trained at a low learning rate. A bounded activation ends a stack.

    Args:
        layer: Layer that is called.
        x: Input of the layer. The stack is read from the history of a symbolic tensor. A tensor with values has no
            history, so there is no warning for layers that are called in a subclassed model.
    """
    kernel = _growing(layer)
    if kernel is None or getattr(x, "_keras_history", None) is None:
        return
    before = _length(x, kernel)
    if before == MOST[kernel]:
        other = " or another distance" if kernel in DISTANCES else ""
        warnings.warn(
            f"{layer.name!r} is kervolution number {before + 1} with the {kernel} kernel{other} without a "
            f"normalisation in between: {WHY[kernel]}. Put a BatchNormalization after each one, or lower the learning "
            "rate.",
            stacklevel=3,
        )


def _growing(layer: Any) -> str | None:
    """Return the name of a layer's kernel if its outputs may grow in a stack of kervolutions, else None.

    The outputs grow with the kernels "l1" and "l2", and with "polynomial" of degree 2 or more.
    """
    kernel = getattr(layer, "kernel_name", None)
    linear = kernel == "polynomial" and layer._degree() == 1
    return kernel if kernel in MOST and not linear else None


def _length(x: Any, kernel: str) -> int:
    """Return how many kervolutions of the given kernel precede a tensor, up to the first other layer.

    ReLU, dropout, padding and pooling layers in between are skipped, because outputs still grow through them.

    Args:
        x: Symbolic tensor, whose history is followed backwards.
        kernel: Name of the kernel. The kernels "l1" and "l2" count as the same.
    """
    alike = DISTANCES if kernel in DISTANCES else (kernel,)
    count = 0
    while True:
        layer, node, _ = x._keras_history
        unbounded = getattr(getattr(layer, "activation", None), "__name__", "") in UNBOUNDED
        if unbounded and _growing(layer) in alike:
            count += 1
        elif not (isinstance(layer, PASSES) or (unbounded and isinstance(layer, layers.Activation))):
            return count
        x = layer._inbound_nodes[node].input_tensors[0]
