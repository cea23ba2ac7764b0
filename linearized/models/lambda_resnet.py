"""LAMBDA_RESNET: residual networks with lambda layers in the place of 3x3 convolutions (Bello, ICLR 2021).

A lambda layer computes a linear map from the context of each pixel and applies the map to the pixel's queries, see
`linearized.layers.lambda_layer`. It has n query pixels, m context pixels and keys of depth k. Lambda layers replace the
convolutions of all stages or of some (`--lambda_stages`). `--lambda_variant` selects one of these variants of the
network:

| variant      | position embeddings                      | batch normalisation | block of stride 2                 |
|--------------|------------------------------------------|---------------------|-----------------------------------|
| "corrected"  | one per position difference              | of every channel    | queries with stride 2             |
| "published"  | one per pair of positions, n m k numbers | see below           | a 3x3 pool after the lambda layer |
| "unpermuted" | as "published"                           | as "published"      | as "published"                    |

Layers of the same image size share one embedding. "published" follows the reproduction of the paper on CIFAR-10 by
joigalcar3/LambdaNetworks, which has 12,898,830 trained parameters for 50 layers (n = m = 64, 16, 4, 1 pixels in the
four stages). "published" normalises each of the k components of the queries, and the values of each context pixel. The
means of its 3x3 average pools include the zeros of the padding. The reproduction has two errors that "published" does
not repeat: a reshape that mixes channels and pixels, and running statistics of batch normalisation with momentum
0.9999. "unpermuted" repeats the reshape, for weights that were trained with it.
"""

from typing import TYPE_CHECKING, Any

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.models.cnn import one_convolution
from linearized.models.declaration import Declaration
from linearized.models.resnet import Spatial, network
from linearized.settings.model_settings import LAMBDA, RESNET, ResNetSettings
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras


def _check_heads(config: Any) -> None:
    """Raise `UserError` if the number of heads does not divide the number of channels."""
    if config.num_units % config.lambda_heads:
        raise UserError(
            f"--num_units must be a multiple of --lambda_heads. Received: --num_units={config.num_units} "
            f"--lambda_heads={config.lambda_heads}."
        )


DECLARED = Declaration(
    reads("num_units", "seed", *RESNET, *LAMBDA),
    groups=(ResNetSettings,),
    units=64,
    images=True,
    ridges="convolutional",
    batches="convolutional",
    schedule=lambda config: "published" if config.lambda_variant == "corrected" else "lambda",
    layout={"resnet_stem": ("pooled",), "lambda_variant": ("published", "unpermuted"), "lambda_intra": (1,),
            "lambda_scope": (0,)},
    hidden_layers=lambda config: config.resnet_depth - 1,
    parameters=one_convolution,
    check=_check_heads,
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled residual network with lambda layers, from flat rows (n, d) to outputs (n, k).

    Args:
        config: Settings num_units (channels of the first stage, 64 in the paper; a multiple of lambda_heads), seed and
            those of `linearized.settings.model_settings.ResNetSettings`.
        dataset: Dataset that determines the image shape and the number of outputs k.
        ridge: λ of the penalty that `linearized.models.resnet` states.

    Raises:
        UserError: If the rows are not images, or if the number of heads does not divide the number of channels.
    """
    _check_heads(config)
    return network(config, dataset, LambdaSpatial(config, ridge), "LAMBDA_RESNET")


class LambdaSpatial(Spatial):
    """Builder of the layers of a LAMBDA_RESNET that mix the pixels of an image: lambda layers, or 3x3 convolutions.

    The setting `lambda_stages` has one letter for each of the four stages, such as "CCLL": L for lambda layers, C for
    convolutions.

    Args:
        config: Settings seed and those of `linearized.settings.model_settings.ResNetSettings`.
        ridge: λ of the penalty λ‖kernel‖² on each convolution and projection.
    """

    def __init__(self, config: Any, ridge: float):
        super().__init__(config, ridge)
        self.published = config.lambda_variant != "corrected"
        self.rows = "unpermuted" if config.lambda_variant == "unpermuted" else "pixels"
        self.embeddings: dict[tuple[int, int, int], Any] = {}

    def __call__(self, x: Any, stage: int, filters: int, strides: int, name: str) -> Any:
        """Add the layer of a block that mixes pixels, a lambda layer or a 3x3 convolution, and return its outputs.

        Args:
            x: Images (n, height, width, channels).
            stage: Index of the stage, 0 to 3.
            filters: Number of output channels.
            strides: Strides along both axes.
            name: Name of the layer.
        """
        if self.config.lambda_stages[stage] == "C":
            return super().__call__(x, stage, filters, strides, name)
        import keras

        from linearized.layers.lambda_layer import LambdaLayer
        from linearized.models.common import penalty

        layer = LambdaLayer(
            filters,
            self.config.lambda_heads,
            self.config.lambda_keys,
            self.config.lambda_intra,
            self.config.lambda_scope,
            strides=1 if self.published else strides,
            norm="published" if self.published else "channels",
            rows=self.rows,
            seed=self.seed(),
            kernel_regularizer=penalty(self.ridge),
            name=name,
        )
        x = layer(x) if self.config.lambda_scope else layer(x, embedding=self._embedding(x, layer.strides))
        if self.published and strides > 1:  # as PyTorch's pool, whose mean counts the zeros of the padding
            x = keras.layers.ZeroPadding2D(1, name=f"{name}_pool_pad")(x)
            x = keras.layers.AveragePooling2D(3, strides, name=f"{name}_pool")(x)
        return x

    def kernel(self, size: int, name: str) -> str:
        """Return "", because no convolution of a lambda network is replaced by a kervolution."""
        return ""

    def _embedding(self, x: Any, strides: int) -> Any:
        from linearized.layers.lambda_layer import PositionEmbedding

        key = (*x.shape[1:3], strides)
        if key not in self.embeddings:
            self.embeddings[key] = PositionEmbedding(
                self.config.lambda_keys,
                self.config.lambda_intra,
                "absolute" if self.published else "relative",
                strides,
                self.seed(),
                1.0 if self.published else None,
                name="embedding_" + "x".join(map(str, key)),
            )(x)
        return self.embeddings[key]
