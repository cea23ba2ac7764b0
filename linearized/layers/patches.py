"""Convolutions with another layer's geometry, and ‖x - w‖₁ between all patches and filters without their differences.

An L1 distance has no inner product in it, so it is summed offset by offset of the kernel and channel by channel. A
plain derivative would keep every difference of that loop; ours makes them again.
"""

import itertools

import numpy as np
from keras import ops


def convolve(layer, x, kernel, data_format=None):
    """x * kernel with the strides, padding, dilation and data format of `layer`, a Keras convolution.

    Args:
        kernel: (*kernel_size, channels / groups, filters) of any numbers of channels and filters.
        data_format: Where it is not the layer's.
    """
    data_format, padding = data_format or layer.data_format, layer.padding
    if padding == "causal":
        left = [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0]
        x = ops.pad(x, [[0, 0], left, [0, 0]] if data_format == "channels_last" else [[0, 0], [0, 0], left])
        padding = "valid"
    return ops.conv(
        x,
        kernel,
        strides=list(layer.strides),
        padding=padding,
        dilation_rate=layer.dilation_rate,
        data_format=data_format,
    )


def l1_distance(layer, x, weights):
    """‖x - w‖₁ of each patch and filter.

    Args:
        layer: A Keras convolution, whose geometry it has.
        x: Inputs in its data format.
        weights: Filters of shape (*kernel_size, channels / groups, filters), of the dtype of x.

    Returns: A tensor in the shape of the convolution's output. Costs as many additions as the convolution has
        multiplications, at memory of one output and, for the gradient, of the inputs at each offset.
    """
    rank, first = layer.rank, layer.data_format == "channels_first"
    if first:
        x = ops.transpose(x, (0, *range(2, rank + 2), 1))
    total = 0.0
    for offset in itertools.product(*map(range, layer.kernel_size)):
        total = total + _at_one_offset(_shifted(layer, x, offset), weights[offset], layer.groups)
    return ops.transpose(total, (0, rank + 1, *range(1, rank + 1))) if first else total


def _shifted(layer, x, offset):
    """What the filters see at one of their offsets, (n, *outputs, channels): a convolution with a one-hot filter.

    Channels are folded into the batch. So strides, padding and dilation are the backend's own.
    """
    hot = np.zeros((*layer.kernel_size, 1, 1))
    hot[offset] = 1
    sizes, channels = tuple(ops.shape(x)[1:-1]), x.shape[-1]
    folded = ops.reshape(ops.moveaxis(x, -1, 1), (-1, *sizes, 1))
    seen = convolve(layer, folded, ops.convert_to_tensor(hot, dtype=x.dtype), "channels_last")
    return ops.moveaxis(ops.reshape(seen, (-1, channels, *tuple(ops.shape(seen)[1:-1]))), 1, -1)


def _at_one_offset(x, weights, groups):
    """Σ_c |x_c - w_c|: inputs (n, *sizes, channels) and filters (channels / groups, filters) give (n, *sizes, filters).

    Both are in the order of the groups: channel c of group g stands at g · channels / groups + c.
    """
    sizes, (channels, filters) = tuple(ops.shape(x)[1:-1]), weights.shape
    by_channel = ops.moveaxis(ops.reshape(x, (-1, *sizes, groups, channels)), -1, 0)
    summed = _summed(by_channel, ops.reshape(weights, (channels, groups, filters // groups)))
    return ops.reshape(summed, (-1, *sizes, filters))


@ops.custom_gradient
def _summed(x, weights):
    """Σ_c |x_c - w_c| for x (channels, ..., groups), w (channels, groups, filters): (..., groups, filters)."""

    def add(channel, total):
        return total + ops.abs(ops.expand_dims(x[channel], -1) - weights[channel])

    start = ops.zeros_like(ops.expand_dims(x[0], -1) - weights[0])
    total = ops.fori_loop(0, weights.shape[0], add, start)

    def grad(*args, upstream=None):
        slope = args[0] if upstream is None else upstream

        def back(channel):
            one, filters = channel
            signed = slope * ops.sign(ops.expand_dims(one, -1) - filters)
            return ops.sum(signed, axis=-1), -ops.sum(signed, axis=tuple(range(len(signed.shape) - 2)))

        return ops.map(back, (x, weights))

    return total, grad
