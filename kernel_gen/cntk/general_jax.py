"""The convolutional neural tangent kernel (CNTK) with any activation, computed in JAX one pair of images at a time.

The networks are those of `architecture` with another activation in place of each ReLU; for ReLU itself `fused` is used.
K is the covariance between pixels of two images (NNGP), an array (y, y', x, x') over the rows y, y' and columns x, x'
of both images. Θ is the tangent kernel (NTK) in the same layout, and T = K + Θ after each activation. Let q be the
variance of the weights divided by 9, b the standard deviation of the biases, and Σ₉ the sum over the nine common shifts
of both pixels. A convolution is then K ← q Σ₉ K + b², Θ ← q Σ₉ T + b². A pair of 32x32 images has 1,048,576 pairs of
pixels. About ten arrays of this size are in memory, 40 MB in float32, independently of the block size. The time for a
pair of images is proportional to the number of pairs of pixels, the number of layers and the cost of the activation
(see `kernels.dense`).
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from kernel_gen.activations import activation
from kernel_gen.activations.base import Activation
from kernel_gen.cntk import recursion_jax as cntk_jax
from kernel_gen.cntk.architecture import Architecture
from kernel_gen.cntk.fused import Cntk
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings


@dataclasses.dataclass(frozen=True)
class Images:
    """Prepared images: their pixels, and the variances of their pixels before each activation.

    Attributes:
        pixels: Array (n, height, channels, width), scaled so that the covariance of two pixels is the sum over channels
            of their products.
        variances: One array (n, convs, height, width) for each stage: the variance of each pixel before each
            activation.
        terms: One number for each activation: the length of its series or the index of its quadrature rule for these
            variances, see `Activation.terms`.
    """

    pixels: np.ndarray
    variances: tuple[np.ndarray, ...]
    terms: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | np.ndarray) -> "Images":
        return Images(self.pixels[rows], tuple(part[rows] for part in self.variances), self.terms)

    def image(self, index: int) -> tuple:
        """Return the pixels (height, channels, width) and the variances of one image, as a pair.

        Args:
            index: Index of the image.
        """
        return self.pixels[index], tuple(part[index] for part in self.variances)


class GeneralCntk(Cntk):
    """The CNTK of a network with any activation, computed for one pair of images after another.

    JAX uses all cores, or the GPU that it finds.

    Args:
        architecture: The network up to its readout.
        image_shape: (height, width, channels).
        settings: Settings of the kernel: kind, activation, weight_std, bias_std, dtype, scale and device.

    Raises `UserError` for images that a pool of the network does not divide, a weight_std of 0, and a device that JAX
    does not find.
    """

    tile = 8

    def __init__(self, architecture: Architecture, image_shape: tuple[int, int, int], settings: KernelSettings):
        super().__init__(architecture, image_shape, dataclasses.replace(settings, device="cpu"))
        self.activation = activation(settings.activation)
        self.own_threads = True
        self.place = _place(settings.device)

    def prepare(self, x: np.ndarray) -> Images:
        """Return images, given as rows (n, height·width·channels), with the variances of their pixels in each layer.

        Preparing an image takes as much time as computing the kernel of one pair. Raises `UserError` for rows of
        a different length, for numbers that are not finite, and for variances beyond the range of the activation.
        """
        pixels = self.pixels(x)
        shapes = [(len(pixels), stage.convs, stage.height, stage.width) for stage in self.stages]
        variances, counts = tuple(np.empty(shape, self.dtype) for shape in shapes), []
        with self._precision():
            for index, image in enumerate(pixels):
                maps, terms = self._variances(image)
                counts.append(terms)
                for stage, found in zip(variances, maps, strict=True):
                    stage[index] = found
        layers = sum(stage.convs for stage in self.stages)
        terms = tuple(max((each[layer] for each in counts), default=0) for layer in range(layers))
        return Images(pixels, variances, terms)

    def block(self, one: Images, two: Images, *, same: bool = False) -> np.ndarray:
        """Return the kernel (n1, n2) between two sets of images, which `prepare` returned.

        Args:
            one: The n1 images of the rows.
            two: The n2 images of the columns.
            same: Whether `two` contains the images of `one`; one triangle is then computed and mirrored.

        Raises `UserError` for entries that overflow.
        """
        heads = np.empty((len(one), len(two), 2))
        terms = tuple(max(pair) for pair in zip(one.terms, two.terms, strict=True))
        with self._precision():
            for i, j in itertools.product(range(len(one)), range(len(two))):
                if same and j < i:
                    heads[i, j] = heads[j, i]
                else:
                    heads[i, j] = self._pair(one.image(i), two.image(j), same and i == j, terms)
        entries = self.readout(heads if self.kind == "ntk" else heads[..., :1])
        if not np.isfinite(entries).all():
            raise UserError(
                f"{self.architecture.name} with {self.activation.text} overflows {self.dtype}. Lower --weight_std."
            )
        return entries

    def _pair(self, one: tuple, two: tuple, twin: bool, terms: tuple[int, ...]) -> jax.Array:
        """Return the kernels of one pair of images before the readout, two numbers (2,).

        They are the covariance K (NNGP) and T = K + Θ with the tangent kernel Θ (NTK).

        Args:
            one: First image and its variances, as `Images.image` returns them.
            two: Second image and its variances.
            twin: Whether both are the same image.
            terms: One number for each activation: the length of its series or the index of its quadrature rule.
        """
        k = _covariances(one[0], two[0])
        t, counts = k, iter(terms)  # Θ is still 0
        for stage, variances1, variances2 in zip(self.stages, one[1], two[1], strict=True):
            for first, second in zip(variances1, variances2, strict=True):
                k, t = self._convolved(k), self._convolved(t)
                k, t = _activated(k, t, first, second, twin, activation=self.activation, terms=next(counts))
            k, t = _pooled(k, stage.pool), _pooled(t, stage.pool)
        return _means(k, t)

    def _variances(self, image: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
        """Return the variances of an image's pixels before each activation, and the number of terms of each activation.

        Args:
            image: Pixels (height, channels, width).

        Returns: One array (convs, height, width) for each stage, and one number for each activation, the length of its
        series or the index of its quadrature rule.

        Raises `UserError` for variances that overflow or are beyond the range of the activation.
        """
        k, found, counts = _covariances(image, image), [], []
        for stage in self.stages:
            maps = np.empty((stage.convs, stage.height, stage.width), self.dtype)
            for layer in range(stage.convs):
                k = self._convolved(k)
                maps[layer] = np.einsum("yyxx->yx", np.asarray(k))
                if not np.isfinite(maps[layer]).all():
                    raise UserError(
                        f"{self.architecture.name} with {self.activation.text} overflows {self.dtype}. Lower "
                        "--weight_std."
                    )
                counts.append(self.activation.terms(float(maps[layer].max()), self.dtype.name))
                k, _ = _activated(k, k, maps[layer], maps[layer], True, activation=self.activation, terms=counts[-1])
            found.append(maps)
            k = _pooled(k, stage.pool)
        return found, counts

    def _convolved(self, k: jax.Array) -> jax.Array:
        return _convolved(k, self.dtype.type(self.q), self.dtype.type(self.bias))

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        with jax.enable_x64(self.dtype == np.float64), jax.default_device(self.place):
            yield


_LEFT, _RIGHT = np.s_[:, None, :, None], np.s_[None, :, None, :]

# The steps of the recursion are programs of their own, each compiled once per shape for all layers and kernels: one
# program of a whole network would contain a copy of the activation for each layer, and compile as many times as long.


@jax.jit
def _covariances(one: jax.Array, two: jax.Array) -> jax.Array:
    """Return the covariances (y, y', x, x') between the pixels of two images (height, channels, width)."""
    return jnp.einsum("ycx,vcu->yvxu", one, two, precision="highest")


@jax.jit
def _convolved(k: jax.Array, q: jax.Array, bias: jax.Array) -> jax.Array:
    return q * cntk_jax.sum_of_nine(k) + bias


@functools.partial(jax.jit, static_argnames=("activation", "terms"))
def _activated(
    k: jax.Array, t: jax.Array, variances1: jax.Array, variances2: jax.Array, twin: bool, *, activation: Activation,
    terms: int,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Return the kernels after an activation, two arrays (y, y', x, x').

    They are the covariance K between pixels (NNGP) and T = K + Θ with the tangent kernel Θ (NTK).

    Args:
        k: K before the activation.
        t: Θ before the activation.
        variances1: Variances (height, width) of the first image's pixels before the activation.
        variances2: Variances of the second image's pixels.
        twin: Whether both are the same image.
        activation: The activation.
        terms: Length of the activation's series, or index of its quadrature rule.
    """
    one, two = activation.rows(variances1[_LEFT], terms), activation.rows(variances2[_RIGHT], terms)
    k, slope = activation.pair(_itself(k, variances1, twin), one, two, terms)
    return k, k + slope * t


