"""Lambda layers: linear maps, computed from the context of a pixel, applied to the pixel's queries (Bello, ICLR 2021).

An image has n query pixels and m context pixels. Each query pixel has h queries (one per head) of depth k. Each context
pixel has u keys of depth k and u values of depth v = filters / h; K_u is (m, k) and V_u is (m, v). E_nu, (m, k), holds
the position embeddings of query pixel n. The layer computes

    λ_n = Σ_u softmax(K_u)ᵀ V_u + Σ_u E_nuᵀ V_u    (k, v), the content lambda plus the position lambda of pixel n,
    y_n = λ_nᵀ q                                   for each query q of pixel n, side by side: h v = filters numbers,

with the softmax over the m context pixels. All heads share one lambda, so no head needs an attention map of n · m
numbers. For a batch of b images the time is Θ(b n m k v u), and the memory is Θ(n m k u) for E and Θ(b n k v) for the
lambdas. With a local scope of r · r pixels, m is r² and E has r² k u numbers.

The paper starts with E ~ N(0, 1). With normalised queries and values, the outputs of a position lambda then have the
variance k m u, which is 1,024 for m = 64, k = 16 and u = 1. By default E starts with the standard deviation
1/√(k m u), so that the variance is of order one.
"""

import keras
import numpy as np
from keras import ops

from linearized.layers.batch_norm import MOMENTUM, SettledBatchNorm
from linearized.layers.initializers import SeededNormal
from linearized.layers.position_embedding import EMBEDDINGS, PositionEmbedding, refuse_below_one, settled
from linearized.layers.shapes import check_shape

NORMS = ("channels", "published")
ROWS = ("pixels", "unpermuted")


