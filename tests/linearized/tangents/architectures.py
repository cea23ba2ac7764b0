"""Models of every kind of layer, small, with weights away from their initial values, and rows for them."""

from collections.abc import Callable

import keras
import numpy as np

L = keras.layers


def images(side=8, channels=3, rows=4):
    return np.random.default_rng(1).standard_normal((rows, side, side, channels)).astype(np.float32)


def vectors(width=7, rows=4):
    return np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)


def sequences(length=6, width=5, rows=4):
    return np.random.default_rng(1).standard_normal((rows, length, width)).astype(np.float32)


def tokens(length=6, words=20, rows=4):
    return np.random.default_rng(1).integers(0, words, (rows, length)).astype(np.int32)


def sequential(x, *layers):
    return keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), *layers]), x


def headed(x, *layers):
    return sequential(x, *layers, L.Flatten(), L.Dense(2))


def functional(x, build):
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    return keras.Model(inputs, build(inputs)), x


def tied(inputs):
    layer = L.Dense(7, "tanh")
    return L.Dense(2)(layer(layer(inputs)) + inputs)


def residual(inputs):
    first = L.Conv2D(4, 3, padding="same")(inputs)
    hidden = L.Conv2D(4, 3, padding="same")(L.ReLU()(L.BatchNormalization()(first)))
    return L.Dense(3)(L.GlobalAveragePooling2D()(L.ReLU()(first + hidden)))


def transformer(inputs):
    x = L.Embedding(20, 8)(inputs)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4)(x, x))
    x = L.LayerNormalization()(x + L.Dense(8)(L.Dense(16, "gelu")(x)))
    return L.Dense(2)(L.GlobalAveragePooling1D()(x))


class Reused(keras.Model):
    """Subclassed; reads the kernel of one layer past its call, and another layer twice."""

    def __init__(self):
        super().__init__()
        self.first, self.last = L.Dense(7, "relu"), L.Dense(3)

    def call(self, x):
        hidden = self.first(self.first(x))
        return self.last(hidden) + 0.3 * keras.ops.matmul(x, keras.ops.square(self.last.kernel))


class Scaled(keras.Model):
    """A weight of the model itself, and a nested model."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(7,), initializer="ones", name="scale")
        self.inner = keras.Sequential([L.Dense(6, "gelu"), L.Dropout(0.5), L.Dense(2)])

    def call(self, x):
        return self.inner(x * self.scale)


def application(build: Callable, side: int, **settings):
    x = images(side)
    return build(weights=None, input_shape=x.shape[1:], classes=3, **settings), x[:2]


def bert():
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=6
    )
    x = tokens()
    inputs = keras.Input(x.shape[1:], dtype="int32")
    ones = keras.ops.ones_like(inputs)
    outputs = backbone({"token_ids": inputs, "segment_ids": ones * 0, "padding_mask": ones})["pooled_output"]
    return keras.Model(inputs, L.Dense(2)(outputs)), x


ARCHITECTURES: dict[str, Callable] = {
    "mlp": lambda: sequential(vectors(), L.Dense(9, "relu"), L.Dense(8, "gelu", use_bias=False), L.Dense(3)),
    "dense of positions": lambda: headed(sequences(), L.Dense(4, "tanh")),
    "einsum": lambda: headed(
        sequences(), L.EinsumDense("abc,cde->abde", (6, 3, 2), bias_axes="e", activation="relu")),
    "einsum over positions": lambda: headed(sequences(), L.EinsumDense("abc,be->ace", (5, 4), bias_axes="e")),
    "cnn": lambda: headed(
        images(), L.Conv2D(4, 3, padding="same", activation="relu"), L.AveragePooling2D(2), L.Conv2D(5, 3, strides=2)),
    "dilated groups": lambda: headed(
        images(), L.Conv2D(6, (3, 2), padding="same", dilation_rate=2, groups=3, activation="relu")),
    "conv1d causal": lambda: headed(
        sequences(), L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu")),
    "conv3d": lambda: headed(images(6, 4)[..., None], L.Conv3D(3, 2, strides=(2, 1, 2), activation="relu")),
    "depthwise": lambda: headed(images(), L.DepthwiseConv2D(3, depth_multiplier=2, strides=2, activation="relu")),
    "separable": lambda: headed(
        images(), L.SeparableConv2D(4, 3, depth_multiplier=2, padding="same", activation="relu")),
    "separable1d": lambda: headed(sequences(), L.SeparableConv1D(4, 3, activation="relu")),
    "batch norm": lambda: headed(images(), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU()),
    "layer norm": lambda: headed(sequences(), L.LayerNormalization(axis=(1, 2)), L.Dense(3, "relu")),
    "group norm": lambda: headed(images(), L.Conv2D(4, 3), L.GroupNormalization(2), L.ReLU()),
    "transposed": lambda: headed(images(4), L.Conv2DTranspose(3, 3, activation="relu")),
    "recurrent": lambda: sequential(sequences(), L.GRU(4), L.Dense(2)),
    "activation layer": lambda: sequential(vectors(), L.Dense(6, activation=L.LeakyReLU(0.1)), L.PReLU(), L.Dense(2)),
    "tied": lambda: functional(vectors(), tied),
    "residual": lambda: functional(images(), residual),
    "transformer": lambda: functional(tokens(), transformer),
    "reused": lambda: (Reused(), vectors()),
    "scaled": lambda: (Scaled(), vectors()),
    "mobilenet": lambda: application(keras.applications.MobileNetV2, 32, alpha=0.35, classifier_activation=None),
    "densenet": lambda: application(keras.applications.DenseNet121, 32, classifier_activation=None),
    "bert": bert,
}  # fmt: skip
SLOW = ("mobilenet", "densenet", "bert")


def made(name: str) -> tuple[keras.Model, np.ndarray]:
    """Return the model, its weights drawn by NumPy so that all backends have the same, and rows."""
    keras.utils.set_random_seed(0)
    model, x = ARCHITECTURES[name]()
    model(x[:1])
    random = np.random.default_rng(2)
    for variable in model.variables:
        if "float" in variable.dtype and "seed" not in variable.path:
            values = keras.ops.convert_to_numpy(variable.value)
            if "variance" in variable.path:
                variable.assign(random.uniform(0.5, 1.5, values.shape))
                continue
            if values.ndim > 1:  # Keras' own draws differ from backend to backend: of the variance of Glorot's
                fans = np.prod(values.shape[:-2]) * sum(values.shape[-2:])
                values = np.sqrt(2 / fans) * random.standard_normal(values.shape)
            variable.assign(values + 0.1 * random.standard_normal(values.shape))
    return model, x
