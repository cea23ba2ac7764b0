"""Squared distances ‖x - w‖² between all patches x and filters w of a convolution.

The formula ‖x‖² - 2x·w + ‖w‖² costs one convolution, and its rounding error is a few eps (‖x‖² + ‖w‖²), with eps the
machine precision of the data type. The error is harmless unless the distance is much smaller than the norms. In
float32, no digit of the distance is correct for a patch and a filter of norm 1,000 that differ by 0.1.

Each call therefore checks its own result. If some distance has lost digits, the call recomputes all distances as sums
of squared differences. These sums are accumulated one entry of the patch at a time. They store one number per output,
and take as many passes over the outputs as a patch has entries. Derivatives are always computed from the formula with
norms; their relative error is only eps ‖x‖ / ‖x - w‖.
"""

import itertools
from typing import Any

import numpy as np
from keras import ops

from linearized.layers.patches import convolve

SHARE = 0.02  # squared distances above this share of ‖x‖² + ‖w‖² have relative errors of at most about 1e-5
EXPONENT = 8.0  # where γ(‖x‖² + ‖w‖²) is below it, rounding changes Gaussian exponents by at most about 4e-6


def scaled_squares(layer: Any, x: Any, weights: Any, scale: Any) -> Any:
    """Return scale·‖x - w‖² of each patch x and filter w, in the shape of the outputs of `layer`.

    Args:
        layer: Keras convolution. Its kernel size, strides, padding, dilation, groups and data format apply.
        x: Inputs of the layer, in float32 or float64.
        weights: Filters `(*kernel_size, channels / groups, filters)`, in the data type of `x`.
        scale: 1.0 for squared distances, or -γ (a number or a scalar tensor) for the exponents of a Gaussian. Exponents
            need only absolute accuracy, so the costlier sum of squared differences is used more rarely for them. The
            filters and norms are multiplied by `scale` before the outputs are computed, which takes no additional pass
            over the outputs.

    Rounding can give a result near 0 the wrong sign. The absolute error is then a few eps (‖x‖² + ‖w‖²), multiplied by
    the absolute value of `scale`; eps is the machine precision.
    """
    gaussian = not (isinstance(scale, float) and scale > 0)
    patches = _of_patches(layer, x, scale)
    filters = by_filter(layer, ops.sum(ops.square(weights), axis=tuple(range(layer.rank + 1))) * scale)
    squares = convolve(layer, x, weights * (-2 * scale)) + filters + patches

    formula, norms, own_x, own_weights, factor = map(ops.stop_gradient, (squares, patches + filters, x, weights, scale))

    def some_cancel():
        return ops.any(ops.abs(formula) < SHARE * ops.abs(norms))

    if gaussian:
        large = ops.min(patches) + ops.min(filters) < -EXPONENT
        cancel = ops.cond(large, some_cancel, lambda: ops.zeros((), dtype="bool"))
    else:
        cancel = some_cancel()
    exact = ops.cond(
        cancel,
        lambda: differences(layer, own_x, own_weights, squared=True) * ops.cast(factor, x.dtype),
        lambda: formula,
    )
    return _with_value(squares, exact)


def by_filter(layer: Any, values: Any) -> Any:
    """Reshape one number per filter so that it can be added to the outputs of a convolution in its data format.

    Args:
        layer: Keras convolution.
        values: One number per filter, such as the bias.
    """
    return values if layer.data_format == "channels_last" else ops.reshape(values, (1, -1, *(1,) * layer.rank))


