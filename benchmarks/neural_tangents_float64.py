"""Replaces images (n, height, width, channels) in a .npy file by neural-tangents' float64 kernel of a stax expression.

    JAX_ENABLE_X64=1 python benchmarks/neural_tangents_float64.py x.npy "serial(Conv(1, (3, 3)), Flatten())" ntk

On a CPU, JAX 0.10.2 reads outside its arrays in float64 convolutions of many 32x32 images, and crashes; neural-tangents
makes such convolutions of one channel with a 3x3 diagonal. Here they are sums of shifted slices: the same numbers.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.stax import parse

convolve = jax.lax.conv_general_dilated


def by_slices(lhs, rhs, window_strides=(1, 1), padding="SAME", **settings):
    """Σ over the filter's taps of shifted images, for depthwise SAME convolutions (NCHW, OIHW) of odd filters."""
    depthwise = settings.get("feature_group_count", 1) == lhs.shape[1] == rhs.shape[0]
    if not depthwise or padding != "SAME" or tuple(window_strides) != (1, 1) or lhs.dtype != jnp.float64:
        return convolve(lhs, rhs, window_strides, padding, **settings)
    (high, wide), (tall, broad) = lhs.shape[2:], rhs.shape[2:]
    padded = jnp.pad(lhs, ((0, 0), (0, 0), (tall // 2,) * 2, (broad // 2,) * 2))
    return sum(
        rhs[:, 0, a, b][:, None, None] * padded[:, :, a : a + high, b : b + wide]
        for a in range(tall)
        for b in range(broad)
    )


def main(path: str, expression: str, kind: str) -> None:
    """Every pair of images is given as two, so that none is taken for the same."""
    jax.lax.conv_general_dilated = by_slices
    kernel = parse(expression)[0][2]
    x = np.load(path).astype(np.float64)[:, None]
    np.save(path, np.block([[np.asarray(kernel(one, two, kind)) for two in x] for one in x]))


if __name__ == "__main__":
    main(*sys.argv[1:])
