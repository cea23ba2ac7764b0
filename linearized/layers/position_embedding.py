"""Position embeddings for lambda layers in which all pixels of the image are context pixels.

The lambda layers are those of LambdaNetworks (Bello, ICLR 2021); see `linearized.layers.lambda_layer`. Several layers
can share one embedding.
"""

import keras
import numpy as np
from keras import ops

from linearized.layers.initializers import SeededNormal
from linearized.layers.shapes import check_shape

EMBEDDINGS = ("relative", "absolute")


@keras.saving.register_keras_serializable("linearized")
class PositionEmbedding(keras.layers.Layer):
    """Learned position embeddings E of `LambdaLayer`: u vectors of length k for each query pixel and context pixel.

    Images have m = H W context pixels and n = ⌈H / strides⌉ ⌈W / strides⌉ query pixels.

    Args:
        keys: k, the depth of the keys.
        intra_depth: u, the number of keys and values per context pixel.
        kind: "relative": u vectors for each difference of positions, (2H - 1)(2W - 1) u k numbers; "absolute": u
            vectors for each pair of positions, n m u k numbers.
        strides: Distance in pixels between two query pixels, as in the lambda layers that use the embedding.
        seed: Random-number seed of the initial weights.
        stddev: Standard deviation of the normal initial weights; None: 1/√(k m u).

    Input shape: `(b, H, W, channels)`, of which only H and W are used; both must be known.
    Output shape: `(n, m, k, u)`, without a batch axis.

    Raises:
        ValueError: For numbers below one, an unknown `kind`, and images without a known size.
    """

    def __init__(self, keys=16, intra_depth=1, kind="relative", strides=1, seed=0, stddev=1.0, **kwargs):
        super().__init__(**kwargs)
        refuse_below_one(keys=keys, intra_depth=intra_depth, strides=strides)
        if kind not in EMBEDDINGS:
            raise ValueError(f"`kind` must be one of {', '.join(EMBEDDINGS)}. Received: kind={kind!r}.")
        self.keys, self.intra_depth, self.kind, self.strides = int(keys), int(intra_depth), kind, int(strides)
        self.seed = SeededNormal(1.0 if stddev is None else stddev, seed).seed
        self.stddev = None if stddev is None else float(stddev)

    def build(self, input_shape):
        """Create the weights for images of the shape `(b, H, W, channels)`."""
        height, width = input_shape[1:3]
        if height is None or width is None:
            raise ValueError(
                "A global scope needs images of one size; give the lambda layer a `scope` for others. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        shape = self.compute_output_shape(input_shape)
        if self.kind == "relative":
            shape = ((2 * height - 1) * (2 * width - 1), *shape[2:])
            self._places = _differences(height, width, self.strides)
        self._size = height, width
        start = SeededNormal(settled(self.keys, height * width, self.intra_depth, self.stddev), self.seed)
        self.embedding = self.add_weight(name="embedding", shape=shape, initializer=start)

    def call(self, x):
        """Return the embeddings E, (n, m, k, u), for images x of the size that the layer was built for."""
        check_shape(self, x.shape, (None, *self._size, None))
        embedding = ops.convert_to_tensor(self.embedding)
        return embedding if self.kind == "absolute" else ops.take(embedding, self._places, axis=0)

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        height, width = input_shape[1:3]
        queries = -(-height // self.strides) * -(-width // self.strides)
        return (queries, height * width, self.keys, self.intra_depth)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        own = {"keys": self.keys, "intra_depth": self.intra_depth, "kind": self.kind, "strides": self.strides}
        return {**super().get_config(), **own, "seed": self.seed, "stddev": self.stddev}


def settled(keys, context, intra_depth, stddev=None):
    """Return the standard deviation of the initial position embeddings of a lambda layer.

    Args:
        keys: k, the depth of the keys.
        context: m, the number of context pixels of a position lambda.
        intra_depth: u, the number of keys and values per context pixel.
        stddev: The user's choice, which is returned unchanged. None: 1/√(k m u) is returned; with normalised queries
            and values, the outputs of a position lambda then have the variance one.
    """
    return (keys * context * intra_depth) ** -0.5 if stddev is None else stddev


def _differences(height, width, strides):
    """Return the index of the difference of positions for each of n query pixels and m context pixels, (n, m).

    The differences (context pixel minus query pixel) are numbered row by row from 0 to (2H - 1)(2W - 1) - 1.

    Args:
        height: H, the number of rows of the image.
        width: W, the number of columns of the image.
        strides: Distance in pixels between two query pixels along rows and columns.
    """
    rows, columns = np.divmod(np.arange(height * width), width)
    asking = (rows % strides == 0) & (columns % strides == 0)
    down = rows[None] - rows[asking, None] + height - 1
    right = columns[None] - columns[asking, None] + width - 1
    return (down * (2 * width - 1) + right).astype("int32")


def refuse_below_one(**numbers):
    """Raise ValueError for the first keyword argument that is smaller than one, with the argument's name."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={number}.")
