"""The NT model: a two-layer network, linearised in its weights around random initial values (arXiv 2006.13409).

f(x) = relu(xW) a + c + Σᵢ a⁰ᵢ 1[wᵢ·x > 0] gᵢ·x for N hidden units i. The first-layer weights W (columns wᵢ) and the
readout a⁰ are drawn and fixed; f is linear in the trained readout a, bias c and directions G (rows gᵢ). The gate
1[z > 0] is computed as ½(sign(z) + 1), as by Ghorbani et al. (arXiv 2006.13409), so it is ½ at z = 0.
"""

import keras
from keras import ops

from linearized.base.scalar_functions import relu, step
from linearized.base.weights import LAWS, SEED, tangent_layers
from linearized.layers.shapes import check_shape

DIRECTIONS = ("shared", "per_class")


@keras.saving.register_keras_serializable("linearized")
class NeuralTangent(keras.layers.Layer):
    """Two-layer network linearised around random weights, the NT model of arXiv 2006.13409.

    The layer returns f(x) = relu(xW) a + c + Σᵢ a⁰ᵢ 1[wᵢ·x > 0] gᵢ·x. W (d, N) with the columns wᵢ and a⁰ (k, N) are
    drawn at random and never trained. The readout a (N, k), the bias c (k) and the directions G with the rows gᵢ are
    trained and start at 0; f is linear in them.

    Args:
        units: N, the number of hidden units.
        outputs: k, the number of outputs.
        directions: "shared": all outputs have the same G (N, d), as in the paper; "per_class": each output has its own
            G, (k, N, d) together, so that the outputs are trained independently of each other.
        law: Distribution of W: "sphere" (columns uniform on the unit sphere) or "gaussian" (entries N(0, 1/d)). The
            entries of a⁰ are N(0, 1).
        seed: Random-number seed of W and a⁰; Ghorbani et al. (arXiv 2006.13409) use 1990.
        block: Number of columns of W that are drawn at a time, 0 for all at once. W depends on this number.
        directions_regularizer: Regularizer of G; a and c have none.

    Input shape: `(n, d)`.
    Output shape: `(n, k)`. A batch takes about 4 n N numbers of memory, and n N more for each class with "per_class".

    Example:
        >>> import numpy as np
        >>> from linearized.layers.neural_tangent import NeuralTangent
        >>> layer = NeuralTangent(50, outputs=2)
        >>> tuple(layer(np.ones((4, 3), "float32")).shape)
        (4, 2)
    """

    def __init__(
        self,
        units,
        outputs,
        directions="shared",
        law="sphere",
        seed=SEED,
        block=0,
        directions_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if units < 1 or outputs < 1:
            raise ValueError(f"`units` and `outputs` must be at least 1. Received: units={units}, outputs={outputs}.")
        if directions not in DIRECTIONS:
            raise ValueError(f"`directions` must be one of {', '.join(DIRECTIONS)}. Received: {directions!r}.")
        if law not in LAWS:
            raise ValueError(f"`law` must be one of {', '.join(LAWS)}. Received: law={law!r}.")
        if seed < 0 or block < 0:
            raise ValueError(f"`seed` and `block` must not be negative. Received: seed={seed}, block={block}.")
        self.units, self.outputs, self.directions = int(units), int(outputs), directions
        self.law, self.seed, self.block = law, int(seed), int(block)
        self.directions_regularizer = keras.regularizers.get(directions_regularizer)

    def build(self, input_shape):
        """Draw the fixed first-layer weights W and readout a⁰, and create the trained weights, which start at 0.

        The trained weights are the readout a, the bias c and the directions G.
        """
        if len(input_shape) != 2:
            raise ValueError(f"`NeuralTangent` takes inputs of shape (n, d). Received: input_shape={input_shape}.")
        dim, units, outputs = input_shape[-1], self.units, self.outputs
        first, second = tangent_layers(dim, units, outputs, law=self.law, seed=self.seed, block=self.block)
        self.kernel = self._fixed("kernel", first)
        self.start_readout = self._fixed("start_readout", second)
        self.readout = self.add_weight(name="readout", shape=(units, outputs), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(outputs,), initializer="zeros")
        self.tangent = self.add_weight(
            name="tangent",
            shape=(units, dim) if self.directions == "shared" else (outputs, units, dim),
            initializer="zeros",
            regularizer=self.directions_regularizer,
        )

    def _fixed(self, name, value):
        def initializer(shape, dtype=None):
            return ops.convert_to_tensor(value, dtype=dtype)

        return self.add_weight(name=name, shape=value.shape, initializer=initializer, trainable=False)

    def call(self, x):
        """Return f(x) = relu(xW) a + c + Σᵢ a⁰ᵢ 1[wᵢ·x > 0] gᵢ·x, (n, k), for rows x (n, d).

        W (columns wᵢ) and a⁰ are fixed; the readout a, the bias c and the directions gᵢ are trained.
        """
        check_shape(self, x.shape, (None, self.kernel.shape[0]))
        before = ops.matmul(x, self.kernel)
        gates = step(before, ops)
        fixed, tangent = ops.convert_to_tensor(self.start_readout), ops.convert_to_tensor(self.tangent)
        if self.directions == "shared":
            slopes = ops.matmul(gates * ops.matmul(x, ops.transpose(tangent)), ops.transpose(fixed))
        else:  # class by class: one (n, N) block at a time, never (n, k, N)
            of_class = [
                ops.sum(gates * fixed[k] * ops.matmul(x, ops.transpose(tangent[k])), axis=-1)
                for k in range(self.outputs)
            ]
            slopes = ops.stack(of_class, axis=-1)
        return ops.matmul(relu(before, ops), self.readout) + self.bias + slopes

    def fixed_variables(self):
        """Return the variables that training never changes: the first-layer weights W and the random readout a⁰."""
        return [self.kernel, self.start_readout]

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return (*input_shape[:-1], self.outputs)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        own = {"units": self.units, "outputs": self.outputs, "directions": self.directions}
        drawn = {"law": self.law, "seed": self.seed, "block": self.block}
        regularizer = keras.regularizers.serialize(self.directions_regularizer)
        return {**super().get_config(), **own, **drawn, "directions_regularizer": regularizer}
