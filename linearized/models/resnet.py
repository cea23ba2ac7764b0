"""RESNET: residual networks of 18, 50, 101 or 152 layers for images of any size (He et al., CVPR 2016).

With the stem for large images (a 7x7 convolution and a pool, both with stride 2) and ten classes, 50 layers have
23,528,522 trained parameters, as in the comparison with lambda layers on CIFAR-10 by joigalcar3/LambdaNetworks. Strided
convolutions and pools have symmetric padding, as in PyTorch's networks. `--resnet_padding=same` selects Keras'
padding instead.

A block adds a residual branch to its input. The branch starts at 0, because the scales γ of its last batch
normalisation start at 0; with `--resnet_zero_start=false` they start at 1. Lambda layers are quadratic in their inputs
and can have large outputs while the running statistics of batch normalisation are inaccurate. Scales that start at 0
bound the effect of such outputs. At each training batch, the running statistics keep at most a share of 0.9 of their
old values.

With `--kervolution_kernel`, kervolutions (convolutions whose products are replaced by a kernel) replace all
convolutions, including the stem, the 1x1 convolutions and the convolutions of the shortcuts. With
`--kervolution_places=inner`, the stem and the 1x1 convolutions are not replaced. The names of the layers and the shapes
of the filters stay the same, so the weights of a trained network without kervolutions can be loaded.

Penalty: λ Σ‖kernel‖² over convolutions, kervolutions and the projections of lambda layers.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.data.dataset import Dataset
from linearized.models.cnn import one_convolution
from linearized.models.declaration import Declaration
from linearized.settings.model_settings import KERVOLUTION, RESNET, KervolutionSettings, ResNetSettings
from linearized.settings.reads import SET, reads, when

if TYPE_CHECKING:
    import keras

DECLARED = Declaration(
    reads("num_units", "seed", "kervolution_kernel", *RESNET)
    | reads("kervolution_places", *KERVOLUTION, when=when(kervolution_kernel=SET)),
    groups=(KervolutionSettings, ResNetSettings), units=64, images=True, ridges="convolutional",
    batches="convolutional", hidden_layers=lambda config: config.resnet_depth - 1, parameters=one_convolution,
    layout={"resnet_stem": ("pooled",)},
)  # fmt: skip
# Number of layers -> number of blocks of each stage
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4  # channel factor of a bottleneck, used from 50 layers on
STEM = "stem"  # name of the first convolution


class Spatial:
    """Builder of the convolutions of a residual network.

    Calling an object of this class adds the 3x3 convolution of a block, the layer that mixes pixels. The subclass
    `LambdaSpatial` can add a lambda layer instead.

    Args:
        config: Settings seed, and those of `linearized.settings.model_settings.ResNetSettings` and
            `KervolutionSettings`.
        ridge: λ of the penalty λ‖kernel‖² on each convolution.
    """

    def __init__(self, config: Any, ridge: float):
        self.config, self.ridge, self.numbers = config, ridge, itertools.count(1)

    def seed(self) -> tuple[int, int]:
        """Return a new random-number seed for a layer's weights: the run's seed and the number of the call, from 1."""
        return self.config.seed, next(self.numbers)

    def __call__(self, x: Any, stage: int, filters: int, strides: int, name: str) -> Any:
        """Add the layer of a block that mixes pixels, a 3x3 convolution or kervolution, and return its outputs.

        Args:
            x: Images (n, height, width, channels).
            stage: Index of the stage, 0 to 3.
            filters: Number of output channels.
            strides: Strides along both axes.
            name: Name of the layer.
        """
        return self.conv(x, filters, 3, strides, name)

    def conv(self, x: Any, filters: int, size: int, strides: int, name: str) -> Any:
        """Add a convolution without bias, or the kervolution that replaces it, and return its outputs.

        The initial weights of a convolution have the variance 2/(size² filters) (He et al., by fan-out).

        Args:
            x: Images (n, height, width, channels).
            filters: Number of output channels.
            size: Height and width of the filters.
            strides: Strides along both axes.
            name: Name of the layer.
        """
        import keras

        from linearized.layers.initializers import SeededNormal
        from linearized.models.common import penalty
        from linearized.models.kervolutions import kervolution

        padding = "same"
        if strides > 1 and size > 1 and self.config.resnet_padding == "symmetric":
            x, padding = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x), "valid"
        kernel = self.kernel(size, name)
        if kernel:
            return kervolution(
                self.config, kernel, self.ridge, filters, size, strides, x.shape[-1], self.seed(), name, padding
            )(x)
        start = SeededNormal(np.sqrt(2 / (size**2 * filters)), self.seed())
        return keras.layers.Conv2D(
            filters, size, strides, padding, use_bias=False, kernel_initializer=start,
            kernel_regularizer=penalty(self.ridge), name=name,
        )(x)  # fmt: skip

    def kernel(self, size: int, name: str) -> str:
        """Return the kernel of the kervolution that replaces a convolution, such as "gaussian"; "" if none does.

        Args:
            size: Height and width of the convolution's filters.
            name: Name of the layer.
        """
        if self.config.kervolution_places == "inner" and (size == 1 or name == STEM):
            return ""
        return self.config.kervolution_kernel


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled residual network (RESNET) from flat rows (n, d) to outputs (n, k).

    Args:
        config: Settings num_units (channels of the first stage, 64 in the paper), seed, and those of
            `linearized.settings.model_settings.ResNetSettings` and `KervolutionSettings`.
        dataset: Dataset that determines the image shape and the number of outputs k.
        ridge: λ of the penalty that the module's docstring states.

    Raises:
        UserError: If the rows are not images.
    """
    return network(config, dataset, Spatial(config, ridge), "RESNET")


