"""Adapters with an SNNK inside: layers with a few trained weights that are added after frozen layers.

An SNNK (scalable neural network kernel) replaces a dense layer by m random features of its inputs and a trained matrix.
By default an adapter returns its inputs unchanged at the start of training, and the inputs of its SNNK are
layer-normalised (`norm_before`). At the start of training, the norm of the normalised inputs is then at most √d, for
inputs of length d. Without this normalisation, give the SNNK a `radius` if its features grow without bound.

Sources: "Scalable Neural Network Kernels" (ICLR 2024), section on adapters; bottleneck adapters after Houlsby et al.
(2019).
"""

import keras
from keras import ops

from linearized.layers.shapes import check_shape
from linearized.layers.snnk.layer import SNNK


@keras.saving.register_keras_serializable("linearized")
class SNNKAdapter(keras.layers.Layer):
    """Residual adapter x + up(SNNK(x)) with a small trained map `up`; by default the adapter starts as the identity.

    The SNNK (scalable neural network kernel) computes m fixed random features of x and multiplies them by the trained
    matrix Ψ. `up` is one of two maps:

    - With a bottleneck r > 0, the SNNK maps d inputs to r outputs, and `up` is a dense layer from r to d (a
      "projection"). The adapter trains m r + r d + d numbers.
    - With bottleneck 0, the SNNK maps d inputs to d outputs, and `up` multiplies them by a trained vector of length d.
      The adapter trains m d + d numbers.

    Args:
        bottleneck: r, the number of outputs of the SNNK, or 0 for the vector of factors.
        num_features: m, the number of features of the `SNNK`.
        activation: Activation of the `SNNK`.
        norm_before: Whether the inputs of the SNNK are layer-normalised; adds 2 d trained numbers.
        norm_after: Whether the sum x + up(SNNK(x)) is layer-normalised; adds 2 d trained numbers. The adapter then
            starts as this layer normalisation instead of the identity.
        start: Standard deviation of the initial weights of `up`. With 0, `up` is 0 at the start, and Ψ has no gradient
            in the first training step.
        epsilon: Number that is added to the variance in the layer normalisations; 1e-5 as in the paper (Keras' own
            default is 1e-3).
        kwargs: Other options of the `SNNK`.

    Input shape: `(n, d)`, or more axes before the last.
    Output shape: the same.

    Raises:
        ValueError: For arguments outside these ranges, and for an `epsilon` without a layer normalisation.
    """

    def __init__(
        self, bottleneck=16, num_features=16, activation="relu", norm_before=True, norm_after=False, start=0.0,
        epsilon=1e-5, **kwargs,
    ):  # fmt: skip
        own = {name: kwargs.pop(name) for name in ("name", "dtype", "trainable") if name in kwargs}
        super().__init__(**own)
        if epsilon <= 0 or (epsilon != 1e-5 and not (norm_before or norm_after)):
            raise ValueError("`epsilon` must be above 0, and is read where there is a layer normalisation. Received: "
                             f"epsilon={epsilon}, norm_before={norm_before}, norm_after={norm_after}.")  # fmt: skip
        if bottleneck < 0 or start < 0:
            raise ValueError("`bottleneck` and `start` must not be negative. "
                             f"Received: bottleneck={bottleneck}, start={start}.")  # fmt: skip
        self.bottleneck, self.start = int(bottleneck), float(start)
        self.norm_before, self.norm_after, self.epsilon = bool(norm_before), bool(norm_after), float(epsilon)
        # Without a bottleneck the SNNK has d units: `build` creates it again; this one checks and stores the options.
        self.snnk = SNNK(self.bottleneck or 1, num_features, activation, dtype=self.dtype_policy, name="snnk", **kwargs)

    def build(self, input_shape):
        """Create the weights of the SNNK, of the map `up` and of the layer normalisations."""
        dim, dtype = input_shape[-1], self.dtype_policy
        self._dim = dim
        if not self.bottleneck:
            self.snnk = SNNK.from_config({**self.snnk.get_config(), "units": dim})
        self.snnk.build(input_shape)
        normal = keras.initializers.RandomNormal(stddev=self.start, seed=self.snnk.features.seed[0])
        initializer = normal if self.start else "zeros"
        self.before = self._norm("before", input_shape) if self.norm_before else None
        self.after = self._norm("after", input_shape) if self.norm_after else None
        if self.bottleneck:
            self.up = keras.layers.Dense(dim, kernel_initializer=initializer, dtype=dtype, name="up")
            self.up.build((*input_shape[:-1], self.bottleneck))
        else:
            self.factor = self.add_weight(name="factor", shape=(dim,), initializer=initializer)
        self.built = True

    def _norm(self, name, input_shape):
        norm = keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)
        norm.build(input_shape)
        return norm

    def call(self, x):
        """Return x + up(SNNK(x)), with the layer normalisations of `norm_before` and `norm_after`."""
        check_shape(self, x.shape, (..., self._dim))
        change = self.snnk(self.before(x) if self.norm_before else x)
        change = self.up(change) if self.bottleneck else change * ops.convert_to_tensor(self.factor)
        return self.after(x + change) if self.norm_after else x + change

    def fixed_variables(self):
        """Return the variables that training never changes: the random projections of the SNNK."""
        return self.snnk.fixed_variables()

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return input_shape

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        inner = self.snnk.get_config()
        for name in ("name", "dtype", "trainable", "units"):
            inner.pop(name)
        own = {"bottleneck": self.bottleneck, "start": self.start}
        norms = {"norm_before": self.norm_before, "norm_after": self.norm_after, "epsilon": self.epsilon}
        return {**super().get_config(), **inner, **own, **norms}


