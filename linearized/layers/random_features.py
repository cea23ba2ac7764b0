"""Layer with the random features relu(xW) of the RF model; the matrix W is drawn once and never trained.

The features are those of "When Do Neural Networks Outperform Kernel Methods?" (arXiv 2006.13409), where the columns of
W are uniform on the unit sphere.
"""

import keras
from keras import ops

from linearized.base.scalar_functions import relu
from linearized.base.weights import LAWS, SEED, first_layer
from linearized.layers.shapes import check_shape


@keras.saving.register_keras_serializable("linearized")
class RandomFeatures(keras.layers.Layer):
    """Random features relu(xW) with W (d, N), which is drawn at the start, saved with the model and never trained.

    `linearized.base.weights` draws W, here and for the RF Gram matrices, so equal arguments give equal features.

    Args:
        units: N, the number of features.
        law: Distribution of W: "sphere" (columns uniform on the unit sphere) or "gaussian" (entries N(0, 1/d)).
        seed: Random-number seed of W; Ghorbani et al. (arXiv 2006.13409) use 1990.
        block: Number of columns of W that are drawn at a time, 0 for all at once. W depends on this number.

    Input shape: `(n, d)`, or more axes before the last.
    Output shape: the same with N in the place of d.

    Example:
        >>> import numpy as np
        >>> from linearized.layers.random_features import RandomFeatures
        >>> layer = RandomFeatures(100, seed=1)
        >>> features = layer(np.ones((2, 3), "float32"))
        >>> tuple(features.shape), len(layer.trainable_variables)
        ((2, 100), 0)
    """

    def __init__(self, units, law="sphere", seed=SEED, block=0, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"`units` must be at least 1. Received: units={units}.")
        if law not in LAWS:
            raise ValueError(f"`law` must be one of {', '.join(LAWS)}. Received: law={law!r}.")
        if seed < 0 or block < 0:
            raise ValueError(f"`seed` and `block` must not be negative. Received: seed={seed}, block={block}.")
        self.units, self.law, self.seed, self.block = int(units), law, int(seed), int(block)

    def _draw(self, shape, dtype=None):
        dim, units = shape
        weights = first_layer(dim, units, law=self.law, seed=self.seed, block=self.block)
        return ops.convert_to_tensor(weights, dtype=dtype)

    def build(self, input_shape):
        """Draw the fixed weights W (d, N) for inputs of length d."""
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self._draw, trainable=False)

    def call(self, x):
        """Return the features relu(xW) of rows x, (n, N)."""
        check_shape(self, x.shape, (..., self.kernel.shape[0]))
        return relu(ops.matmul(x, self.kernel), ops)

    def fixed_variables(self):
        """Return the variables that training never changes: the weights W."""
        return [self.kernel]

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        own = {"units": self.units, "law": self.law, "seed": self.seed, "block": self.block}
        return {**super().get_config(), **own}
