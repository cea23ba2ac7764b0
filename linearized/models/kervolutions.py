"""The function `kervolution`, which builds a nonlinear convolution for a network from the settings of a run."""

from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.layers.initializers import SeededNormal
from linearized.layers.kervolution import DISTANCES, Kervolution2D
from linearized.models.common import penalty


@keras.saving.register_keras_serializable("linearized")
class SeededUniform(SeededNormal):
    """Initializer of weights with uniform entries of mean 0; equal seeds give equal weights on every backend.

    Args:
        stddev: Standard deviation of the entries; they lie within ±√3 stddev.
        seed: Random-number seed: one number or several.
    """

    def __call__(self, shape, dtype=None):
        """Return the initial values of a weight.

        Args:
            shape: Shape of the weight.
            dtype: Data type of the weight; None: float32.
        """
        bound = np.sqrt(3) * self.stddev
        drawn = np.random.default_rng(self.seed).uniform(-bound, bound, tuple(shape)).astype(np.float32)
        return keras.ops.convert_to_tensor(drawn, dtype=dtype or "float32")


def kervolution(
    config: Any, kernel: str, ridge: float, filters: int, size: int, strides: int, channels: int, seed: tuple[int, int],
    name: str, padding: str = "same",
) -> Kervolution2D:  # fmt: skip
    """Return a kervolution layer without bias, for a network in which a normalisation follows it.

    A kervolution is a convolution whose products x·w of a patch x and a filter w are replaced by a kernel of x and w.
    The initial entries of the filters are drawn as follows, for patches of P numbers:

    - N(0, 1) for kernels that depend on the distance between x and w, because normalised patches have entries of this
      size.
    - N(0, 2/P) for other kernels, as He et al. propose.
    - Uniform within ±1/√P for all kernels with `--kervolution_variant=published`.

    Args:
        config: Settings of the kernel, see `linearized.settings.model_settings.KervolutionSettings`.
        kernel: Name of the kernel. "linear" gives a convolution, for which the settings of another kernel are ignored.
        ridge: λ of the penalty λ‖filters‖².
        filters: Number of filters.
        size: Height and width of a filter.
        strides: Strides along both axes.
        channels: Number of input channels.
        seed: Random-number seed of the initial filters: the seed of the run, and the index of the layer.
        name: Name of the layer.
        padding: Padding as in Keras' convolutions.

    Raises:
        UserError: For settings that the kernel does not have.
    """
    options = {
        "degree": config.kervolution_degree,
        "offset": config.kervolution_offset,
        "gamma": config.kervolution_gamma,
        "learnable": config.kervolution_learnable,
        "variant": config.kervolution_variant,
    }
    if kernel == "linear" != config.kervolution_kernel:
        options = {}
    published = options.get("variant") == "published"
    patch = size * size * channels
    stddev = 1.0 if kernel in DISTANCES else np.sqrt(2 / patch)
    start = SeededUniform((3 * patch) ** -0.5, seed) if published else SeededNormal(stddev, seed)
    try:
        return Kervolution2D(
            filters, size, kernel=kernel, **options, strides=strides, padding=padding, use_bias=False,
            kernel_initializer=start, kernel_regularizer=penalty(ridge), name=name,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"The --kervolution_ flags do not go together. {error}") from error
