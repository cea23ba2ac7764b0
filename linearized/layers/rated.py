"""Dense and convolutional layers with a gradient factor of their own, and activations by name.

With momentum SGD a factor of the gradient is a factor of the learning rate. The layers compute the same outputs as
their Keras classes.
"""

import keras
from keras import ops

from linearized.base.activations import parse
from linearized.layers.shapes import check_shape


class _Rated:
    """Mixin that multiplies the learning rate of a layer by a factor; it stands before the Keras class in the bases."""

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
        """Return the configuration that `from_config` takes."""
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("linearized")
class RatedDense(_Rated, keras.layers.Dense):
    """`keras.layers.Dense` whose weight gradients are multiplied by `rate` in training."""


@keras.saving.register_keras_serializable("linearized")
class RatedConv2D(_Rated, keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose weight gradients are multiplied by `rate` in training."""


@keras.saving.register_keras_serializable("linearized")
class NamedFunction:
    """An elementwise function f(x), as the activation of a Keras layer.

    Args:
        activation: f, a name in `linearized.base.activations` or a name with numbers.
    """

    def __init__(self, activation: str = "relu"):
        self.scalar = parse(activation)

    def __call__(self, x):
        """Return f(x)."""
        return self.scalar(x, ops)

    def get_config(self):
        """Return the configuration that `from_config` takes."""
        return {"activation": self.scalar.text}

    @classmethod
    def from_config(cls, config):
        """Return the function of a configuration."""
        return cls(**config)
