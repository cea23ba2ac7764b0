"""Functions that cut the inputs of a Keras convolution into the patches that its filters are multiplied by."""

from typing import Any

import numpy as np


def channels_last(layer: Any, values: np.ndarray, first: int) -> np.ndarray:
    """Move the channels of the inputs or outputs of a convolution to the last axis, unless they are there already.

    Args:
        layer: Keras convolution, whose `data_format` is that of `values`.
        values: Array of inputs or outputs.
        first: Axis of the channels in `values` if the data format is "channels_first".
    """
    return values if layer.data_format == "channels_last" else np.moveaxis(values, first, -1)


def patches(layer: Any, inputs: np.ndarray) -> np.ndarray:
    """Return the patches that the filters of a convolution are multiplied by.

    Args:
        layer: Keras convolution with any padding, strides and dilation.
        inputs: Inputs `(n, *sides, channels)`, channels last.

    Returns:
        Array (n, positions, window, channels), with the output positions and the entries of the window flattened.
    """
    sides = range(1, inputs.ndim - 1)
    window, strides = layer.kernel_size, layer.strides
    dilation = layer.dilation_rate if isinstance(layer.dilation_rate, tuple | list) else (layer.dilation_rate,)
    reach = [(size - 1) * rate + 1 for size, rate in zip(window, dilation, strict=True)]
    widths = [(0, 0)] * inputs.ndim
    for axis, size, stride in zip(sides, reach, strides, strict=True):
        if layer.padding == "same":
            whole = max((-(-inputs.shape[axis] // stride) - 1) * stride + size - inputs.shape[axis], 0)
            widths[axis] = (whole // 2, whole - whole // 2)
        elif layer.padding == "causal":
            widths[axis] = (size - 1, 0)
    padded = np.pad(inputs, widths)
    cut = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(sides))  # (n, *sides, channels, *reach)
    steps = [slice(None, None, stride) for stride in strides]
    cut = cut[(slice(None), *steps, slice(None), *(slice(None, None, rate) for rate in dilation))]
    rank = len(reach)
    cut = np.moveaxis(cut, 1 + rank, -1)  # (n, *sides, *window, channels)
    n, channels = len(inputs), inputs.shape[-1]
    return cut.reshape(n, int(np.prod(cut.shape[1 : 1 + rank])), int(np.prod(window)), channels)
