"""A small BERT and a small ViT of plain Keras layers, to swap parts of, to uptrain and to fine-tune.

Encoder blocks after the normalisation (BERT, Devlin et al. 2019) and before it (ViT, Dosovitskiy et al. 2021); both end
in a tanh pooler on the first position and a linear classifier.
"""

import keras
from keras import ops

PAD = 0  # the token that fills up a text


@keras.saving.register_keras_serializable("linearized")
class Positions(keras.layers.Layer):
    """Adds a learned vector a position; before that a learned first position, if asked for.

    Args:
        length: Positions that come in.
        first: Whether to put one more before them, for the class.

    Input shape: `(n, length, d)`. Output shape: `(n, length + first, d)`.
    """

    def __init__(self, length, first=False, **kwargs):
        super().__init__(**kwargs)
        if length < 1:
            raise ValueError(f"`length` must be at least 1. Received: length={length}.")
        self.length, self.first = int(length), bool(first)

    def build(self, input_shape):
        dim, start = input_shape[-1], keras.initializers.TruncatedNormal(stddev=0.02, seed=0)
        self.table = self.add_weight(name="table", shape=(self.length + self.first, dim), initializer=start)
        self.token = self.add_weight(name="token", shape=(dim,), initializer="zeros") if self.first else None

    def call(self, x):
        if self.first:
            token = ops.broadcast_to(ops.convert_to_tensor(self.token), (ops.shape(x)[0], 1, x.shape[-1]))
            x = ops.concatenate([token, x], axis=1)
        return x + ops.convert_to_tensor(self.table)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.length + self.first, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "length": self.length, "first": self.first}


def _attention(x, dim, heads, dropout, name, mask=None):
    attend = keras.layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, name=f"{name}_attention")
    return attend(x, x, attention_mask=mask)


def _mlp(x, dim, width, dropout, name):
    x = keras.layers.Dense(width, activation="gelu", name=f"{name}_expand")(x)
    x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return keras.layers.Dense(dim, name=f"{name}_contract")(x)


def _norm(name):
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)


def _classified(x, dim, classes, dropout):
    """Pooler and classifier of the first position."""
    x = keras.layers.Dense(dim, activation="tanh", name="pooler")(x[:, 0])
    x = keras.layers.Dropout(dropout, name="pooler_dropout")(x)
    return keras.layers.Dense(classes, name="classifier")(x)


def bert(
    vocabulary: int, length: int, classes: int, *, dim: int = 64, width: int = 256, layers: int = 4, heads: int = 4,
    dropout: float = 0.0,
) -> keras.Model:  # fmt: skip
    """From token numbers (n, length), filled up with 0, to logits (n, classes)."""
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    mask = ops.expand_dims(ops.not_equal(tokens, PAD), axis=1)
    x = keras.layers.Embedding(vocabulary, dim, name="embedding")(tokens)
    x = _norm("embedding_norm")(Positions(length, name="positions")(x))
    for number in range(layers):
        name = f"block_{number}"
        x = _norm(f"{name}_norm_1")(x + _attention(x, dim, heads, dropout, name, mask))
        x = _norm(f"{name}_norm_2")(x + _mlp(x, dim, width, dropout, name))
    return keras.Model(tokens, _classified(x, dim, classes, dropout), name="bert")


def vit(
    image_shape: tuple[int, int, int], classes: int, *, patch: int = 4, dim: int = 64, width: int = 256,
    layers: int = 4, heads: int = 4, dropout: float = 0.0,
) -> keras.Model:  # fmt: skip
    """From images (n, height, width, channels) to logits (n, classes). Raises ValueError if patches do not fit."""
    if image_shape[0] % patch or image_shape[1] % patch:
        raise ValueError(f"`patch` must divide the image's sides. Received: patch={patch} for {image_shape}.")
    images = keras.Input(image_shape, name="images")
    count = (image_shape[0] // patch) * (image_shape[1] // patch)
    x = keras.layers.Conv2D(dim, patch, strides=patch, name="patches")(images)
    x = Positions(count, first=True, name="positions")(keras.layers.Reshape((count, dim), name="sequence")(x))
    for number in range(layers):
        name = f"block_{number}"
        x = x + _attention(_norm(f"{name}_norm_1")(x), dim, heads, dropout, name)
        x = x + _mlp(_norm(f"{name}_norm_2")(x), dim, width, dropout, name)
    return keras.Model(images, _classified(_norm("norm")(x), dim, classes, dropout), name="vit")
