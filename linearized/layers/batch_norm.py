"""Batch normalisation whose running statistics are accurate from the first batch on.

Keras initialises the running mean to 0 and the running variance to 1, and each batch replaces only a share
1 - momentum of them. Until the initial values have decayed, inference normalises by wrong statistics. Layers whose
outputs are powers of their inputs (kervolutions, lambda layers) amplify this error from layer to layer until it
overflows.
"""

import keras
from keras import ops

from linearized.layers.shapes import check_shape

MOMENTUM, EPSILON = 0.9, 1e-5


@keras.saving.register_keras_serializable("linearized")
class SettledBatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation that averages its first batches evenly.

    It is `keras.layers.BatchNormalization`, except that the update after t batches keeps the share
    min(momentum, t / (t + 1)) of the old running statistics. The first batch therefore replaces the initial values
    entirely.

    Args:
        momentum: Largest share of the old running statistics that an update keeps (Keras' convention; PyTorch's
            momentum is one minus it). Keras' own default of 0.99 is too slow for a few hundred batches.
        epsilon: Number that is added to the variance before the square root.
        kwargs: Other arguments of `keras.layers.BatchNormalization`.

    Input shape: any, with the channels on `axis` (default: the last one).
    Output shape: the same.
    """

    def __init__(self, momentum=MOMENTUM, epsilon=EPSILON, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def build(self, input_shape):
        """Create the weights of the normalisation, and a counter of the batches that the layer received in training."""
        super().build(input_shape)
        self._expected = [None] * len(input_shape)
        self._expected[self.axis] = input_shape[self.axis]
        self.input_spec = None  # `call` makes the same check, with an error that names the received shape
        self.moving_count = self.add_weight(
            name="moving_count", shape=(), initializer="zeros", trainable=False, autocast=False
        )

    def call(self, inputs, training=None, mask=None):
        """Normalise the inputs by the mean and variance of the batch in training, otherwise by the running ones.

        Training also updates the running statistics. A layer with trainable=False always uses the running statistics.

        Args:
            inputs: Tensor of the shape that the layer was built for.
            training: Whether the layer is in training mode.
            mask: Optional mask of the entries that count, as in `keras.layers.BatchNormalization`.
        """
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
