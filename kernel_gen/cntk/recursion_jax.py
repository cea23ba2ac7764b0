"""The convolutional neural tangent kernel (CNTK) of ReLU networks in plain JAX: slow, readable, for any device.

The covariance K between pixels of two images (NNGP) and the tangent kernel Θ (NTK) are arrays (y, y', x, x') over the
rows y, y' and columns x, x' of both images. The stages and the standard deviations of pixels (diagonal maps) are those
of `recursion_numba`. As there, T = K + Θ is stored in place of Θ; a convolution then sums K and T over the nine common
shifts of two pixels. The ReLU's derivative factor κ₀ is an explicit formula, because its automatic derivative is NaN at
correlation 1, which occurs on the diagonal. The operations are those of `recursion_numba`, but every step reads and
writes main memory: 1,048,576 pairs of pixels for a pair of 32x32 images.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.cntk.architecture import Stage
from kernel_gen.cntk.diagonal import Prepared
from kernel_gen.cntk.recursion_numba import SNAP


def kappas(c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return κ₀(c) = 1 - arccos(c)/π and κ₁(c) = (c(π - arccos c) + √(1 - c²))/π of correlations c.

    They are computed from t = 1 - `|c|` to keep full precision where c is near 1 or -1.
    """
    t = 1 - jnp.abs(c)
    t = jnp.where(t > SNAP[c.dtype.name], t, 0)
    angle = 2 * jnp.arcsin(jnp.minimum(jnp.sqrt(t / 2), 1)) / math.pi  # arccos|c|/π
    kappa1 = jnp.sqrt(t * (2 - t)) / math.pi - (1 - t) * angle + jnp.maximum(c, 0)
    return jnp.where(c > 0, 1 - angle, angle), kappa1


def sum_of_nine(k: jax.Array) -> jax.Array:
    """Return Σ₉ k, the sum over the nine common shifts of two pixels by up to one row and column, with zeros outside.

    `k` is an array (y, y', x, x'); it is summed over shifts of (y, y'), then of (x, x').
    """
    for first in (0, 2):
        pads = [(1, 1) if axis in (first, first + 1) else (0, 0) for axis in range(4)]
        padded = jnp.pad(k, pads)
        high, wide = k.shape[first], k.shape[first + 1]
        shifted = [
            jax.lax.slice_in_dim(jax.lax.slice_in_dim(padded, s, s + high, axis=first), s, s + wide, axis=first + 1)
            for s in range(3)
        ]
        k = shifted[0] + shifted[1] + shifted[2]
    return k


def relu(k: jax.Array, tangent: jax.Array, std1: jax.Array, std2: jax.Array, twin: jax.Array):
    """Return the kernels after a ReLU, two arrays (y, y', x, x') over the rows and columns of both images.

    They are the covariance K between pixels (NNGP) and T = K + Θ with the tangent kernel Θ (NTK).

    Args:
        k: K before the ReLU.
        tangent: Θ before the ReLU.
        std1: Standard deviations (height, width) of the first image's pixels before the ReLU.
        std2: Standard deviations (height, width) of the second image's pixels before the ReLU.
        twin: Whether both are the same image, so that the correlation of a pixel with itself is exactly 1.
    """
    product = std1[:, None, :, None] * std2[None, :, None, :]
    c = jnp.where(product > 0, k / jnp.where(product > 0, product, 1), 0)
    high, wide = std1.shape
    itself = twin & jnp.eye(high, dtype=bool)[:, :, None, None] & jnp.eye(wide, dtype=bool)
    c = jnp.where(itself & (product > 0), 1, jnp.clip(c, -1, 1))
    kappa0, kappa1 = kappas(c)
    k = product * kappa1 / 2
    return k, k + tangent * kappa0 / 2


def pool(k: jax.Array, down: int, across: int) -> jax.Array:
    """Return covariances (y, y', x, x') of the pixels of two images after average pools of `down` x `across` pixels."""
    high, wide = k.shape[0] // down, k.shape[2] // across
    return k.reshape(high, down, high, down, wide, across, wide, across).mean(axis=(1, 3, 5, 7))


@functools.partial(jax.jit, static_argnames="stages")
def heads(pixels1, pixels2, stds1, stds2, twin, q, bias, *, stages: tuple[Stage, ...]) -> jax.Array:
    """Return the kernels of one pair of images before the readout, two numbers (2,).

    They are the covariance K (NNGP) and T = K + Θ with the tangent kernel Θ (NTK).

    Args:
        pixels1: First image (height, channels, width).
        pixels2: Second image (height, channels, width).
        stds1: Standard deviations of the first image's pixels, one array (convs, height, width) for each stage.
        stds2: Standard deviations of the second image's pixels.
        twin: Whether both are the same image.
        q: Weight variance of the convolutions, divided by 9.
        bias: Variance of the convolutions' biases.
        stages: Stages of the network.
    """
    k = jnp.einsum("ycx,vcu->yvxu", pixels1, pixels2, precision="highest")
    t = k  # Θ is still 0
    for stage, std1, std2 in zip(stages, stds1, stds2, strict=True):
        for layer in range(stage.convs):
            k, t = relu(q * sum_of_nine(k) + bias, q * sum_of_nine(t) + bias, std1[layer], std2[layer], twin)
        k, t = (pool(m, *stage.pool) for m in (k, t))
    return jnp.stack([jnp.einsum("yyxx->", m) / (m.shape[0] * m.shape[2]) for m in (k, t)])


def block(one: Prepared, two: Prepared, stages: Sequence[Stage], *, q: float, bias: float, same: bool) -> np.ndarray:
    """Return the kernels of all pairs of two sets of images before the readout, float64 (n1, n2, 2).

    They are the covariance K (NNGP) and T = K + Θ with the tangent kernel Θ (NTK). Pairs are computed one after
    another. For float64 images `jax_enable_x64` must be set.

    Args:
        one: The first images, prepared (`diagonal.Prepared`).
        two: The second images, prepared.
        stages: Stages of the network.
        q: Weight variance of the convolutions, divided by 9.
        bias: Variance of the convolutions' biases.
        same: Whether both sets are the same; one triangle is then computed and mirrored.
    """
    dtype = one.pixels.dtype
    out = np.empty((len(one), len(two), 2))
    for i in range(len(one)):
        for j in range(len(two)):
            if same and j < i:
                out[i, j] = out[j, i]
                continue
            stds1, stds2 = tuple(s[i] for s in one.stds), tuple(s[j] for s in two.stds)
            out[i, j] = heads(
                one.pixels[i], two.pixels[j], stds1, stds2, same and i == j, dtype.type(q), dtype.type(bias),
                stages=tuple(stages),
            )  # fmt: skip
    return out
