"""Dense and convolutional layers whose gradients are multiplied by a factor of their own, and activations by name.

With momentum SGD a factor of the gradient is one of the learning rate. The layers compute what their Keras classes do.
"""

import keras
from keras import ops

from linearized.base.activations import parse
from linearized.layers.shapes import check_shape


class _Rated:
    """The factor of the learning rate; mixed into a Keras layer before its class."""

    def __init__(self, *args, rate=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        if not rate > 0:
            raise ValueError(f"`rate` must be positive. Received: rate={rate}.")
        self.rate = float(rate)

    def __call__(self, inputs, *args, **kwargs):
        if self.built:
            check_shape(self, inputs.shape, (..., self.kernel.shape[-2]))
        return super().__call__(inputs, *args, **kwargs)

    def gradient_scales(self):
        """Return the multiplier of each trainable variable's gradient, in the order of `trainable_variables`."""
        return [self.rate] * len(self.trainable_variables)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("linearized")
class RatedDense(_Rated, keras.layers.Dense):
    """`keras.layers.Dense`; the gradients of its weights are multiplied by `rate` in training."""


@keras.saving.register_keras_serializable("linearized")
class RatedConv2D(_Rated, keras.layers.Conv2D):
    """`keras.layers.Conv2D`; the gradients of its weights are multiplied by `rate` in training."""


@keras.saving.register_keras_serializable("linearized")
class NamedFunction:
    """f(x), entry by entry, as the activation of a Keras layer.

    Args:
        activation: f, a name in `linearized.base.activations` or a name with numbers.
    """

    def __init__(self, activation: str = "relu"):
        self.scalar = parse(activation)

    def __call__(self, x):
        return self.scalar(x, ops)

    def get_config(self):
        return {"activation": self.scalar.text}

    @classmethod
    def from_config(cls, config):
        """Return the function of a configuration, as Keras asks for."""
        return cls(**config)
