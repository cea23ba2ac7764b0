"""The diagonal maps of a CNTK: the standard deviation of every pixel of an image after every convolution.

The standard deviation is that over the random weights of the network. It depends on one image alone. The kernel of a
pair of images needs it to turn covariances of pixels into correlations. Let K(i, i') be the covariance between the
pixels i and i' of one image. The variance of pixel i is K(i, i). The variance after a pool depends on K(i, i + d) for
the offsets d between pixels of the same pooled square: `|d|` <= 1 along each axis before one 2x2 pool, `|d|` <= 3
before two. Therefore the recursion of `recursion_numba` is computed for these few offsets, in float64 and without
polynomial approximations, one image after another on all cores. For Myrtle-5 on 32x32 images there are 49 offsets, but
24 of them follow by symmetry. An image takes 52,000 square roots and arc sines, less than 2 ms.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from kernel_gen.cntk.architecture import Stage
from kernel_gen.cntk.recursion_numba import compiled
from linearized.base.blocks import for_each


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Images and the standard deviations of their pixels in each layer (diagonal maps).

    Slices and index arrays select images.

    Attributes:
        pixels: Array (n, height, channels, width), scaled so that the covariance of two pixels is the sum over channels
            of their products.
        stds: One array (n, convs, height, width) for each stage: the standard deviation of each pixel after each
            convolution, before its ReLU.
    """

    pixels: np.ndarray
    stds: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | np.ndarray) -> "Prepared":
        return Prepared(self.pixels[rows], tuple(std[rows] for std in self.stds))


def self_reaches(stages: Sequence[Stage]) -> list[tuple[int, int]]:
    """Return, for each stage, the largest offset (down, across) of two pixels of one image whose covariance is needed.

    The offset is the difference of the positions of the pixels.

    Args:
        stages: Stages of the network, from the first to the last.
    """
    reaches, reach = [], (0, 0)
    for index, stage in enumerate(reversed(stages)):
        if index:
            reach = tuple(pool * r + pool - 1 for pool, r in zip(stage.pool, reach, strict=True))
        reaches.append((min(reach[0], stage.height - 1), min(reach[1], stage.width - 1)))
    return reaches[::-1]


def prepare(
    pixels: np.ndarray, stages: Sequence[Stage], *, q: float, bias: float, dtype: np.dtype, block: int = 64
) -> Prepared:
    """Compute the diagonal maps of images: the standard deviation of every pixel after every convolution.

    Args:
        pixels: Images (n, height, channels, width), scaled as in `Prepared`.
        stages: Stages of the network.
        q: Weight variance of the convolutions, divided by 9.
        bias: Variance b² of the convolutions' biases.
        dtype: Data type of the result.
        block: Number of images that one thread processes at once.
    """
    stds = tuple(np.empty((len(pixels), stage.convs, stage.height, stage.width), dtype) for stage in stages)
    reaches = self_reaches(stages)

    def work(start: int) -> None:
        for image in range(start, min(start + block, len(pixels))):
            covariance = _first(pixels[image].astype(np.float64), *reaches[0])
            for index, stage in enumerate(stages):
                covariance = _layers(covariance, q, bias, stds[index][image])
                if index + 1 < len(stages):
                    covariance = _pool(covariance, *stage.pool, *reaches[index + 1])

    for_each(range(0, len(pixels), block), work)
    return Prepared(np.ascontiguousarray(pixels, dtype), stds)


@compiled
def _first(pixels, down, across):
    """Return x(i)·x(i + d) for the pixels i of an image and offsets d, (offsets down, offsets across, height, width).

    It is 0 where i + d is outside the image.

    Args:
        pixels: The image x (height, channels, width).
        down: Largest vertical offset.
        across: Largest horizontal offset.
    """
    height, channels, width = pixels.shape
    out = np.zeros((2 * down + 1, 2 * across + 1, height, width))
    for dy in range(-down, down + 1):
        for dx in range(-across, across + 1):
            for y in range(max(0, -dy), min(height, height - dy)):
                for channel in range(channels):
                    for x in range(max(0, -dx), min(width, width - dx)):
                        out[dy + down, dx + across, y, x] += pixels[y, channel, x] * pixels[y + dy, channel, x + dx]
    return out


