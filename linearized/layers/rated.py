"""Dense and convolutional layers with a factor for their learning rate, and activations by name.

The training loop of this package multiplies the gradients of such a layer by its factor. With momentum SGD this has the
same effect as a multiplied learning rate. The outputs equal the outputs of the Keras layers.
"""

import keras
from keras import ops

from linearized.base.activations import parse
from linearized.layers.shapes import check_shape


class _Rated:
    """Base class of `RatedDense` and `RatedConv2D`, which adds a factor of the gradients to a Keras layer.

    In the list of base classes it must precede the Keras class.

    Args:
        args: Positional arguments of the Keras class.
        rate: Factor of the gradients of all weights of the layer, positive.
        kwargs: Other arguments of the Keras class.
    """

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
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("linearized")
class RatedDense(_Rated, keras.layers.Dense):
    """`keras.layers.Dense` with a factor by which the training loop of this package multiplies the layer's gradients.

    Args:
        args: Positional arguments of `keras.layers.Dense`.
        rate: Factor of the gradients of all weights of the layer, positive.
        kwargs: Other arguments of `keras.layers.Dense`.
    """


@keras.saving.register_keras_serializable("linearized")
class RatedConv2D(_Rated, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a factor by which the training loop of this package multiplies the layer's gradients.

    Args:
        args: Positional arguments of `keras.layers.Conv2D`.
        rate: Factor of the gradients of all weights of the layer, positive.
        kwargs: Other arguments of `keras.layers.Conv2D`.
    """


@keras.saving.register_keras_serializable("linearized")
class NamedFunction:
    """Elementwise function f(x) for the activation of a layer, which Keras can save and load with the layer.

    Args:
        activation: f: a name of `linearized.base.activations`, followed by its parameters if it has some.
    """

    def __init__(self, activation: str = "relu"):
        self.scalar = parse(activation)

    def __call__(self, x):
        """Return f(x) elementwise for a tensor x."""
        return self.scalar(x, ops)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        return {"activation": self.scalar.text}

    @classmethod
    def from_config(cls, config):
        """Return the function that `get_config` described; Keras calls this when it loads a model."""
        return cls(**config)
