"""Formulas ("rules") for the derivatives of a model's outputs with respect to the variables of standard Keras layers.

A layer such as Dense or Conv2D computes s = h ⋆ w + b from its inputs h, and applies its activation to s. The tensor s
is called the site of the layer. The derivatives of the model's k outputs with respect to s are called the signals,
(n, k, ...) for n rows, where ... is the shape of s for one row. A rule computes the derivatives with respect to w and b
from h and the signals, without another backward pass. The table `RULES` has one rule for each type of layer, and the
function `found` applies the rule of a layer. All arrays are NumPy arrays in float32.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from linearized.tangents.contributions import Factors, Lookups
from linearized.tangents.patches import channels_last, patches


@dataclasses.dataclass(frozen=True)
class Linear:
    """One call of a layer that computes inputs · kernel + bias at each of its positions (such as pixels or tokens).

    Attributes:
        kernel: Keras variable of the kernel.
        bias: Keras variable of the bias, or None. Derivatives with respect to it are sums of the signals over the
            positions.
        factors: Inputs of length a, and derivatives of the model's k outputs with respect to the b results, at all
            positions for n rows.
        to_kernel: Function that converts derivatives (n, k, a, b) with respect to the kernel to the kernel's shape,
            `(n, k, *kernel.shape)`.
    """

    kernel: Any
    bias: Any
    factors: Factors
    to_kernel: Callable[[np.ndarray], np.ndarray]

    def kernel_gradients(self) -> np.ndarray:
        """Return the derivatives of the k outputs with respect to the kernel for each of n rows, `(n, k, *shape)`."""
        return self.to_kernel(self.factors.gradients().swapaxes(2, 3))

    def flat_gradients(self) -> np.ndarray:
        """Return the derivatives of the k outputs with respect to the p entries of the kernel, (n, k, p).

        The order of the p entries is the same for all rows. It may differ from the order of the entries in the kernel,
        to avoid a copy.
        """
        found = self.factors.gradients()
        return found.reshape(*found.shape[:2], -1)

    def bias_gradients(self) -> np.ndarray:
        """Return the derivatives of the k outputs with respect to the bias for each of n rows, `(n, k, *shape)`."""
        summed = self.factors.signals.sum(axis=1)
        return summed.reshape(*summed.shape[:2], *self.bias.shape)


Found = tuple[list[Linear], list[tuple[Any, np.ndarray]]]


def found(layer: Any, kind: str, inputs: np.ndarray, signals: np.ndarray) -> Found:
    """Apply the rule of a layer to one of its calls, and return the derivatives with respect to the layer's variables.

    Args:
        layer: Keras layer.
        kind: Name of its rule, a key of `RULES`.
        inputs: Inputs of the layer, (n, ...).
        signals: Derivatives of the model's k outputs with respect to the site of the layer (the tensor that is linear
            in the layer's variables), (n, k, ...).

    Returns:
        Two lists. The first has a `Linear` for each kernel that the layer multiplies its inputs by. The second has a
        pair for each other variable: the variable, and the derivatives `(n, k, *shape)` with respect to it.

    Raises:
        ValueError: For an `EinsumDense` layer whose equation is not a matrix product at each position.
    """
    return RULES[kind](layer, inputs, signals)


def _dense(layer: Any, inputs: np.ndarray, signals: np.ndarray) -> Found:
    n, k, b = len(inputs), signals.shape[1], signals.shape[-1]
    factors = _factors(inputs.reshape(n, -1, inputs.shape[-1]), signals.reshape(n, k, -1, b))
    return [_linear(layer.kernel, layer.bias, factors)], []


def _einsum(layer: Any, inputs: np.ndarray, signals: np.ndarray) -> Found:
    """Apply the rule of `EinsumDense`, by writing its equation as a matrix product at each position.

    Each letter of the equation is of one of three types: kept (an axis of positions), contracted (an axis of the inputs
    at a position) or new (an axis of the results at a position). The bias is part of the returned `Linear` if its axes
    are the new letters. Otherwise it is returned as a pair with its derivatives.

    Raises:
        ValueError: For an equation that is not a matrix product at each position.
    """
    one, weights, out = _letters(layer.equation, inputs.ndim)
    kept = [letter for letter in out if letter not in weights]
    new = [letter for letter in out if letter in weights]
    contracted = [letter for letter in weights if letter not in out]
    if set(one) != {*kept, *contracted} or kept[0] != one[0] or out[0] != one[0]:
        raise ValueError(f"the equation {layer.equation} is no product at each position")
    size = dict(zip(one, inputs.shape, strict=True)) | dict(zip(out, (len(inputs), *signals.shape[2:]), strict=True))
    positions, a, b = (math.prod(size[letter] for letter in part) for part in (kept[1:], contracted, new))
    rows = inputs.transpose([one.index(letter) for letter in (*kept, *contracted)])
    order = [1 + out.index(letter) for letter in (*kept[1:], *new)]
    n, k = signals.shape[:2]
    factors = _factors(rows.reshape(n, positions, a), signals.transpose(0, 1, *order).reshape(n, k, positions, b))
    named = [*contracted, *new]

    def to_kernel(gradients: np.ndarray) -> np.ndarray:
        whole = gradients.reshape(n, k, *(size[letter] for letter in named))
        return whole.transpose(0, 1, *(2 + named.index(letter) for letter in weights))

    if layer.bias is None:
        return [Linear(layer.kernel, None, factors, to_kernel)], []
    axes = [letter for letter in out if letter in layer.bias_axes]
    if axes == new:  # the same order of the outputs as in the factors
        return [Linear(layer.kernel, layer.bias, factors, to_kernel)], []
    gradient = signals.sum(axis=tuple(1 + place for place, letter in enumerate(out) if place and letter not in axes))
    return [Linear(layer.kernel, None, factors, to_kernel)], [(layer.bias, gradient.reshape(n, k, *layer.bias.shape))]


def _letters(equation: str, dims: int) -> tuple[str, str, str]:
    """Return the letters of the inputs, the weights and the outputs in an einsum equation.

    Capital letters replace an ellipsis: "...x,xy->...y" with three axes gives ("ABx", "xy", "ABy").

    Args:
        equation: Equation of an `EinsumDense` layer.
        dims: Number of axes of the inputs.
    """
    left, out = equation.replace(" ", "").split("->")
    one, weights = left.split(",")
    named = len(one.replace("...", ""))
    more = "".join(chr(ord("A") + place) for place in range(dims - named)) if "..." in left + out else ""
    return one.replace("...", more), weights.replace("...", ""), out.replace("...", more)


def _conv(layer: Any, inputs: np.ndarray, signals: np.ndarray) -> Found:
    inputs, signals = channels_last(layer, inputs, 1), channels_last(layer, signals, 2)
    n, k, groups, b = len(inputs), signals.shape[1], layer.groups, signals.shape[-1]
    cut = patches(layer, inputs)  # (n, T, window, channels)
    bias = layer.bias if layer.use_bias else None
    if groups == 1:
        factors = _factors(cut.reshape(*cut.shape[:2], -1), signals.reshape(n, k, -1, b))
        return [_linear(layer.kernel, bias, factors)], []
    cut = cut.reshape(*cut.shape[:3], groups, -1)
    divided = signals.reshape(n, k, -1, groups, b // groups)
    gradients = [_factors(cut[..., place, :].reshape(n, cut.shape[1], -1), divided[..., place, :]).gradients()
                 for place in range(groups)]  # fmt: skip
    gradient = np.stack(gradients, axis=-2).swapaxes(2, 4)  # (n, k, a, groups, b / groups)
    return [], [(layer.kernel, gradient.reshape(n, k, *layer.kernel.shape)), *_bias(bias, signals)]


def _depthwise(layer: Any, inputs: np.ndarray, signals: np.ndarray) -> Found:
    inputs, signals = channels_last(layer, inputs, 1), channels_last(layer, signals, 2)
    bias = layer.bias if layer.use_bias else None
    return [], [(layer.kernel, _depthwise_gradients(layer, layer.kernel, inputs, signals)), *_bias(bias, signals)]


def _depthwise_gradients(layer: Any, kernel: Any, inputs: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """Return the derivatives of the k outputs with respect to a depthwise kernel, for each of n rows.

    Args:
        layer: Keras depthwise or separable convolution.
        kernel: Its depthwise kernel.
        inputs: Inputs of the layer, channels last.
        signals: Derivatives of the outputs with respect to the results of the depthwise convolution.

    Returns:
        Derivatives `(n, k, *window, channels, multiplier)`.
    """
    n, k, channels = len(inputs), signals.shape[1], inputs.shape[-1]
    cut = patches(layer, inputs).transpose(0, 3, 2, 1)  # (n, channels, window, T)
    divided = signals.reshape(n, k, cut.shape[3], channels, -1).transpose(0, 3, 2, 1, 4)
    found = np.matmul(cut, divided.reshape(n, channels, cut.shape[3], -1))
    found = found.reshape(n, channels, cut.shape[2], k, -1).transpose(0, 3, 2, 1, 4)
    return found.reshape(n, k, *kernel.shape)


def _separable(layer: Any, inputs: np.ndarray, signals: np.ndarray) -> Found:
    """Apply the rule of a separable convolution: a depthwise convolution, then a matrix product at each pixel.

    The inputs of the matrix product, which are the outputs of the depthwise convolution, are computed here. The matrix
    product is returned as a `Linear`, and the depthwise kernel as a pair with its derivatives.
    """
    inputs, signals = channels_last(layer, inputs, 1), channels_last(layer, signals, 2)
    n, k, b = len(inputs), signals.shape[1], signals.shape[-1]
    depthwise = np.asarray(layer.depthwise_kernel, np.float32)
    pointwise = np.asarray(layer.pointwise_kernel, np.float32).reshape(-1, b)
    cut = patches(layer, inputs)
    middle = np.einsum("ntwc,wcm->ntcm", cut, depthwise.reshape(-1, *depthwise.shape[-2:]), optimize=True)
    middle = middle.reshape(n, cut.shape[1], -1)
    bias = layer.bias if layer.use_bias else None
    part = _linear(layer.pointwise_kernel, bias, _factors(middle, signals.reshape(n, k, -1, b)))
    gradient = _depthwise_gradients(layer, layer.depthwise_kernel, inputs, signals @ pointwise.T)
    return [part], [(layer.depthwise_kernel, gradient)]


def _normalization(layer: Any, inputs: np.ndarray, signals: np.ndarray) -> Found:
    """Apply the rule of a normalisation layer, for the derivatives with respect to its scale γ and its shift β.

    Args:
        layer: Keras batch or layer normalisation.
        inputs: Normalised inputs of the layer, before the multiplication by γ.
        signals: Derivatives of the model's outputs with respect to the outputs of the layer.
    """
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    axes = sorted(axis % inputs.ndim for axis in axes)
    summed = tuple(1 + axis for axis in range(1, inputs.ndim) if axis not in axes)
    found = []
    for variable, values in ((layer.gamma, signals * inputs[:, None]), (layer.beta, signals)):
        if variable is not None:
            found.append((variable, values.sum(axis=summed).reshape(*signals.shape[:2], *variable.shape)))
    return [], found


def _embedding(layer: Any, inputs: np.ndarray, signals: np.ndarray) -> Found:
    n, k, e = len(inputs), signals.shape[1], signals.shape[-1]
    numbers, signals = inputs.reshape(n, -1, 1).astype(np.int64), signals.reshape(n, k, -1, e).transpose(0, 2, 1, 3)
    factors = Lookups(numbers, np.ascontiguousarray(signals), 0.0)

    def to_kernel(_: np.ndarray) -> np.ndarray:
        gradient = np.zeros((n, layer.input_dim, k, e), np.float32)
        np.add.at(gradient, (np.arange(n)[:, None], numbers[..., 0]), factors.signals)
        return gradient.transpose(0, 2, 1, 3)

    return [LookedUp(layer.embeddings, None, factors, to_kernel)], []


class LookedUp(Linear):
    """One call of an embedding layer, treated as the product of one-hot vectors and the embedding matrix."""

    def kernel_gradients(self) -> np.ndarray:
        """Return the derivatives with respect to the embedding matrix, (n, k, words, width), which are mostly 0."""
        return self.to_kernel(self.factors.inputs)

    def flat_gradients(self) -> np.ndarray:
        """Return the derivatives with respect to the embedding matrix as (n, k, p) with p = words · width."""
        found = self.kernel_gradients()
        return found.reshape(*found.shape[:2], -1)


def _factors(inputs: np.ndarray, signals: np.ndarray) -> Factors:
    """Return a `Factors` of inputs (n, T, a) and signals (n, k, T, b), without a bias."""
    return Factors(np.ascontiguousarray(inputs), np.ascontiguousarray(signals.transpose(0, 2, 1, 3)), 0.0)


def _linear(kernel: Any, bias: Any, factors: Factors) -> Linear:
    def to_kernel(gradients: np.ndarray) -> np.ndarray:
        return gradients.reshape(*gradients.shape[:2], *kernel.shape)

    return Linear(kernel, bias, factors, to_kernel)


def _bias(bias: Any, signals: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    return [] if bias is None else [(bias, signals.sum(axis=tuple(range(2, signals.ndim - 1))))]


RULES: dict[str, Callable[[Any, np.ndarray, np.ndarray], Found]] = {
    "dense": _dense, "einsum": _einsum, "conv": _conv, "depthwise": _depthwise, "separable": _separable,
    "normalization": _normalization, "embedding": _embedding,
}  # fmt: skip