@keras.saving.register_keras_serializable("linearized")
class LambdaLayer(keras.layers.Layer):
    """Lambda layer from images to images, which can replace a 3x3 convolution with padding "same" (Bello, ICLR 2021).

    Each query pixel gets a k x v matrix, its lambda: the sum of a content lambda, computed from the keys and values of
    all context pixels, and a position lambda, computed from position embeddings and values. The outputs are the
    products of the lambda with the queries of the pixel.

    Args:
        filters: Number of output channels, a multiple of `heads`. Values have the depth v = filters / heads.
        heads: h, the number of queries per pixel.
        keys: k, the depth of queries and keys.
        intra_depth: u, the number of keys and values per context pixel.
        scope: r. An odd r: a position lambda covers r · r pixels around the query pixel, by a lambda convolution with
            learned weights; pixels beyond the border count as zero. 0: a position lambda covers all m = H W pixels, by
            a `PositionEmbedding`.
        strides: Distance in pixels between two query pixels along rows and columns. All pixels are context pixels.
        embedding: Kind of the layer's own `PositionEmbedding` (scope 0): "relative" or "absolute".
        norm: "channels": batch normalisation of every channel of queries and values. "published": as in the
            reproduction on CIFAR-10 (joigalcar3/LambdaNetworks), each of the k components of the queries is normalised,
            with statistics shared by all heads; the values of each context pixel are normalised, with statistics over
            their channels.
        rows: "pixels": row i of the context contains the channels of pixel i. "unpermuted": an image is flattened in
            the order (channels, H, W) and reshaped to (H W, channels), which mixes channels and pixels. It needs
            scope 0 and strides of 1. Use it only for networks that were trained with it, such as those of the
            reproduction.
        momentum: Largest share of the old running statistics that a training batch keeps (Keras' convention), see
            `SettledBatchNorm`.
        seed: Random-number seed of the initial weights; give each layer its own.
        kernel_regularizer: Regularizer of the projections to queries, keys and values.
        embedding_stddev: Standard deviation of the initial position embeddings, or of the weights of the lambda
            convolution; None: 1/√(k m u), with m = r² for a local scope, or 1 with norm="published".

    Input shape: `(b, H, W, channels)`; H and W may vary with a local scope and norm="channels".
    Output shape: `(b, ⌈H / strides⌉, ⌈W / strides⌉, filters)`.

    Raises:
        ValueError: For arguments outside these ranges, and when the layer is called on images, or with an embedding, of
            other sizes than those it was built for.

    Example:
        >>> import numpy as np
        >>> from linearized.layers.lambda_layer import LambdaLayer
        >>> layer = LambdaLayer(8, heads=2, keys=4)
        >>> tuple(layer(np.ones((1, 5, 5, 3), "float32")).shape)
        (1, 5, 5, 8)
    """

    def __init__(
        self, filters, heads=4, keys=16, intra_depth=1, scope=0, strides=1, embedding="relative", norm="channels",
        rows="pixels", momentum=MOMENTUM, seed=0, kernel_regularizer=None, embedding_stddev=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        refuse_below_one(filters=filters, heads=heads, keys=keys, intra_depth=intra_depth, strides=strides)
        if filters % heads:
            raise ValueError(f"`filters` must be a multiple of `heads`. Received: filters={filters}, heads={heads}.")
        if scope < 0 or (scope and scope % 2 == 0):
            raise ValueError(f"`scope` must be odd, or 0 for a global one. Received: scope={scope}.")
        if embedding not in EMBEDDINGS:
            raise ValueError(f"`embedding` must be one of {', '.join(EMBEDDINGS)}. Received: embedding={embedding!r}.")
        if norm not in NORMS:
            raise ValueError(f"`norm` must be one of {', '.join(NORMS)}. Received: norm={norm!r}.")
        if rows not in ROWS:
            raise ValueError(f"`rows` must be one of {', '.join(ROWS)}. Received: rows={rows!r}.")
        if rows == "unpermuted" and (scope or strides > 1):
            raise ValueError('`rows="unpermuted"` needs a global scope and strides of 1. '
                             f"Received: scope={scope}, strides={strides}.")  # fmt: skip
        self.rows = rows
        self.filters, self.heads, self.keys, self.intra_depth = int(filters), int(heads), int(keys), int(intra_depth)
        self.scope, self.strides, self.embedding, self.norm = int(scope), int(strides), embedding, norm
        self.momentum, self.seed = float(momentum), SeededNormal(1.0, seed).seed
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        if embedding_stddev is not None and not embedding_stddev >= 0:
            raise ValueError(f"`embedding_stddev` must not be negative. Received: embedding_stddev={embedding_stddev}.")
        self.embedding_stddev = None if embedding_stddev is None else float(embedding_stddev)
        self.values = self.filters // self.heads
        axis = -1 if norm == "channels" else 1
        self.query_norm, self.value_norm = (
            SettledBatchNorm(self.momentum, axis=axis, dtype=self.dtype_policy, name=name)
            for axis, name in ((-1, "query_norm"), (axis, "value_norm"))
        )

    def build(self, x_shape, embedding_shape=None):
        """Create the weights for images of shape `x_shape`, and position embeddings unless they are shared.

        Args:
            x_shape: Shape `(b, H, W, channels)` of the images.
            embedding_shape: Shape of the output of a shared `PositionEmbedding`; None: the layer creates its own,
                unless it has a local scope.
        """
        channels, context = x_shape[-1], _product(x_shape[1:3])
        wide, deep, normal = 1 / np.sqrt(channels), 1 / np.sqrt(channels * self.keys), SeededNormal
        self.to_queries = self._projection("queries", channels, self.heads * self.keys, normal(deep, [*self.seed, 1]))
        self.to_keys = self._projection("keys", channels, self.keys * self.intra_depth, normal(wide, [*self.seed, 2]))
        values = self.values * self.intra_depth
        self.to_values = self._projection("values", channels, values, normal(wide, [*self.seed, 3]))
        together = self.norm == "channels"
        self.query_norm.build((None, None, self.heads * self.keys) if together else (None, None, self.heads, self.keys))
        self.value_norm.build((None, context, values))
        self.position = None
        stddev = 1.0 if self.embedding_stddev is None and self.norm == "published" else self.embedding_stddev
        if self.scope:
            shape = (self.scope, self.scope, self.intra_depth, self.keys)
            start = normal(settled(self.keys, self.scope**2, self.intra_depth, stddev), [*self.seed, 4])
            self.window = self.add_weight(name="window", shape=shape, initializer=start)
        elif embedding_shape is None:
            self.position = PositionEmbedding(
                self.keys, self.intra_depth, self.embedding, self.strides, [*self.seed, 4], stddev,
                dtype=self.dtype_policy, name="position",
            )  # fmt: skip
            self.position.build(x_shape)
        fixed = self.position is not None or self.norm == "published"
        self._expected = (None, *(x_shape[1:3] if fixed else (None, None)), channels)

    def _projection(self, name, channels, outputs, start):
        return self.add_weight(
            name=name, shape=(channels, outputs), initializer=start, regularizer=self.kernel_regularizer
        )

    def call(self, x, embedding=None, training=None):
        """Return images `(b, rows, columns, filters)`, whose channels are the outputs of all heads side by side.

        Args:
            x: Images `(b, H, W, channels)`.
            embedding: Output of a shared `PositionEmbedding` with the same strides; None: the layer uses its own.
            training: Whether the normalisations use and update batch statistics.
        """
        if self.scope and embedding is not None:
            raise ValueError(f"A lambda layer with a scope takes no embedding. Received: scope={self.scope}.")
        check_shape(self, x.shape, self._expected)
        if embedding is not None:
            self._check_embedding(x.shape, embedding.shape)
        height, width = ops.shape(x)[1:3]
        if self.rows == "unpermuted":  # the outputs keep their positions: row i gives pixel i
            x = ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, height, width, x.shape[-1]))
        pixels = ops.reshape(x, (-1, height * width, x.shape[-1]))
        values = self.value_norm(ops.matmul(pixels, self.to_values), training=training)
        asking = x[:, :: self.strides, :: self.strides] if self.strides > 1 else x
        rows, columns = ops.shape(asking)[1:3]
        queries = self._queries(ops.reshape(asking, (-1, rows * columns, x.shape[-1])), training)
        content = self._content(ops.matmul(pixels, self.to_keys), values)
        if self.scope:
            lambdas = self._local(ops.reshape(values, (-1, height, width, self.intra_depth, self.values)))
        else:
            lambdas = self._global(values, self.position(x) if embedding is None else embedding)
        # All queries share the content lambda, so it is applied to them together, not added to each position lambda.
        together = ops.matmul(ops.reshape(queries, (-1, rows * columns * self.heads, self.keys)), content)
        shape = (-1, rows, columns, self.filters)
        return ops.reshape(ops.matmul(queries, lambdas), shape) + ops.reshape(together, shape)

    def _check_embedding(self, x_shape, shape):
        """Raise ValueError unless a shared position embedding fits the images.

        Args:
            x_shape: Shape `(b, H, W, channels)` of the images.
            shape: Shape of the embedding, which must be (n, m, k, u).
        """
        sizes = [None if size is None else -(-size // self.strides) for size in x_shape[1:3]]
        expected = (_product(sizes), _product(x_shape[1:3]), self.keys, self.intra_depth)
        if len(shape) != 4 or any(
            None not in pair and pair[0] != pair[1] for pair in zip(shape, expected, strict=True)
        ):
            raise ValueError(
                f"Images of shape {tuple(x_shape)} need an `embedding` of shape (n, m, k, u) = {expected}. "
                f"Received: embedding.shape={tuple(shape)}."
            )

    def _queries(self, pixels, training):
        """Return the queries of all heads, (b, n, h, k), normalised over the batch and the pixels.

        Args:
            pixels: Channels of the n query pixels, (b, n, channels).
            training: Whether the normalisation uses and updates batch statistics.
        """
        queries = ops.matmul(pixels, self.to_queries)
        shape = (-1, ops.shape(queries)[1], self.heads, self.keys)
        if self.norm == "channels":
            return ops.reshape(self.query_norm(queries, training=training), shape)
        return self.query_norm(ops.reshape(queries, shape), training=training)

    def _content(self, keys, values):
        """Return the content lambda Σ_u softmax(K_u)ᵀ V_u of each image, (b, k, v).

        The softmax over the m context pixels is computed in float32.

        Args:
            keys: u keys of depth k for each context pixel, (b, m, u k).
            values: u values of depth v for each context pixel, (b, m, u v).
        """
        rows = ops.shape(keys)[1] * self.intra_depth
        keys = ops.cast(keys, "float32")
        weights = ops.exp(keys - ops.max(keys, axis=1, keepdims=True))
        weights = ops.cast(weights / ops.sum(weights, axis=1, keepdims=True), self.compute_dtype)
        weights = ops.transpose(ops.reshape(weights, (-1, rows, self.keys)), (0, 2, 1))
        return ops.matmul(weights, ops.reshape(values, (-1, rows, self.values)))

    def _global(self, values, embedding):
        """Return the position lambda Σ_u E_nuᵀ V_u of each query pixel n, (b, n, k, v), by one matrix product.

        Args:
            values: u values of depth v for each context pixel, (b, m, u v).
            embedding: Position embeddings E, (n, m, k, u).
        """
        queries, context, depth, intra = embedding.shape
        table = ops.reshape(ops.transpose(embedding, (0, 2, 1, 3)), (queries * depth, context * intra))
        values = ops.transpose(ops.reshape(values, (-1, context * intra, self.values)), (1, 0, 2))
        lambdas = ops.matmul(ops.cast(table, values.dtype), ops.reshape(values, (context * intra, -1)))
        return ops.transpose(ops.reshape(lambdas, (queries, depth, -1, self.values)), (2, 0, 1, 3))

    def _local(self, values):
        """Return the position lambda of each query pixel, (b, n, k, v), from the values of the pixels around it.

        A convolution with learned weights, centred at the query pixels, is applied to each of the v value channels.

        Args:
            values: u values of depth v for each pixel, (b, H, W, u, v).
        """
        height, width = ops.shape(values)[1:3]
        planes = ops.reshape(ops.transpose(values, (0, 4, 1, 2, 3)), (-1, height, width, self.intra_depth))
        edge = self.scope // 2
        planes = ops.pad(planes, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        lambdas = ops.conv(planes, ops.cast(self.window, planes.dtype), strides=self.strides, padding="valid")
        rows, columns = ops.shape(lambdas)[1:3]
        return ops.transpose(ops.reshape(lambdas, (-1, self.values, rows * columns, self.keys)), (0, 2, 3, 1))

    def compute_output_shape(self, x_shape, embedding_shape=None):
        """Return the output shape for an input shape."""
        sizes = (None if size is None else -(-size // self.strides) for size in x_shape[1:3])
        return (x_shape[0], *sizes, self.filters)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        names = ("filters", "heads", "keys", "intra_depth", "scope", "strides", "embedding", "norm", "rows", "momentum",
                 "seed", "embedding_stddev")  # fmt: skip
        own = {name: getattr(self, name) for name in names}
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), **own, "kernel_regularizer": regularizer}


def _product(sizes):
    return None if None in sizes else sizes[0] * sizes[1]
