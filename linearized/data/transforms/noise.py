"""Noise on images: Gaussian noise is added to the high frequencies, or replaces the low ones.

Source: Ghorbani, Mei, Misiakiewicz, Montanari, "When Do Neural Networks Outperform Kernel Methods?" (arXiv 2006.13409,
appendix A). Frequencies are those of the orthonormal two-dimensional cosine transform (DCT-II), channel by channel.
NumPy's legacy generator (`RandomState`), seeded once, draws the noise of the train images and then the noise of the
test images, in float64; only the result is float32. Images are arrays (n, height, width, channels), results are
flattened to (n, d), d = height · width · channels.
"""

from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.linalg

from linearized.base.blocks import blas_threads, for_each, for_each_drawn, row_blocks
from linearized.base.errors import UserError
from linearized.base.shapes import Float32, Float64, Real

SEED = 2048
LANES = 4  # number of partial sums of a covariance, fixed so that its last bits do not depend on the number of cores


def high_frequency(
    train: Real[np.ndarray, "n h w c"], test: Real[np.ndarray, "m h w c"], strength: int | float, seed: int = SEED
) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]]:
    """Centre each image, add noise near its highest frequency, and scale the sum to norm √d.

    For images of h x w pixels, the highest frequency of each channel is (h-1, w-1). The noise has independent normal
    coefficients at the frequencies (i, j) with √((h-1-i)² + (w-1-j)²) <= h - 1, and is 0 at all others. It is then
    scaled to the norm that `strength` defines. Images are centred by the mean over all pixels and channels.

    Args:
        train: Train images.
        test: Test images.
        strength: τ, the Euclidean norm of the noise of an image over all pixels and channels, divided by that of the
            centred image.
        seed: Random-number seed.

    Returns: Train and test images as rows, each of norm √d.

    Raises `UserError` for an image whose entries are all equal, which is 0 after centring and cannot be scaled.
    """
    _check_varied(train, test)
    shape, dim = train.shape[1:], train[0].size
    below, right = np.mgrid[shape[0] - 1 : -1 : -1, shape[1] - 1 : -1 : -1]
    kept = (np.hypot(below, right) <= shape[0] - 1).astype(float)[:, :, None]
    noisy = np.empty((len(train), dim), np.float32), np.empty((len(test), dim), np.float32)

    def work(block: tuple[np.ndarray, np.ndarray, slice], noise: np.ndarray) -> None:
        images, out, rows = block
        image = _centred(images[rows])
        noise *= kept
        noise *= strength * _norms(image) / _norms(noise)  # the transform keeps norms
        image += scipy.fft.idctn(noise, axes=(1, 2), norm="ortho", overwrite_x=True)
        image *= np.sqrt(dim) / _norms(image)
        out[rows] = image.reshape(-1, dim)

    blocks = [
        (images, out, rows)
        for images, out in zip((train, test), noisy, strict=True)
        for rows in row_blocks(len(images), 8 * dim)
    ]
    for_each_drawn(np.random.RandomState(seed), blocks, lambda block: (len(block[0][block[2]]), *shape), work)
    return noisy


def low_frequency(
    train: Real[np.ndarray, "n h w c"], test: Real[np.ndarray, "m h w c"], threshold: int, seed: int = SEED
) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]]:
    """Centre grey images, scale them to norm √d and replace their lowest frequencies by noise.

    The noise is normal, with the mean and covariance of the cosine transforms of the train images.

    Args:
        train: Train images, with one channel.
        test: Test images.
        threshold: k; the k x k lowest frequencies are replaced.
        seed: Random-number seed.

    Returns: Train and test images as rows.

    Raises `UserError` for an image whose pixels are all equal, and for a threshold larger than a side of the images.
    """
    _check_varied(train, test)
    return _replaced(train, test, threshold, seed, on_sphere, np.float32)


