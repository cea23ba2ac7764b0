"""A small BERT and a small ViT of plain Keras layers, for exchanging layers, uptraining and fine-tuning.

Encoder blocks normalise after their sublayers (BERT, Devlin et al. 2019) or before their sublayers (ViT, Dosovitskiy et
al. 2021). Both models end in a pooler, a tanh layer applied to the first position, and a linear classifier.
"""

import keras
from keras import ops

from linearized.layers.positions import Positions

PAD = 0  # padding token


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
    """Return logits (n, classes): a tanh layer and a linear classifier, applied to the first position of sequences.

    Args:
        x: Outputs (n, length, dim) of the encoder.
        dim: Number of units of the tanh layer (the pooler).
        classes: Number of logits.
        dropout: Dropout rate before the classifier.
    """
    x = keras.layers.Dense(dim, activation="tanh", name="pooler")(x[:, 0])
    x = keras.layers.Dropout(dropout, name="pooler_dropout")(x)
    return keras.layers.Dense(classes, name="classifier")(x)


def bert(
    vocabulary: int, length: int, classes: int, *, dim: int = 64, width: int = 256, layers: int = 4, heads: int = 4,
    dropout: float = 0.0,
) -> keras.Model:  # fmt: skip
    """Return an uncompiled BERT from token indices (n, length) to logits (n, classes).

    Args:
        vocabulary: Number of tokens; index 0 is the padding, which attention ignores.
        length: Number of tokens of a row.
        classes: Number of logits.
        dim: Length of the embedding of a token, a multiple of `heads`.
        width: Number of hidden units of an MLP block.
        layers: Number of encoder blocks.
        heads: Number of attention heads.
        dropout: Dropout rate in attention, MLP blocks and before the classifier.
    """
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
    """Return an uncompiled ViT from images (n, height, width, channels) to logits (n, classes).

    Args:
        image_shape: (height, width, channels).
        classes: Number of logits.
        patch: Side of a square patch in pixels, which divides height and width.
        dim: Length of the embedding of a patch, a multiple of `heads`.
        width: Number of hidden units of an MLP block.
        layers: Number of encoder blocks.
        heads: Number of attention heads.
        dropout: Dropout rate in attention, MLP blocks and before the classifier.

    Raises:
        ValueError: If the patch size does not divide height and width.
    """
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
