"""Dense layers in the mean-field scaling: outputs are averages over units, and gradients are scaled up accordingly.

In arXiv 2006.13409 the network with N hidden units h, readout a and bias c is f(x) = (1/N) a·h(x) + c. A change of one
weight changes the output by O(1/N). Gradients are multiplied by factors that grow with N, so that the same learning
rate suits every width N.
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
    """Dense layer of the mean-field network (arXiv 2006.13409), with d inputs, N units, weights W (d, N) and bias b.

    What the layer computes depends on its position in the network:

    - "first": f(xW + b), with W ~ N(0, 1/d) and b = 0.01 at the start; both gradients are multiplied by N.
    - "deep": f(xW + b) / N, with W ~ N(0, 1) and b = 0.01 at the start; the gradients of W and b are
      multiplied by d N and N.
    - "readout": xW / d + b, with W ~ N(0, 1) and b = 0 at the start; the gradient of W is multiplied by d N,
      and the gradient of b is unchanged.

    `gradient_scales` returns the factors of the gradients; the training loop of `linearized` applies them.

    Args:
        units: N, the number of outputs.
        place: Position in the network: "first", "deep" or "readout".
        seed: Random-number seed of the weights, one integer or several; give each layer its own.
        kernel_regularizer: Regularizer of W; b has none.
        activation: f: a name of `linearized.base.activations`, followed by its parameters if it has some, or an
            elementwise function of a tensor. To save the layer, register the function
            (`keras.saving.register_keras_serializable`). A "readout" layer does not apply f.

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
        """Create the weights W (d, N) and the bias b (N) for inputs of length d."""
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
        """Return the outputs for inputs x of length d, by the formula of the layer's argument `place`.

        The formula is f(xW + b) for "first", f(xW + b) / N for "deep", and xW / d + b for "readout", with the
        activation f and the number N of units.
        """
        check_shape(self, x.shape, (..., self.kernel.shape[0]))
        product = ops.matmul(x, self.kernel)
        if self.place == "readout":
            return self.at_site(product / x.shape[-1] + self.bias)
        site = self.at_site(product + self.bias)
        hidden = self.activation(site, ops) if isinstance(self.activation, Scalar) else self.activation(site)
        return hidden if self.place == "first" else hidden / self.units

    def entering(self, x):
        """Return the array that W is multiplied by, for the computation of derivatives (`linearized.tangents.taps`).

        The array is x, or x / d if `place` is "readout", with d the length of x.
        """
        return x / x.shape[-1] if self.place == "readout" else x

    def at_site(self, site):
        """Return `site` unchanged; `linearized.tangents.taps` replaces this method by one that records `site`.

        Args:
            site: Input of the activation, or the output if `place` is "readout"; it is linear in W and b.
        """
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
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        named = isinstance(self.activation, Scalar)
        activation = self.activation.text if named else keras.saving.serialize_keras_object(self.activation)
        own = {"units": self.units, "place": self.place, "seed": self.seed, "activation": activation}
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), **own, "kernel_regularizer": regularizer}