@compiled
def _layers(k, q, bias, stds):
    """Return the covariance of an image with itself after the convolutions of a stage, each with its ReLU.

    Args:
        k: Covariance before them, (offsets down, offsets across, height, width).
        q: Weight variance of the convolutions, divided by 9.
        bias: Variance of the convolutions' biases.
        stds: Array (convs, height, width), which is filled with the standard deviations after each convolution.
    """
    down, across = k.shape[0] // 2, k.shape[1] // 2
    height, width = k.shape[2], k.shape[3]
    for layer in range(stds.shape[0]):
        new = np.zeros_like(k)
        for dy in range(down + 1):
            for dx in range(-across, across + 1):
                if dy == 0 and dx < 0:
                    continue  # the mirror image of dx > 0
                old, to = k[dy + down, dx + across], new[dy + down, dx + across]
                lower, upper = max(0, -dx), min(width, width - dx)
                for y in range(height - dy):
                    for x in range(lower, upper):
                        total = 0.0
                        for y2 in range(max(y - 1, 0), min(y + 2, height)):
                            for x2 in range(max(x - 1, 0), min(x + 2, width)):
                                total += old[y2, x2]
                        to[y, x] = q * total + bias
        std = np.sqrt(new[down, across])
        stds[layer] = std
        for dy in range(down + 1):
            for dx in range(-across, across + 1):
                if dy == 0 and dx < 0:
                    continue
                to, mirror = new[dy + down, dx + across], new[down - dy, across - dx]
                for y in range(height - dy):
                    for x in range(max(0, -dx), min(width, width - dx)):
                        if dy == 0 and dx == 0:
                            to[y, x] *= 0.5
                            continue
                        product = std[y, x] * std[y + dy, x + dx]
                        c = to[y, x] / product if product > 0 else 0.0
                        t = max(0.0, 1 - abs(c))
                        angle = 2 * math.asin(min(1.0, math.sqrt(0.5 * t)))
                        kappa = (math.sqrt(t * (2 - t)) - (1 - t) * angle) / math.pi + max(c, 0.0)
                        to[y, x] = 0.5 * product * kappa
                        mirror[y + dy, x + dx] = to[y, x]
        k = new
    return k


@compiled
def _pool(k, pool_down, pool_across, down, across):
    """Return the covariance of an image with itself after an average pool, at the offsets that the next stage needs.

    An entry is the mean of `k` over the pairs of pixels of two pooled squares, i and i + d. The result has the shape
    (offsets down, offsets across, height, width), with the pooled image's height and width.

    Args:
        k: Covariance before the pool, in the same layout.
        pool_down: Height of the pool.
        pool_across: Width of the pool.
        down: Largest vertical offset that the next stage needs.
        across: Largest horizontal offset that the next stage needs.
    """
    reach_down, reach_across = k.shape[0] // 2, k.shape[1] // 2
    high, wide = k.shape[2] // pool_down, k.shape[3] // pool_across
    out = np.zeros((2 * down + 1, 2 * across + 1, high, wide))
    for dy in range(-down, down + 1):
        for dx in range(-across, across + 1):
            for y in range(max(0, -dy), min(high, high - dy)):
                for x in range(max(0, -dx), min(wide, wide - dx)):
                    total = 0.0
                    for y1 in range(pool_down):
                        for y2 in range(pool_down):
                            for x1 in range(pool_across):
                                for x2 in range(pool_across):
                                    offset_y = pool_down * dy + y2 - y1 + reach_down
                                    offset_x = pool_across * dx + x2 - x1 + reach_across
                                    total += k[offset_y, offset_x, y * pool_down + y1, x * pool_across + x1]
                    out[dy + down, dx + across, y, x] = total / (pool_down * pool_across) ** 2
    return out
