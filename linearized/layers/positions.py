"""Learned position embeddings of a sequence, as in Transformers."""

import keras
from keras import ops

from linearized.layers.shapes import check_shape


@keras.saving.register_keras_serializable("linearized")
class Positions(keras.layers.Layer):
    """Layer that adds a learned vector to each position of a sequence, and can insert a learned class token first.

    Position vectors start as truncated normal numbers of standard deviation 0.02, and the class token at 0.

    Args:
        length: Number of positions of the inputs.
        first: Whether a learned class token is inserted before the inputs, as one more position.

    Input shape: `(n, length, d)`.
    Output shape: `(n, length, d)`, or `(n, length + 1, d)` with `first`.
    """

    def __init__(self, length, first=False, **kwargs):
        super().__init__(**kwargs)
        if length < 1:
            raise ValueError(f"`length` must be at least 1. Received: length={length}.")
        self.length, self.first = int(length), bool(first)

    def build(self, input_shape):
        """Create the position vectors and, if there is one, the class token, for vectors of length d."""
        dim, start = input_shape[-1], keras.initializers.TruncatedNormal(stddev=0.02, seed=0)
        self.table = self.add_weight(name="table", shape=(self.length + self.first, dim), initializer=start)
        self.token = self.add_weight(name="token", shape=(dim,), initializer="zeros") if self.first else None

    def call(self, x):
        """Return the inputs, after the class token if there is one, with their position vectors added."""
        check_shape(self, x.shape, (None, self.length, self.table.shape[-1]))
        if self.first:
            token = ops.broadcast_to(ops.convert_to_tensor(self.token), (ops.shape(x)[0], 1, x.shape[-1]))
            x = ops.concatenate([token, x], axis=1)
        return x + ops.convert_to_tensor(self.table)

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return (input_shape[0], self.length + self.first, input_shape[-1])

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        return {**super().get_config(), "length": self.length, "first": self.first}