def network(config: Any, dataset: Dataset, spatial: Spatial, name: str) -> "keras.Model":
    """Return an uncompiled residual network of given layers, from flat rows (n, d) to outputs (n, k).

    Args:
        config: Settings as for `build`.
        dataset: Dataset as for `build`.
        spatial: Builder of the layers that mix pixels, and of the other convolutions.
        name: Name of the model.

    Raises:
        UserError: If the rows are not images.
    """
    import keras

    from linearized.models.common import image_input, readout

    inputs, x = image_input(dataset, name)
    x = _stem(config, spatial, x)
    block = _basic if config.resnet_depth == 18 else _bottleneck
    for stage, count in enumerate(BLOCKS[config.resnet_depth]):
        for number in range(count):
            strides = 2 if stage and not number else 1
            x = block(spatial, x, stage, config.num_units * 2**stage, strides, f"stage_{stage + 1}_{number + 1}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, readout(dataset, x.shape[-1], config.seed)(x), name=name)


def _stem(config: Any, spatial: Spatial, x: Any) -> Any:
    import keras

    pooled = config.resnet_stem == "pooled"
    x = spatial.conv(x, config.num_units, 7 if pooled else 3, 2 if pooled else 1, STEM)
    x = _active(_norm("stem_norm")(x), "stem_relu")
    if not pooled:
        return x
    if config.resnet_padding == "same":
        return keras.layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # zeros do not exceed any output of the ReLU
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def _last_scale(spatial: Spatial) -> str:
    return "zeros" if spatial.config.resnet_zero_start else "ones"


def _active(x: Any, name: str) -> Any:
    import keras

    return keras.layers.ReLU(name=name)(x)


def _norm(name: str, scale: str = "ones") -> "keras.layers.Layer":
    from linearized.models.common import batch_norm

    return batch_norm(name, scale)


def _basic(spatial: Spatial, x: Any, stage: int, filters: int, strides: int, name: str) -> Any:
    inner = _norm(f"{name}_norm_1")(spatial(x, stage, filters, strides, f"{name}_mix_1"))
    inner = _active(inner, f"{name}_relu_1")
    inner = _norm(f"{name}_norm_2", _last_scale(spatial))(spatial(inner, stage, filters, 1, f"{name}_mix_2"))
    return _joined(spatial, x, inner, strides, name)


def _bottleneck(spatial: Spatial, x: Any, stage: int, filters: int, strides: int, name: str) -> Any:
    inner: Any = x
    width = spatial.config.resnet_width
    steps: tuple[Callable[[Any], Any], ...] = (
        lambda y: spatial.conv(y, filters * width, 1, 1, f"{name}_conv_1"),
        lambda y: spatial(y, stage, filters * width, strides, f"{name}_mix_2"),
        lambda y: spatial.conv(y, filters * EXPANSION, 1, 1, f"{name}_conv_3"),
    )
    for number, step in enumerate(steps, start=1):
        inner = _norm(f"{name}_norm_{number}", "ones" if number < len(steps) else _last_scale(spatial))(step(inner))
        if number < len(steps):
            inner = _active(inner, f"{name}_relu_{number}")
    return _joined(spatial, x, inner, strides, name)


def _joined(spatial: Spatial, x: Any, inner: Any, strides: int, name: str) -> Any:
    """Add the input of a residual block to the outputs of its branch, apply the ReLU, and return the result.

    If the shapes differ, the input first passes a 1x1 convolution with batch normalisation.

    Args:
        spatial: Builder of the convolution.
        x: Input of the block.
        inner: Outputs of the residual branch.
        strides: Strides of the block along both axes.
        name: Name of the block.
    """
    import keras

    if x.shape[1:] != inner.shape[1:]:
        x = spatial.conv(x, inner.shape[-1], 1, strides, f"{name}_short")
        x = _norm(f"{name}_short_norm")(x)
    return _active(keras.layers.Add(name=f"{name}_sum")([x, inner]), f"{name}_out")