def _of_patches(layer: Any, x: Any, scale: Any) -> Any:
    """Return scale·‖x‖² of every patch x, in a shape that broadcasts against the outputs of a convolution.

    Squares are summed over the channels and then over the patch, by a convolution with ones.

    Args:
        layer: Keras convolution whose patches are taken.
        x: Inputs of the layer.
        scale: Factor of the squared norms.
    """
    axis = -1 if layer.data_format == "channels_last" else 1
    squares = ops.square(x)
    if layer.groups == 1:
        squares = ops.sum(squares, axis=axis, keepdims=True)
        return convolve(layer, squares, ops.full((*layer.kernel_size, 1, 1), scale, dtype=x.dtype))
    ones = ops.ones((*layer.kernel_size, x.shape[axis] // layer.groups, layer.groups), dtype=x.dtype)
    norms = convolve(layer, squares, ones * scale)
    return ops.repeat(norms, layer.filters // layer.groups, axis=axis)


@ops.custom_gradient
def _with_value(formula, value):
    """Return a tensor that has the value of `value` and the derivatives of `formula`.

    Args:
        formula: Tensor that receives the derivatives.
        value: More accurate result of the same shape, which is not differentiated.
    """

    def grad(*args, upstream=None):
        slope = args[0] if upstream is None else upstream
        return slope, ops.zeros_like(slope)

    return value, grad


def differences(layer: Any, x: Any, weights: Any, squared: bool) -> Any:
    """Return Σ (x - w)² or `Σ |x - w|` of each patch x and filter w, summed one entry of the patch at a time.

    Do not differentiate through this function. Padding counts as zeros.

    Args:
        layer: Keras convolution. Its kernel size, strides, padding, dilation, groups and data format apply.
        x: Inputs of the layer.
        weights: Filters `(*kernel_size, channels / groups, filters)`, in the data type of `x`.
        squared: Whether differences are squared; otherwise their absolute values are summed.

    Returns:
        Tensor in the shape of the outputs of `layer`.
    """
    rank, first = layer.rank, layer.data_format == "channels_first"
    x = ops.transpose(x, (1, 0, *range(2, rank + 2))) if first else ops.transpose(x, (rank + 1, *range(rank + 1)))
    window, (channels, filters) = layer.kernel_size, weights.shape[-2:]
    sizes = tuple(ops.shape(x)[2:])
    spans = [(length - 1) * rate + 1 for length, rate in zip(window, layer.dilation_rate, strict=True)]
    before, counts = zip(*map(_places, [layer] * rank, range(rank), sizes, spans), strict=True)
    edges = [0 if layer.padding == "valid" else span - 1 for span in spans]
    x = ops.pad(x, [[0, 0], [0, 0], *([edge, edge] for edge in edges)])
    x = ops.reshape(x, (layer.groups, channels, *ops.shape(x)[1:]))
    starts = np.array(list(itertools.product(*map(range, window)))) * np.array(layer.dilation_rate)
    entries = len(starts) * channels
    starts = ops.convert_to_tensor(np.repeat(starts, channels, axis=0), dtype="int32")
    origin = ops.stack([ops.cast(edge - left, "int32") for edge, left in zip(edges, before, strict=True)])
    flat = ops.reshape(weights, (-1, layer.groups, *(1,) * (rank + 1), filters // layer.groups))
    extents = [(count - 1) * stride + 1 for count, stride in zip(counts, layer.strides, strict=True)]
    steps = tuple(slice(None, None, stride) for stride in layer.strides)

    def term(entry):
        entry = ops.cast(entry, "int32")
        lead = ops.stack([ops.zeros_like(entry), entry % channels, ops.zeros_like(entry)])
        at = ops.concatenate([lead, origin + ops.take(starts, entry, axis=0)])
        seen = ops.slice(x, at, (layer.groups, 1, ops.shape(x)[2], *extents))
        gap = ops.expand_dims(seen[(slice(None), 0, slice(None), *steps)], -1) - ops.take(flat, entry, axis=0)
        return ops.square(gap) if squared else ops.abs(gap)

    total = ops.fori_loop(0, entries, lambda entry, total: total + term(entry), ops.zeros_like(term(0)))
    total = ops.moveaxis(total, 0, -2)
    total = ops.reshape(total, (*ops.shape(total)[:-2], filters))
    return ops.transpose(total, (0, rank + 1, *range(1, rank + 1))) if first else total


def _places(layer: Any, axis: int, size: Any, span: int) -> tuple[Any, Any]:
    """Return the padding before the inputs of a convolution and the number of its windows, along one spatial axis.

    The padding is counted in entries.

    Args:
        layer: Keras convolution, whose padding and strides apply.
        axis: Index of the spatial axis.
        size: Length of the inputs along this axis.
        span: Length of a window along this axis, including the gaps of dilation.
    """
    stride = layer.strides[axis]
    if layer.padding == "valid":
        return 0, (size - span) // stride + 1
    count = -(-size // stride)
    if layer.padding == "causal":
        return span - 1, count
    missing = (count - 1) * stride + span - size
    missing = max(missing, 0) if isinstance(missing, int) else ops.maximum(missing, 0)
    return missing // 2, count