@functools.partial(jax.jit, static_argnames="size")
def _pooled(k: jax.Array, size: tuple[int, int]) -> jax.Array:
    return cntk_jax.pool(k, *size)


@jax.jit
def _means(k: jax.Array, t: jax.Array) -> jax.Array:
    """Return the means of two arrays `k` and `t` (y, y', x, x') over the entries with y = y' and x = x', (2,)."""
    return jnp.stack([jnp.einsum("yyxx->", m) / (m.shape[0] * m.shape[2]) for m in (k, t)])


def _itself(k: jax.Array, variances: jax.Array, twin: bool) -> jax.Array:
    """Return covariances between the pixels of two images, with exact variances if the images are the same.

    Args:
        k: Covariances (y, y', x, x') between the pixels of two images.
        variances: Variances (height, width) of the first image's pixels, which replace the entries at equal pixels.
        twin: Whether both images are the same; otherwise `k` is returned unchanged.
    """
    high, wide = variances.shape
    same = twin & jnp.eye(high, dtype=bool)[:, :, None, None] & jnp.eye(wide, dtype=bool)
    return jnp.where(same, variances[_LEFT], k)


@functools.cache
def _place(device: str) -> jax.Device | None:
    """Return the JAX device for "cpu" or "gpu", or None for "auto", with which JAX chooses the device.

    Raises `UserError` for a device that JAX does not find.
    """
    if device == "auto":
        return None
    try:
        return jax.devices(device)[0]
    except RuntimeError as error:
        raise UserError(
            f"--device={device}: JAX finds no such device. Install JAX for it, as jax[cuda12] is, or take --device=cpu."
        ) from error
