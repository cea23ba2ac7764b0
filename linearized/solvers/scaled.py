"""SGD, Adam and AdamW that multiply each variable's gradient by a number of its own before they use it.

The mean-field layers declare these numbers (see `declared`); a model without such layers trains as usual.
"""

import keras


class _Scaled(keras.optimizers.Optimizer):
    """Adds `scales` to a Keras optimizer: None, or one number a trainable variable in the order of the gradients."""

    def __init__(self, learning_rate=0.001, scales=None, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.scales = None if scales is None else [float(scale) for scale in scales]

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if self.scales is not None:
            if len(grads) != len(self.scales):
                raise ValueError(f"Expected {len(self.scales)} gradients, one a scale. Received: {len(grads)}.")
            grads = [
                gradient if gradient is None or scale == 1 else gradient * scale
                for gradient, scale in zip(grads, self.scales, strict=True)
            ]
        return super().apply(grads, trainable_variables)

    def get_config(self):
        return {**super().get_config(), "scales": self.scales}


@keras.saving.register_keras_serializable("linearized")
class ScaledSGD(_Scaled, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with `scales`."""


@keras.saving.register_keras_serializable("linearized")
class ScaledAdam(_Scaled, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with `scales`: without them a gradient of O(1/N) would drown in Adam's ε."""


@keras.saving.register_keras_serializable("linearized")
class ScaledAdamW(_Scaled, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with `scales`; the decay is not scaled."""
