"""Lambda layers: the context of each pixel becomes a linear map that is applied to its query (Bello, ICLR 2021).

For n queries and m context pixels with keys of depth k, values of depth v = filters / heads and u of each,

    λ_n = Σ_u softmax_m(K_u)ᵀ V_u + Σ_u E_nuᵀ V_u    (k, v), the content lambda and the position lambda of pixel n,
    y_n = λ_nᵀ q_nh                                  for each of the heads h, side by side: h v = filters numbers.

One lambda serves all heads, so there is no n · m map for any of them. Over a batch of b the time is Θ(b n m k v u), the
memory Θ(n m k u) for E and Θ(b n k v) for the lambdas; with a local scope of r · r pixels m is r² and E is r² k u.
"""

import keras
import numpy as np
from keras import ops

from linearized.layers.batch_norm import MOMENTUM, SettledBatchNorm
from linearized.layers.initializers import SeededNormal

EMBEDDINGS = ("relative", "absolute")
NORMS = ("channels", "published")


@keras.saving.register_keras_serializable("linearized")
class PositionEmbedding(keras.layers.Layer):
    """E, what the place of a context pixel means to a query, for a global scope. One can serve many lambda layers.

    Args:
        keys: k, the depth of the keys.
        intra_depth: u.
        kind: "relative": one vector for each difference of places, (2H - 1)(2W - 1) u k numbers; "absolute": one for
            each pair of places, n m u k numbers.
        strides: Of the queries; those of the lambda layers that it serves.
        seed: Of the draw from N(0, 1).

    Input shape: `(b, H, W, channels)`, of which only H and W are used; both must be known.
    Output shape: `(n, m, k, u)` with m = H W and n = ⌈H / strides⌉ ⌈W / strides⌉; it has no batch axis.
    """

    def __init__(self, keys=16, intra_depth=1, kind="relative", strides=1, seed=0, **kwargs):
        super().__init__(**kwargs)
        _refuse_below_one(keys=keys, intra_depth=intra_depth, strides=strides)
        if kind not in EMBEDDINGS:
            raise ValueError(f"`kind` must be one of {', '.join(EMBEDDINGS)}. Received: kind={kind!r}.")
        self.keys, self.intra_depth, self.kind, self.strides = int(keys), int(intra_depth), kind, int(strides)
        self.seed = SeededNormal(1.0, seed).seed

    def build(self, input_shape):
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
        self.embedding = self.add_weight(name="embedding", shape=shape, initializer=SeededNormal(1.0, self.seed))

    def call(self, x):
        embedding = ops.convert_to_tensor(self.embedding)
        return embedding if self.kind == "absolute" else ops.take(embedding, self._places, axis=0)

    def compute_output_shape(self, input_shape):
        height, width = input_shape[1:3]
        queries = -(-height // self.strides) * -(-width // self.strides)
        return (queries, height * width, self.keys, self.intra_depth)

    def get_config(self):
        own = {"keys": self.keys, "intra_depth": self.intra_depth, "kind": self.kind, "strides": self.strides}
        return {**super().get_config(), **own, "seed": self.seed}


@keras.saving.register_keras_serializable("linearized")
class LambdaLayer(keras.layers.Layer):
    """Takes the place of a 3x3 convolution with padding "same": images in, images out.

    Args:
        filters: Channels of the output, a multiple of `heads`.
        heads: h, queries a pixel.
        keys: k, the depth of queries and keys.
        intra_depth: u, keys and values a pixel.
        scope: r, odd: a position lambda sees r · r pixels around its query, by a lambda convolution of learned
            weights; pixels beyond the border count as zero. 0: it sees all pixels, by a `PositionEmbedding`.
        strides: A query stands at every such pixel of a row and a column; the context is all pixels.
        embedding: "relative" or "absolute", the kind of its own `PositionEmbedding` (global scope).
        norm: "channels": batch normalisation of every channel of queries and values; "published": the variant of the
            reproduction on CIFAR-10, one normalisation for all heads' queries, and of values over places.
        momentum: Of the running statistics, as Keras means it: the share of the old.
        seed: Of the initial weights; give each layer its own.
        kernel_regularizer: On the projections to queries, keys and values.

    Call arguments:
        x: Images.
        embedding: The output of a shared `PositionEmbedding` of the same strides; None: the layer has its own.

    Input shape: `(b, H, W, channels)`; with a local scope H and W may vary.
    Output shape: `(b, ⌈H / strides⌉, ⌈W / strides⌉, filters)`.
    """

    def __init__(
        self, filters, heads=4, keys=16, intra_depth=1, scope=0, strides=1, embedding="relative", norm="channels",
        momentum=MOMENTUM, seed=0, kernel_regularizer=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        _refuse_below_one(filters=filters, heads=heads, keys=keys, intra_depth=intra_depth, strides=strides)
        if filters % heads:
            raise ValueError(f"`filters` must be a multiple of `heads`. Received: filters={filters}, heads={heads}.")
        if scope < 0 or (scope and scope % 2 == 0):
            raise ValueError(f"`scope` must be odd, or 0 for a global one. Received: scope={scope}.")
        if embedding not in EMBEDDINGS:
            raise ValueError(f"`embedding` must be one of {', '.join(EMBEDDINGS)}. Received: embedding={embedding!r}.")
        if norm not in NORMS:
            raise ValueError(f"`norm` must be one of {', '.join(NORMS)}. Received: norm={norm!r}.")
        self.filters, self.heads, self.keys, self.intra_depth = int(filters), int(heads), int(keys), int(intra_depth)
        self.scope, self.strides, self.embedding, self.norm = int(scope), int(strides), embedding, norm
        self.momentum, self.seed = float(momentum), SeededNormal(1.0, seed).seed
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.values = self.filters // self.heads
        axis = -1 if norm == "channels" else 1
        self.query_norm, self.value_norm = (
            SettledBatchNorm(self.momentum, axis=axis, dtype=self.dtype_policy, name=name)
            for axis, name in ((-1, "query_norm"), (axis, "value_norm"))
        )

    def build(self, x_shape, embedding_shape=None):
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
        if self.scope:
            shape = (self.scope, self.scope, self.intra_depth, self.keys)
            self.window = self.add_weight(name="window", shape=shape, initializer=normal(1.0, [*self.seed, 4]))
        elif embedding_shape is None:
            self.position = PositionEmbedding(
                self.keys, self.intra_depth, self.embedding, self.strides, [*self.seed, 4],
                dtype=self.dtype_policy, name="position",
            )  # fmt: skip
            self.position.build(x_shape)

    def _projection(self, name, channels, outputs, start):
        return self.add_weight(
            name=name, shape=(channels, outputs), initializer=start, regularizer=self.kernel_regularizer
        )

    def call(self, x, embedding=None, training=None):
        if self.scope and embedding is not None:
            raise ValueError(f"A lambda layer with a scope takes no embedding. Received: scope={self.scope}.")
        height, width = ops.shape(x)[1:3]
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
        # The content lambda is one for all queries: it is applied to them together, not added to each one's own.
        together = ops.matmul(ops.reshape(queries, (-1, rows * columns * self.heads, self.keys)), content)
        shape = (-1, rows, columns, self.filters)
        return ops.reshape(ops.matmul(queries, lambdas), shape) + ops.reshape(together, shape)

    def _queries(self, pixels, training):
        """(b, n, h, k), normalised over the batch and the pixels."""
        queries = ops.matmul(pixels, self.to_queries)
        shape = (-1, ops.shape(queries)[1], self.heads, self.keys)
        if self.norm == "channels":
            return ops.reshape(self.query_norm(queries, training=training), shape)
        return self.query_norm(ops.reshape(queries, shape), training=training)

    def _content(self, keys, values):
        """(b, k, v) from keys (b, m, u k) and values (b, m, u v); the softmax is over the m pixels, in float32."""
        rows = ops.shape(keys)[1] * self.intra_depth
        keys = ops.cast(keys, "float32")
        weights = ops.exp(keys - ops.max(keys, axis=1, keepdims=True))
        weights = ops.cast(weights / ops.sum(weights, axis=1, keepdims=True), self.compute_dtype)
        weights = ops.transpose(ops.reshape(weights, (-1, rows, self.keys)), (0, 2, 1))
        return ops.matmul(weights, ops.reshape(values, (-1, rows, self.values)))

    def _global(self, values, embedding):
        """(b, n, k, v) from values (b, m, u v) and E (n, m, k, u): one product of matrices for the whole batch."""
        queries, context, depth, intra = embedding.shape
        table = ops.reshape(ops.transpose(embedding, (0, 2, 1, 3)), (queries * depth, context * intra))
        values = ops.transpose(ops.reshape(values, (-1, context * intra, self.values)), (1, 0, 2))
        lambdas = ops.matmul(ops.cast(table, values.dtype), ops.reshape(values, (context * intra, -1)))
        return ops.transpose(ops.reshape(lambdas, (queries, depth, -1, self.values)), (2, 0, 1, 3))

    def _local(self, values):
        """(b, n, k, v) from values (b, H, W, u, v): the same convolution for each of the v, centred at the queries."""
        height, width = ops.shape(values)[1:3]
        planes = ops.reshape(ops.transpose(values, (0, 4, 1, 2, 3)), (-1, height, width, self.intra_depth))
        edge = self.scope // 2
        planes = ops.pad(planes, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
        lambdas = ops.conv(planes, ops.cast(self.window, planes.dtype), strides=self.strides, padding="valid")
        rows, columns = ops.shape(lambdas)[1:3]
        return ops.transpose(ops.reshape(lambdas, (-1, self.values, rows * columns, self.keys)), (0, 2, 3, 1))

    def compute_output_shape(self, x_shape, embedding_shape=None):
        sizes = (None if size is None else -(-size // self.strides) for size in x_shape[1:3])
        return (x_shape[0], *sizes, self.filters)

    def get_config(self):
        names = ("filters", "heads", "keys", "intra_depth", "scope", "strides", "embedding", "norm", "momentum", "seed")
        own = {name: getattr(self, name) for name in names}
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), **own, "kernel_regularizer": regularizer}


def _differences(height, width, strides):
    """The number of each difference of places, (n, m): row and column of the context less those of the query."""
    rows, columns = np.divmod(np.arange(height * width), width)
    asking = (rows % strides == 0) & (columns % strides == 0)
    down = rows[None] - rows[asking, None] + height - 1
    right = columns[None] - columns[asking, None] + width - 1
    return (down * (2 * width - 1) + right).astype("int32")


def _product(sizes):
    return None if None in sizes else sizes[0] * sizes[1]


def _refuse_below_one(**numbers):
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={number}.")
