"""Batch normalisation whose running statistics are right from the first batch on.

Keras starts them at mean 0 and variance 1 and lets them go by a tenth a batch. Until they are gone, layers that are
powers of their inputs (kervolutions, lambda layers) multiply the error layer by layer, up to infinity.
"""

import keras
from keras import ops

MOMENTUM, EPSILON = 0.9, 1e-5


@keras.saving.register_keras_serializable("linearized")
class SettledBatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that averages its first batches evenly: after t of them it keeps
    min(momentum, t / (t + 1)) of the old statistics.

    Args:
        momentum: As Keras means it; 0.9 unless given, since 0.99 is too slow for a few hundred batches.
        epsilon: Added to the variance.
        kwargs: The other arguments of Keras' layer.
    """

    def __init__(self, momentum=MOMENTUM, epsilon=EPSILON, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.moving_count = self.add_weight(
            name="moving_count", shape=(), initializer="zeros", trainable=False, autocast=False
        )

    def call(self, inputs, training=None, mask=None):
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
