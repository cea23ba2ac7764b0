"""The convolutional neural tangent kernel (CNTK) of ReLU networks as a `Kernel`, on CPU cores or a GPU.

A fused program computes all convolutions and ReLUs on images of one size in a single pass over the pairs of pixels of
two images (`recursion_numba` and `recursion_cuda`). Before that, the standard deviation of every pixel after every
convolution is computed for each image alone (diagonal maps, `diagonal`).

The parametrisation is that of neural_tangents.stax: a 3x3 convolution divides the weight variance by 9 times the number
of its input channels. The inputs of the first convolution are the channels of the images. At scale "stax" the first
convolution divides by 9 times the number of these channels, and at scale "input" by 9 alone. --scale=published selects
"stax". The last layer is a dense readout. Its weights and biases have the same standard deviations as those of the
convolutions.
"""

import functools
import math

import numpy as np
from absl import logging
from numba import cuda

from kernel_gen.cntk import diagonal as cntk_diagonal
from kernel_gen.cntk import engine as cntk_engine
from kernel_gen.cntk import recursion_cuda as cntk_cuda
from kernel_gen.cntk.architecture import Architecture
from kernel_gen.cntk.diagonal import Prepared
from kernel_gen.kernel import Kernel
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings


class Cntk(Kernel):
    """The CNTK of a ReLU network on images, computed by fused programs on all cores or on a GPU.

    The standard deviations of an image's pixels in all layers (diagonal maps) are computed once, by `prepare`.

    Args:
        architecture: The network up to its readout.
        image_shape: (height, width, channels).
        settings: Settings of the kernel: kind, weight_std, bias_std, dtype, scale and device.

    Raises `UserError` for images that a pool of the network does not divide, a weight_std of 0, and a GPU that Numba
    does not find.
    """

    tile = 32  # 1,024 pairs: some seconds of work for two cores, one GPU launch, and a small loss if interrupted
    positive = True

    def __init__(self, architecture: Architecture, image_shape: tuple[int, int, int], settings: KernelSettings):
        self.architecture, self.image_shape = architecture, image_shape
        self.dtype = np.dtype(settings.dtype)
        self.scale = "stax" if settings.scale == "published" else settings.scale
        self.kind, self.weight, self.bias = settings.kind, settings.weight_std**2, settings.bias_std**2
        self.stages = architecture.stages(*image_shape[:2])
        self.q = self.weight / 9
        if not self.weight > 0:
            raise UserError(f"A CNTK needs --weight_std above 0. Received: {settings.weight_std}.")
        # One process uses a GPU best with one block after another; CUDA_VISIBLE_DEVICES selects the GPU.
        self.own_threads = self.on_gpu = _on_gpu(settings.device)

    @functools.cached_property
    def engine(self) -> cntk_engine.Engine:
        """The object with the compiled programs of all stages of the network, created on first use."""
        make = cntk_cuda.CudaEngine if self.on_gpu else cntk_engine.Engine
        return make(
            self.stages, self.image_shape[2], ntk=self.kind == "ntk", q=self.q, beta=self.bias / self.q,
            dtype=self.dtype.name,
        )  # fmt: skip

    def prepare(self, x: np.ndarray) -> Prepared:
        """Return images, given as rows (n, height·width·channels), with the standard deviations of their pixels.

        There is one standard deviation for each pixel and each convolution. Raises `UserError` for rows of a
        different length and for numbers that are not finite.
        """
        return cntk_diagonal.prepare(self.pixels(x), self.stages, q=self.q, bias=self.bias, dtype=self.dtype)

    def pixels(self, x: np.ndarray) -> np.ndarray:
        """Return the scaled pixels (n, height, channels, width) of images, given as rows (n, height·width·channels).

        The pixels are scaled so that the covariance of two pixels is the sum over channels of their products. Raises
        `UserError` for rows of a different length and for numbers that are not finite.
        """
        height, width, channels = self.image_shape
        if x.ndim != 2 or x.shape[1] != height * width * channels:
            raise UserError(
                f"{self.architecture.name} was built for rows of {height}x{width}x{channels} images, "
                f"{height * width * channels} numbers each. Received an array of shape {x.shape}."
            )
        if x.dtype.kind not in "fiu":
            raise UserError(f"Images are real numbers. Received an array of {x.dtype}.")
        if not np.isfinite(x).all():
            row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
            raise UserError(f"Image {row} holds pixels that are not finite. Correct or remove such images.")
        images = np.asarray(x, self.dtype).reshape(-1, height, width, channels)
        if self.scale == "stax":
            images = images / self.dtype.type(math.sqrt(channels))
        return np.ascontiguousarray(images.transpose(0, 1, 3, 2))

    def block(self, one: Prepared, two: Prepared, *, same: bool = False) -> np.ndarray:
        """Return the kernel (n1, n2) between two sets of images, which `prepare` returned.

        Args:
            one: The n1 images of the rows.
            two: The n2 images of the columns.
            same: Whether `two` contains the images of `one`; one triangle is then computed and mirrored.
        """
        return self.readout(self.engine.block(one, two, same))

    def readout(self, heads: np.ndarray) -> np.ndarray:
        """Return the kernel after the dense readout, in the kernel's dtype, from the kernels before it.

        Args:
            heads: The kernels before the readout along the last axis: the covariance K and, for the NTK, T = K + Θ with
                the tangent kernel Θ. The last entry is used.
        """
        return (self.weight * heads[..., -1] + self.bias).astype(self.dtype)


def _on_gpu(device: str) -> bool:
    """Return whether pairs of images are computed on a GPU.

    Raises `UserError` if a GPU is requested and Numba finds none.

    Args:
        device: "cpu", "gpu", or "auto" for a GPU if there is one.
    """
    if device == "cpu" or not cuda.is_available():
        if device == "gpu":
            raise UserError("--device=gpu needs a GPU and its driver, and Numba finds none. Take --device=cpu.")
        return False
    logging.info("pairs of images are computed on a GPU")
    return True
