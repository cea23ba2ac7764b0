"""Features of the kernel of a network, computed layer by layer.

The layers are those of `linear` and `activation`. They are planned once for a number of features, and then applied to
batches of rows. The random numbers of each layer are determined by one seed. They do not depend on the data, the batch
or the machine, so that all parts of a dataset are embedded by the same φ.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from kernel_gen.features.activation import ActivationStep, Approximation
from kernel_gen.features.function import FeatureFunction
from kernel_gen.features.linear import AvgPoolStep, ConvStep, DenseStep, FlattenStep, GlobalAvgPoolStep, Step
from kernel_gen.features.nonlinearity import Nonlinearity
from kernel_gen.features.state import FeatureState, Shape, squares_of
from kernel_gen.features.tensor_srht import Srht
from linearized.base.errors import UserError
from linearized.base.shapes import Float

Layer = DenseStep | ConvStep | AvgPoolStep | FlattenStep | GlobalAvgPoolStep | Nonlinearity
COLUMNS = 1024  # columns of a batch, pixels included: 2 MB of 512 features
KINDS = ("ntk", "nngp")


@dataclasses.dataclass(frozen=True)
class EmbeddingPlan:
    """The number of features of a kernel and the method by which they are computed.

    Attributes:
        dim: Largest number m of features.
        width: Number of features of each kernel (NNGP and NTK) after every activation except the last; 0: m/2 for
            vectors, m/8 for images.
        how: Method by which the kernels after each activation are approximated.
        seed: Random-number seed of all layers.
    """

    dim: int
    width: int = 0
    how: Approximation = dataclasses.field(default_factory=Approximation)
    seed: int = 0


class Features(FeatureFunction):
    """Features φ with φ(x)·φ(z) ≈ the NTK or NNGP of a network of infinite width.

    Args:
        layers: Layers in the order of the network.
        dim: Columns of the inputs; images are rows of height·width·channels.
        image_shape: (height, width, channels), or None for vectors.
        kind: "ntk" or "nngp".
        embedding: The number of features and their approximation.
        scale: "stax" divides inputs by √dim or √channels, as neural_tangents.stax does; "input" leaves them unchanged.

    Attributes:
        dim: Number m of features, at most `embedding.dim`.
        least: Smallest `embedding.dim` with which these layers have features.
        batch: Rows that one thread computes together.

    Raises `UserError` for layers that do not fit the inputs, a network without a dense or convolutional layer if the
    kind is "ntk", and too few features.
    """

    def __init__(
        self, layers: Sequence[Layer], dim: int, image_shape: tuple[int, int, int] | None, kind: str,
        embedding: EmbeddingPlan, *, scale: str = "stax",
    ):  # fmt: skip
        if kind not in KINDS:
            raise UserError(f"A kind is ntk or nngp. Received: {kind!r}.")
        self.kind, self.inputs, self.dtype = kind, dim, np.dtype(embedding.how.dtype)
        spatial = any(isinstance(layer, ConvStep | AvgPoolStep | GlobalAvgPoolStep | FlattenStep) for layer in layers)
        self._image = tuple(image_shape) if spatial and image_shape is not None else None
        channels = self._image[2] if self._image else dim
        self.scale, self._factor = scale, 1 / math.sqrt(channels) if scale == "stax" else 1.0
        self._steps: list[Step] = []
        shape = Shape(channels, 0, self._image[:2] if self._image else None)
        shape = self._plan(layers, shape, embedding)
        if shape.image is not None:
            raise UserError("The network ends with images. End it with Flatten or GlobalAvgPool.")
        rows = shape.ntk if kind == "ntk" else shape.nngp
        if not rows:
            raise UserError("The tangent kernel of a network without a dense layer or a convolution is 0.")
        random = np.random.RandomState([embedding.seed, len(layers)])
        self._fit = Srht(rows, embedding.dim, random, self.dtype) if rows > embedding.dim else None
        self.dim = min(rows, embedding.dim)
        per_input = math.prod(self._image[:2]) if self._image else 1
        self.batch = max(1, COLUMNS // (4 * per_input)) if self._image else 256

    def _plan(self, layers: Sequence[Layer], shape: Shape, embedding: EmbeddingPlan) -> Shape:
        last = max((place for place, layer in enumerate(layers) if isinstance(layer, Nonlinearity)), default=-1)
        width = embedding.width or max(embedding.dim // (8 if self._image else 2), 2)
        limit = math.inf
        self.least = 1
        for place, layer in enumerate(layers):
            random = np.random.RandomState([embedding.seed, place])
            if isinstance(layer, Nonlinearity):
                layer = ActivationStep(layer, embedding.how)
                tangent = self.kind == "ntk" and shape.ntk > 0
                shape = dataclasses.replace(shape, ntk=shape.ntk if tangent else 0)
                rows, share, least = self._room(layer, shape, layers[place + 1 :], embedding, width, place == last)
                self.least = max(self.least, least)
                if rows < layer.least(shape):
                    raise UserError(
                        f"These features need an embedding dimension of at least {least}"
                        f"{'' if place == last else f' and a width of at least {-(-layer.least(shape) // 2)}'}. "
                        f"Received: {embedding.dim} and a width of {width}."
                    )
                after = [one for one in layers[place + 1 :] if isinstance(one, DenseStep | ConvStep)]
                summed = place == last and len(after) == 1 and isinstance(after[0], DenseStep) and self.kind == "ntk"
                step, shape = layer.plan(shape, rows, share, random, summed=summed)
                limit = math.inf if place == last else 2 * width
            else:
                folded = max(shape.nngp, shape.ntk) if place > last >= 0 else max(limit, 1)
                step, shape = layer.plan(shape, folded, random)
            if self.kind == "nngp":
                shape, step = dataclasses.replace(shape, ntk=0), _without_tangent(step)
            self._steps.append(step)
        return shape

    def _room(
        self,
        layer: ActivationStep,
        shape: Shape,
        after: Sequence[Layer],
        embedding: EmbeddingPlan,
        width: int,
        last: bool,
    ) -> tuple[int, int | None, int]:
        """Return the largest numbers of features (rows) of Σ (NNGP) and Θ (NTK) after an activation.

        Args:
            layer: The activation.
            shape: Shape of its inputs.
            after: The layers after it.
            embedding: Plan of the features.
            width: Number of features of each kernel between layers.
            last: Whether it is the last activation.

        Returns: The rows of Σ and Θ together; the rows of Σ among them, or None if the layer divides the rows itself;
        and the smallest embedding dimension that this layer needs.
        """
        if not last:
            return (2 * width, width, 1) if shape.ntk else (width, width, 1)
        weighted = [one for one in after if isinstance(one, DenseStep | ConvStep)]
        biases = sum(one.bias_std > 0 for one in weighted)
        least = layer.least(shape) + biases
        if shape.ntk and not weighted:  # the result is Θ alone
            small = layer.least(dataclasses.replace(shape, ntk=0))
            return embedding.dim + small, small, 2
        if self.kind == "ntk" and not shape.ntk and not weighted:
            raise UserError("The tangent kernel of a network without a dense layer or a convolution is 0.")
        return embedding.dim - biases, None if shape.ntk else embedding.dim - biases, least

    def of_batch(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Return φ of a batch of finite rows (n, d), (n, m)."""
        x = (rows * self.dtype.type(self._factor)).T
        if self._image:
            high, wide, channels = self._image
            x = x.reshape(high, wide, channels, len(rows)).transpose(2, 3, 0, 1)
        x = np.ascontiguousarray(x)
        state = FeatureState(x, x[:0], squares_of(x))
        for step in self._steps:
            state = step(state)
        features = state.ntk if self.kind == "ntk" else state.nngp
        return (features if self._fit is None else self._fit(features)).T


def _without_tangent(step: Step) -> Step:
    """Return a layer's function that drops the features of the tangent kernel Θ, which the NNGP kernel does not need.

    Args:
        step: The function of the layer.
    """

    def alone(state: FeatureState) -> FeatureState:
        state = step(state)
        return FeatureState(state.nngp, state.ntk[:0], state.square)

    return alone
