"""CNTK with any activation: the recursion on whole covariances (y, y', x, x') of one pair of images at a time, in JAX.

The network is that of `cntk` with its ReLUs replaced; ReLU itself uses the fused kernel. With T = K + Θ after each
activation, a convolution is K ← q Σ₉ K + b², Θ ← q Σ₉ T + b². A pair of 32x32 images has 1,048,576 pairs of pixels, and
some ten arrays of them are in memory: 40 MB per pair in float32, independently of the block size. The time is the
number of these entries and layers times the cost of the activation, see `kernels.dense`.
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
from kernel_gen.cntk import recursion_jax as cntk_jax
from kernel_gen.cntk.architecture import Architecture
from kernel_gen.cntk.fused import Cntk
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings


@dataclasses.dataclass(frozen=True)
class Images:
    """Images and the variances of their pixels.

    Attributes:
        pixels: Array (n, height, channels, width), scaled so that products of pixels are the covariance.
        variances: One array (n, convs, height, width) for each stage, before each activation.
        terms: One number for each layer, see `Activation.terms`.
    """

    pixels: np.ndarray
    variances: tuple[np.ndarray, ...]
    terms: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | np.ndarray) -> "Images":
        return Images(self.pixels[rows], tuple(part[rows] for part in self.variances), self.terms)

    def image(self, index: int) -> tuple:
        """Return the arrays of one image."""
        return self.pixels[index], tuple(part[index] for part in self.variances)


class GeneralCntk(Cntk):
    """The CNTK of any activation, computed for one pair of images after another.

    JAX uses all cores, or the GPU that it finds.
    """

    tile = 8

    def __init__(self, architecture: Architecture, image_shape: tuple[int, int, int], settings: KernelSettings):
        super().__init__(architecture, image_shape, dataclasses.replace(settings, device="cpu"))
        self.activation = activation(settings.activation)
        self.own_threads = True
        self.place = _place(settings.device)
        self._heads = jax.jit(self._pair, static_argnums=3)
        self._step = jax.jit(self._layer, static_argnums=2)

    def prepare(self, x: np.ndarray) -> Images:
        """Return images and the variances of rows (n, height·width·channels), at the cost of one pair per image.

        Raises `UserError` as the fused kernel does, and for variances beyond the range of the activation.
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
        """Return the kernel between two prepared sets, (n1, n2). If `same`, one triangle is computed and mirrored."""
        heads = np.empty((len(one), len(two), 2))
        terms = tuple(max(pair) for pair in zip(one.terms, two.terms, strict=True))
        with self._precision():
            for i, j in itertools.product(range(len(one)), range(len(two))):
                if same and j < i:
                    heads[i, j] = heads[j, i]
                else:
                    heads[i, j] = self._heads(one.image(i), two.image(j), same and i == j, terms)
        entries = self.readout(heads if self.kind == "ntk" else heads[..., :1])
        if not np.isfinite(entries).all():
            raise UserError(
                f"{self.architecture.name} with {self.activation.text} overflows {self.dtype}. Lower --weight_std."
            )
        return entries

    def _pair(self, one: tuple, two: tuple, twin: bool, terms: tuple[int, ...]) -> jax.Array:
        """Return K and T of one pair of images at the readout's input."""
        k = jnp.einsum("ycx,vcu->yvxu", one[0], two[0], precision="highest")
        t, counts = k, iter(terms)  # Θ is still 0
        for stage, variances1, variances2 in zip(self.stages, one[1], two[1], strict=True):
            for layer in range(stage.convs):
                k, t = self._convolved(k), self._convolved(t)
                k = _itself(k, variances1[layer], twin)
                count = next(counts)
                sides = (
                    self.activation.rows(variances1[layer][_LEFT], count),
                    self.activation.rows(variances2[layer][_RIGHT], count),
                )
                k, slope = self.activation.pair(k, *sides, count)
                t = k + slope * t
            k, t = (cntk_jax.pool(m, *stage.pool) for m in (k, t))
        return jnp.stack([jnp.einsum("yyxx->", m) / (m.shape[0] * m.shape[2]) for m in (k, t)])

    def _variances(self, image: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
        """Return the diagonals of an image's covariance with itself before each activation, and the terms for each."""
        k, found, counts = jnp.einsum("ycx,vcu->yvxu", image, image, precision="highest"), [], []
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
                k = self._step(k, maps[layer], counts[-1])
            found.append(maps)
            k = cntk_jax.pool(k, *stage.pool)
        return found, counts

    def _layer(self, k: jax.Array, variances: jax.Array, terms: int) -> jax.Array:
        sides = (self.activation.rows(variances[where], terms) for where in (_LEFT, _RIGHT))
        return self.activation.pair(_itself(k, variances, True), *sides, terms)[0]

    def _convolved(self, k: jax.Array) -> jax.Array:
        return self.dtype.type(self.q) * cntk_jax.sum_of_nine(k) + self.dtype.type(self.bias)

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        with jax.enable_x64(self.dtype == np.float64), jax.default_device(self.place):
            yield


_LEFT, _RIGHT = np.s_[:, None, :, None], np.s_[None, :, None, :]


def _itself(k: jax.Array, variances: jax.Array, twin: bool) -> jax.Array:
    """Return k with the exact variances where, in a pair of an image with itself, a pixel is paired with itself."""
    high, wide = variances.shape
    same = twin & jnp.eye(high, dtype=bool)[:, :, None, None] & jnp.eye(wide, dtype=bool)
    return jnp.where(same, variances[_LEFT], k)


@functools.cache
def _place(device: str) -> jax.Device | None:
    """Return the requested device, or None for JAX's own choice.

    Raises `UserError` for a GPU that JAX does not find.
    """
    if device == "auto":
        return None
    try:
        return jax.devices(device)[0]
    except RuntimeError as error:
        raise UserError(
            f"--device={device}: JAX finds no such device. Install JAX for it, as jax[cuda12] is, or take --device=cpu."
        ) from error
