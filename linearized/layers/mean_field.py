"""Dense layers in the mean-field scaling: outputs are averages over units, and gradients are scaled up accordingly.

In arXiv 2006.13409 the network is f(x) = (1/N) a·h + c. Each weight then changes the output by O(1/N), and its gradient
is multiplied by the inverse factor, so that the same learning rate suits every width.
"""

import keras
import numpy as np
from keras import ops

from linearized.base.activations import Scalar, parse
from linearized.layers.initializers import SeededNormal
from linearized.layers.shapes import check_shape

PLACES = ("first", "deep", "readout")
HIDDEN_BIAS = 0.01


@keras.saving.register_keras_serializable("linearized")
class MeanFieldDense(keras.layers.Layer):
    """One dense layer of the mean-field network, with d inputs and N units.

    | place     | output           | weights    | biases  | gradients times            |
    | "first"   | f(xW + b)        | N(0, 1/d)  | 0.01    | N (both)                   |
    | "deep"    | f(xW + b) / N    | N(0, 1)    | 0.01    | the variable's entries     |
    | "readout" | xW / d + b       | N(0, 1)    | 0       | W: its entries; b: 1       |

    Args:
        units: N, the number of outputs.
        place: Position in the network, see the table.
        seed: Random-number seed of the weights, one integer or several; give each layer its own.
        kernel_regularizer: Regularizer of W; b has none.
        activation: f, a name in `linearized.base.activations`, a name with numbers, or an elementwise function of a
            tensor, which must be registered (`keras.saving.register_keras_serializable`) to save the layer; the readout
            has none.

    Input shape: `(n, d)`, or more axes before the last.
    Output shape: the same with N in the place of d.
    """

    tangent_rule = "dense"  # name of the rule in `linearized.tangents.rules`

    def __init__(self, units, place="first", seed=0, kernel_regularizer=None, activation="relu", **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"`units` must be at least 1. Received: units={units}.")
        if place not in PLACES:
            raise ValueError(f"`place` must be one of {', '.join(PLACES)}. Received: place={place!r}.")
        self.units, self.place = int(units), place
        self.seed = SeededNormal(1.0, seed).seed  # raises for a bad seed now, not at the first call
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        if isinstance(activation, dict):  # the configuration of a function that Keras saved
            activation = keras.saving.deserialize_keras_object(activation)
        if not (isinstance(activation, str) or callable(activation)):
            raise ValueError(f"`activation` must be a name or a function. Received: activation={activation!r}.")
        self.activation = parse(activation) if isinstance(activation, str) else activation

    def build(self, input_shape):
        """Create the weights."""
        dim = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(dim, self.units),
            initializer=SeededNormal(1 / np.sqrt(dim) if self.place == "first" else 1.0, self.seed),
            regularizer=self.kernel_regularizer,
        )
        start = keras.initializers.Constant(0.0 if self.place == "readout" else HIDDEN_BIAS)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer=start)

    def call(self, x):
        """Return the output of the table."""
        check_shape(self, x.shape, (..., self.kernel.shape[0]))
        product = ops.matmul(x, self.kernel)
        if self.place == "readout":
            return self.at_site(product / x.shape[-1] + self.bias)
        site = self.at_site(product + self.bias)
        hidden = self.activation(site, ops) if isinstance(self.activation, Scalar) else self.activation(site)
        return hidden if self.place == "first" else hidden / self.units

    def entering(self, x):
        """Return the factor of W in the product: the inputs, which a readout divides by their number."""
        return x / x.shape[-1] if self.place == "readout" else x

    def at_site(self, site):
        """Return its argument: the activation's input or a readout's output; see `linearized.tangents.taps`."""
        return site

    def gradient_scales(self):
        """Return the multiplier of each trainable variable's gradient, in the order of `trainable_variables`."""
        dim = self.kernel.shape[0]
        if self.place == "first":
            scales = {"kernel": self.units, "bias": self.units}
        elif self.place == "deep":
            scales = {"kernel": dim * self.units, "bias": self.units}
        else:
            scales = {"kernel": dim * self.units, "bias": 1}
        return [float(scales[variable.name]) for variable in self.trainable_variables]

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Return the configuration that `from_config` takes."""
        named = isinstance(self.activation, Scalar)
        activation = self.activation.text if named else keras.saving.serialize_keras_object(self.activation)
        own = {"units": self.units, "place": self.place, "seed": self.seed, "activation": activation}
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), **own, "kernel_regularizer": regularizer}
