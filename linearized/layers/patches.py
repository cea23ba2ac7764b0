"""Convolution with the strides and padding of a given layer, and distances ‖x - w‖₁ of its patches x and filters w.

An L1 distance is not an inner product, so it is accumulated in a loop over the positions within a filter and the
channels. Automatic differentiation would store the differences of every iteration. The derivative defined here
recomputes the differences.
"""

import itertools

import numpy as np
from keras import ops


def convolve(layer, x, kernel, data_format=None):
    """Convolve `x` with any filters, with the strides, padding, dilation and data format of a given layer.

    Args:
        layer: Keras convolution whose strides, padding, dilation and data format apply.
        x: Inputs in the data format.
        kernel: Filters `(*kernel_size, channels / groups, filters)`. The numbers of channels and filters may differ
            from the layer's.
        data_format: "channels_last" or "channels_first"; None: the layer's.
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
    """Return ‖x - w‖₁ of each patch x and filter w of a convolution.

    Args:
        layer: Keras convolution whose kernel size, strides, padding, dilation, groups and data format apply.
        x: Inputs in its data format.
        weights: Filters `(*kernel_size, channels / groups, filters)`, in the data type of `x`.

    Returns:
        Tensor in the shape of the convolution's output. The cost is as many additions as the convolution has
        multiplications. The memory is one output and, for the derivative, one copy of the inputs for each position
        within a filter.
    """
    rank, first = layer.rank, layer.data_format == "channels_first"
    if first:
        x = ops.transpose(x, (0, *range(2, rank + 2), 1))
    total = 0.0
    for offset in itertools.product(*map(range, layer.kernel_size)):
        total = total + _at_one_offset(_shifted(layer, x, offset), weights[offset], layer.groups)
    return ops.transpose(total, (0, rank + 1, *range(1, rank + 1))) if first else total


def _shifted(layer, x, offset):
    """Return the inputs at one position within every window of a convolution, `(n, *outputs, channels)`.

    A convolution with a one-hot filter selects the inputs, so that the backend applies strides, padding and dilation.
    The channels are folded into the batch.

    Args:
        layer: Keras convolution whose strides, padding and dilation apply.
        x: Inputs `(n, *sizes, channels)`.
        offset: Indices of the position within the window, one per spatial axis.
    """
    hot = np.zeros((*layer.kernel_size, 1, 1))
    hot[offset] = 1
    sizes, channels = tuple(ops.shape(x)[1:-1]), x.shape[-1]
    folded = ops.reshape(ops.moveaxis(x, -1, 1), (-1, *sizes, 1))
    seen = convolve(layer, folded, ops.convert_to_tensor(hot, dtype=x.dtype), "channels_last")
    return ops.moveaxis(ops.reshape(seen, (-1, channels, *tuple(ops.shape(seen)[1:-1]))), 1, -1)


def _at_one_offset(x, weights, groups):
    """Return the L1 distances `Σ_c |x_c - w_c|` over the channels c at one position within the filters.

    The shape is `(n, *sizes, filters)`. Channels and filters are ordered by group: channel c of group g has the index
    g · channels / groups + c.

    Args:
        x: Inputs at this position of every window, `(n, *sizes, channels)`, as `_shifted` returns them.
        weights: Entries of the filters at this position, (channels / groups, filters).
        groups: Number of groups of the convolution.
    """
    sizes, (channels, filters) = tuple(ops.shape(x)[1:-1]), weights.shape
    by_channel = ops.moveaxis(ops.reshape(x, (-1, *sizes, groups, channels)), -1, 0)
    summed = _summed(by_channel, ops.reshape(weights, (channels, groups, filters // groups)))
    return ops.reshape(summed, (-1, *sizes, filters))


@ops.custom_gradient
def _summed(x, weights):
    """Return `Σ_c |x_c - w_c|`, summed in a loop over the channels c of a group; its derivative stores no differences.

    Args:
        x: Inputs (channels, ..., groups).
        weights: Entries of the filters, (channels, groups, filters).

    Returns:
        Tensor (..., groups, filters), with the number of filters of one group.
    """

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
