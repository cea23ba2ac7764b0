"""Batch normalisation whose running statistics are accurate from the first batch on.

Keras starts them at mean 0 and variance 1 and replaces a tenth of them per batch. Until the initial values have faded,
layers that are powers of their inputs (kervolutions, lambda layers) multiply the error from layer to layer, and it can
overflow.
"""

import keras
from keras import ops

from linearized.layers.shapes import check_shape

MOMENTUM, EPSILON = 0.9, 1e-5


@keras.saving.register_keras_serializable("linearized")
class SettledBatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation that averages its first batches evenly.

    It is `keras.layers.BatchNormalization`, except that after t batches it keeps min(momentum, t / (t + 1)) of the old
    statistics.

    Args:
        momentum: Share of the old statistics that each batch keeps (Keras' convention; PyTorch's is one minus it).
            0.99, Keras' own default, is too slow for a few hundred batches.
        epsilon: Number that is added to the variance.
        kwargs: Other arguments of Keras' layer.
    """

    def __init__(self, momentum=MOMENTUM, epsilon=EPSILON, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def build(self, input_shape):
        """Create the weights and the counter of batches."""
        super().build(input_shape)
        self._expected = [None] * len(input_shape)
        self._expected[self.axis] = input_shape[self.axis]
        self.input_spec = None  # `call` makes the same check, with an error that names the received shape
        self.moving_count = self.add_weight(
            name="moving_count", shape=(), initializer="zeros", trainable=False, autocast=False
        )

    def call(self, inputs, training=None, mask=None):
        """Return normalised inputs; update the running statistics in training."""
        check_shape(self, inputs.shape, self._expected, "inputs")
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        momentum = self.momentum
        self.momentum = ops.minimum(momentum, self.moving_count / (self.moving_count + 1))  # read by Keras' layer
        try:
            outputs = super().call(inputs, training=training, mask=mask)
        finally:
            self.momentum = momentum
        self.moving_count.assign(self.moving_count + 1)
        return outputs