def low_frequency_colour(
    train: Real[np.ndarray, "n h w c"], test: Real[np.ndarray, "m h w c"], threshold: int, seed: int = SEED
) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]]:
    """Replace the lowest frequencies of each channel of images by noise, then standardise each channel.

    The noise is normal, with the mean and covariance of the cosine transforms of the train images. Channels are then
    standardised by their mean and standard deviation over the noisy train images. 50,000 images 32x32x3 need 4 GB of
    memory.

    Args:
        train: Train images.
        test: Test images.
        threshold: k; the k x k lowest frequencies of each channel are replaced.
        seed: Random-number seed.

    Returns: Train and test images as rows.

    Raises `UserError` for a threshold larger than a side of the images, and for a constant channel.
    """
    noisy = _replaced(train, test, threshold, seed, lambda images: images.astype(float), np.float64)
    mean, spread = channel_statistics(noisy[0], train.shape[3])
    for images in noisy:
        by_channel = images.reshape(-1, len(mean))
        by_channel -= mean
        by_channel /= spread
    return noisy[0].astype(np.float32), noisy[1].astype(np.float32)


def channel_statistics(
    rows: Float64[np.ndarray, "n d"], channels: int
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Return the mean and the standard deviation of each channel over all images and pixels, (c,) each.

    Args:
        rows: Images (n, h w c), with the channels last.
        channels: Number of channels c.

    Raises `UserError` for a channel that is constant.
    """
    blocks = row_blocks(len(rows), rows[0].nbytes)
    pixels = rows.size // channels
    mean = sum(rows[block].reshape(-1, channels).sum(axis=0) for block in blocks) / pixels
    squares = sum(((rows[block].reshape(-1, channels) - mean) ** 2).sum(axis=0) for block in blocks)
    spread = np.sqrt(squares / pixels)
    if not np.all(spread > 0):
        raise UserError(f"Channel {int(np.argmin(spread))} is the same in all train images: it cannot be standardised.")
    return mean, spread


def _replaced(
    train: np.ndarray,
    test: np.ndarray,
    threshold: int,
    seed: int,
    prepare: Callable[[np.ndarray], np.ndarray],
    dtype: type,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace the low frequencies of images by noise, and return train and test images as rows.

    The noise is normal, with the mean and covariance of the cosine coefficients of the train images. As in the authors'
    code, d random numbers per image are multiplied by the square root of the (d, d) covariance, d = h w c; but only the
    columns of the root for replaced coefficients are computed. The transform is orthogonal, so the covariance and its
    root are computed from the pixels and then transformed, and only the change of the replaced coefficients is
    transformed back. Takes n d² operations for the covariance of n train images, 9 d³ for its root, and d · threshold²
    · c for the noise of each image.

    Args:
        train: Train images (n, h, w, c).
        test: Test images (m, h, w, c).
        threshold: Side of the block of lowest frequencies that is replaced, from 0 (none: nothing is drawn) to min(h,
            w).
        seed: Random-number seed.
        prepare: Function that is applied to images before the cosine transform.
        dtype: Type of the result.

    Raises `UserError` for a threshold out of range.
    """
    shape, dim = train.shape[1:], train[0].size
    if not 0 <= threshold <= min(shape[:2]):
        raise UserError(f"The threshold must be 0..{min(shape[:2])} for images of {shape[:2]}. Received: {threshold}.")
    noisy = np.empty((len(train), dim), dtype), np.empty((len(test), dim), dtype)
    blocks = [(images, out, rows) for images, out in zip((train, test), noisy, strict=True)
              for rows in row_blocks(len(images), 8 * dim)]  # fmt: skip
    if threshold == 0:
        for_each(blocks, lambda block: _store(prepare(block[0][block[2]]), block[1], block[2]))
        return noisy
    pixels = np.empty((len(train), dim))
    for_each(row_blocks(len(train), 8 * dim), lambda rows: _store(prepare(train[rows]), pixels, rows))
    mean = pixels.mean(axis=0)
    # The replaced coefficients of an image (h, wc), in (row, column, channel) order, are down @ image @ across.T.
    down, across = (scipy.fft.dct(np.eye(side), axis=0, norm="ortho")[:threshold] for side in shape[:2])
    across = np.kron(across, np.eye(shape[2]))
    low = np.kron(down, across)
    root = scipy.fft.dctn(_root_times(pixels, mean, low.T).reshape(*shape, -1), axes=(0, 1), norm="ortho")
    root, mean = root.reshape(dim, -1), low @ mean

    def replace(block: tuple[np.ndarray, np.ndarray, slice], noise: np.ndarray) -> None:
        images, out, rows = block
        image = (pixels[rows] if images is train else prepare(images[rows])).reshape(-1, shape[0], shape[1] * shape[2])
        change = noise @ root
        change += mean
        change = change.reshape(len(image), threshold, -1)
        change -= down @ image @ across.T
        image += down.T @ (change @ across)
        _store(image, out, rows)

    for_each_drawn(np.random.RandomState(seed), blocks, lambda block: (len(block[0][block[2]]), dim), replace)
    return noisy


def _store(images: np.ndarray, out: np.ndarray, rows: slice) -> None:
    out[rows] = images.reshape(len(images), -1)


def _root_times(
    rows: Float64[np.ndarray, "n d"], mean: Float64[np.ndarray, " d"], right: Float64[np.ndarray, "d columns"]
) -> Float64[np.ndarray, "d columns"]:
    """Return the symmetric square root of the covariance of rows (n, d), times a matrix.

    Takes n d² + 9 d³ operations, or O(n² d) if n < d.

    Args:
        rows: The rows.
        mean: Mean of the rows.
        right: The matrix.
    """
    if len(rows) < rows.shape[1]:
        _, values, vectors = scipy.linalg.svd((rows - mean) / np.sqrt(len(rows)), full_matrices=False)
        return (vectors.T * values) @ (vectors @ right)
    covariance = _covariance(rows, mean)
    with blas_threads(1 if len(covariance) < 2000 else None):  # threads cost more than they gain for a small matrix
        values, vectors = scipy.linalg.eigh(covariance, lower=False, driver="evd", overwrite_a=True)
    # Centred images span fewer than d directions: rounding makes some eigenvalues negative, and their root NaN.
    values = np.sqrt(np.maximum(values, 0))
    return (vectors * values) @ (vectors.T @ right)


def _covariance(rows: Float64[np.ndarray, "n d"], mean: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "d d"]:
    """Return the covariance (d, d) of some rows, divided by n; only its upper triangle is computed.

    Args:
        rows: The rows.
        mean: Mean of the rows.
    """
    dim = rows.shape[1]
    blocks = row_blocks(len(rows), 8 * dim)
    partial = [np.zeros((dim, dim), order="F") for _ in range(LANES)]

    def add(lane: int) -> None:
        for block in blocks[lane::LANES]:
            centred = rows[block] - mean
            scipy.linalg.blas.dsyrk(1 / len(rows), centred.T, 1.0, partial[lane], overwrite_c=True)

    for_each(range(LANES), add)
    return sum(partial)


def _norms(images: np.ndarray) -> Float64[np.ndarray, "n 1 1 1"]:
    flat = images.reshape(len(images), -1)
    return np.sqrt(np.einsum("ni,ni->n", flat, flat))[:, None, None, None]


def _check_varied(*sets: np.ndarray) -> None:
    """Raise `UserError` for the first image whose pixels are all equal; the message gives its number.

    Args:
        *sets: Train images, then test images, (n, h, w, c).
    """
    for kind, images in zip(("train", "test"), sets, strict=True):
        flat = images.reshape(len(images), -1)
        constant = flat.max(axis=1) == flat.min(axis=1)
        if constant.any():
            row = int(np.argmax(constant))
            raise UserError(f"Image {row} of the {kind} set has one colour only, so it cannot be scaled. Remove it.")


def _centred(images: np.ndarray) -> np.ndarray:
    """Return images (n, h, w, c) in float64, each with mean 0."""
    images = images.astype(float)
    images -= images.mean(axis=(1, 2, 3), keepdims=True)
    return images


def on_sphere(images: np.ndarray) -> np.ndarray:
    """Return images (n, h, w, c) in float64, each with mean 0 and norm √d, d = h w c."""
    images = _centred(images)
    images *= np.sqrt(images[0].size) / _norms(images)
    return images
