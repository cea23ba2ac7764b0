"""The convolution of a covariance between pixels as a sum of slices, in place of neural-tangents' diagonal filter.

A convolution of the covariance between pixels i and i' along one axis, with f taps and stride s, is out[i, i'] = (1/f)
Σ_a in[s i + a, s i' + a]. This is a sum of f slices, whereas the filter has f² taps. The slices also avoid an error of
JAX 0.10.2, which on a CPU reads outside its arrays in float64 convolutions of many small images and sometimes crashes.
"""

import types
from typing import Any

import jax
import jax.numpy as jnp

NUMBERS = ("NCHW", "OIHW", "NCHW")


def convolve(lhs: jax.Array, rhs: jax.Array, strides: Any, padding: Any, **settings: Any) -> jax.Array:
    """Return `jax.lax.conv_general_dilated`, computed as a sum of slices for convolutions of a covariance on a CPU.

    neural-tangents convolves a covariance by a depthwise convolution with f by f filters that are 1/f on the diagonal
    and 0 elsewhere. All other convolutions, and all convolutions on other devices, are computed by JAX.

    Args:
        lhs: Covariances, with both pixels along the last two axes.
        rhs: Filters.
        strides: Strides along the last two axes, which are equal.
        padding: "SAME" or "VALID", or another padding that JAX accepts.
        settings: Further arguments of `jax.lax.conv_general_dilated`.
    """
    if jax.default_backend() != "cpu" or not _of_covariance(lhs, rhs, padding, **settings):
        return jax.lax.conv_general_dilated(lhs, rhs, strides, padding, **settings)
    taps, (stride, _), side = rhs.shape[-1], strides, lhs.shape[-1]
    size, below = (side - taps) // stride + 1, 0
    if padding == "SAME":
        size = -(-side // stride)
        missing = max((size - 1) * stride + taps - side, 0)
        below = missing // 2
        lhs = jnp.pad(lhs, [(0, 0)] * (lhs.ndim - 2) + [(below, missing - below)] * 2)
    stops = [a + (size - 1) * stride + 1 for a in range(taps)]
    return sum(lhs[..., a:stop:stride, a:stop:stride] for a, stop in enumerate(stops)) / taps


def _of_covariance(lhs: jax.Array, rhs: jax.Array, padding: Any, **settings: Any) -> bool:
    """Return whether these are the arguments with which neural-tangents convolves a covariance along one axis.

    The filters are then square, with one filter for each channel. The arguments are those of `convolve`.
    """
    return (
        settings.get("dimension_numbers") == NUMBERS
        and set(settings) == {"dimension_numbers", "feature_group_count"}
        and settings["feature_group_count"] == lhs.shape[1] == rhs.shape[0]
        and padding in ("SAME", "VALID")
        and rhs.shape[2] == rhs.shape[3]
    )


def install(linear: types.ModuleType) -> None:
    """Replace the convolution in neural-tangents' module of linear layers, `linear`, by `convolve`.

    JAX itself is not changed.
    """
    linear.lax = types.SimpleNamespace(**{**vars(jax.lax), "conv_general_dilated": convolve})