@keras.saving.register_keras_serializable("linearized")
class Adapted(keras.layers.Layer):
    """Layer that contains another layer and an adapter of its outputs, and can take the place of that layer in a model.

    Args:
        layer: Any layer with one output; no other layer or model may use it.
        adapter: `SNNKAdapter`, or another layer whose outputs have the shape of its inputs.

    Input shape: the input shape of `layer`.
    Output shape: the output shape of `layer`.
    """

    def __init__(self, layer, adapter, **kwargs):
        super().__init__(**kwargs)
        self.layer = keras.saving.deserialize_keras_object(layer) if isinstance(layer, dict) else layer
        self.adapter = keras.saving.deserialize_keras_object(adapter) if isinstance(adapter, dict) else adapter

    def build(self, input_shape):
        """Create the weights of the layer and of the adapter, unless they exist."""
        if not self.layer.built:
            self.layer.build(input_shape)
        if not self.adapter.built:
            self.adapter.build(self.layer.compute_output_shape(input_shape))
        self._dim = input_shape[-1]
        self.built = True

    def call(self, x):
        """Return the outputs adapter(layer(x)) for inputs x of the layer."""
        check_shape(self, x.shape, (..., self._dim))
        return ops.cast(self.adapter(self.layer(x)), self.compute_dtype)

    def fixed_variables(self):
        """Return the variables of the adapter that training never changes, such as random projections."""
        return self.adapter.fixed_variables() if hasattr(self.adapter, "fixed_variables") else []

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        parts = {"layer": self.layer, "adapter": self.adapter}
        return {**super().get_config(),
                **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}}  # fmt: skip


def adapted(layer: keras.layers.Dense, **options) -> Adapted:
    """Return one layer that contains a copy of a dense layer, with the same weights, and a new adapter of its outputs.

    With this function as a factory, `linearized.layers.surgery.swap.swap` adds adapters to the dense layers of a model.

    Args:
        layer: Built `Dense`, or `EinsumDense` with one output axis; it is not changed.
        **options: Arguments of `SNNKAdapter`.
    """
    copy = type(layer).from_config(layer.get_config())
    copy.build(layer.get_build_config()["input_shape"])
    copy.set_weights(layer.get_weights())
    new = Adapted(copy, SNNKAdapter(name="adapter", dtype=layer.dtype_policy, **options), name=layer.name)
    new.build(layer.get_build_config()["input_shape"])
    return new
