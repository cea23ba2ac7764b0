"""Scalable neural network kernels: a dense layer f(Wx + b) as Ψ(W, b)·Φ(x), random features of inputs and of weights.

Choromanski et al., "Scalable Neural Network Kernels", ICLR 2024. `snnk_expansions` takes f apart, `snnk_features` holds
the features. What is trained is Ψ, (m, u) whatever the input's size d; and as the layer is linear in Φ, the maps around
it fold into it (`snnk_bundle`).
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import linalg

from linearized.layers.initializers import SeededNormal
from linearized.layers.snnk_expansions import FUNCTIONS, RELU, TRIGONOMETRIC
from linearized.layers.snnk_universal import UniversalFeatures

TRAINED = ("psi", "weights")


@keras.saving.register_keras_serializable("linearized")
class SNNK(keras.layers.Layer):
    """f(Wx + b) by random features, Ψ(W, b)·Φ(x).

    Args:
        units: u, the number of outputs.
        num_features, activation, ...: see `UniversalFeatures`; all its options are taken here.
        trained: "psi": Ψ itself, (m, u) numbers, started from a W and b that are then forgotten; "weights": W and b,
            (d + 1) u numbers, with Ψ computed in every call.
        use_bias: Whether there is a b; it starts at 0.
        kernel_initializer: Of W, (d, u); None: N(0, 1/d) by the seed of the projections.
        regularizer: On Ψ, or on W where that is trained.

    Input shape: `(n, d)`, or more axes before the last.
    Output shape: the same with u in the place of d. Costs n·m·(d + u), and u·m·d a call where W is trained.
    """

    def __init__(
        self, units, num_features=256, activation="relu", trained="psi", use_bias=True,
        kernel_initializer=None, regularizer=None, **kwargs,
    ):  # fmt: skip
        own = {name: kwargs.pop(name) for name in ("name", "dtype", "trainable") if name in kwargs}
        super().__init__(**own)
        if units < 1:
            raise ValueError(f"`units` must be at least 1. Received: units={units}.")
        if trained not in TRAINED:
            raise ValueError(f"`trained` must be one of {', '.join(TRAINED)}. Received: trained={trained!r}.")
        kwargs.setdefault("biased", use_bias)
        self.features = UniversalFeatures(num_features, activation, dtype=self.dtype_policy, name="features", **kwargs)
        self.units, self.trained, self.use_bias = int(units), trained, bool(use_bias)
        self.kernel_initializer = None if kernel_initializer is None else keras.initializers.get(kernel_initializer)
        self.regularizer = keras.regularizers.get(regularizer)

    def build(self, input_shape):
        self.features.build(input_shape)
        shape = (input_shape[-1], self.units)
        first = self.kernel_initializer or SeededNormal(input_shape[-1] ** -0.5, self.features.seed)
        if self.trained == "weights":
            self.kernel = self.add_weight(name="kernel", shape=shape, initializer=first, regularizer=self.regularizer)
            zeros = {"name": "bias", "shape": (self.units,), "initializer": "zeros"}
            self.bias = self.add_weight(**zeros) if self.use_bias else None
        else:

            def start(psi_shape, dtype=None):
                drawn = first(shape, dtype="float32")
                return ops.cast(self.features.of_weights(drawn, ops.zeros((self.units,))), dtype or "float32")

            size = (self.features.count, self.units)
            self.psi = self.add_weight(name="psi", shape=size, initializer=start, regularizer=self.regularizer)
        self.built = True

    def call(self, x):
        return ops.matmul(self.features(x), self.matrix())

    def matrix(self):
        """Ψ as it is now, (m, u), in the compute dtype."""
        if self.trained == "psi":
            return ops.convert_to_tensor(self.psi)
        bias = self.bias if self.use_bias else ops.zeros((self.units,))
        return ops.cast(self.features.of_weights(self.kernel, bias), self.compute_dtype)

    @classmethod
    def from_dense(cls, layer, num_features=256, inputs=None, ridge=1e-6, **options):
        """A layer that stands in for a trained `Dense`, from the first step.

        Args:
            layer: Its kernel, bias and activation are read; it is left alone.
            inputs: None: Ψ(W, b), the unbiased estimate (of the arc-cosine layer for relu). Else typical inputs of
                `layer`, (n, d) with n > m: Ψ is the ridge regression of its outputs on Φ(inputs), whose error is
                smaller by orders of magnitude, and which serves norms that are too large for the estimate. Costs
                O(n m (m + d)).
            ridge: Of that regression, in units of the mean square of a feature times n.
            options: As for the layer; `activation` is that of `layer` unless given.

        Raises ValueError if `layer` is not built, or where norms of inputs and weights are too large for the estimate.
        """
        if not isinstance(layer, keras.layers.Dense) or not layer.built:
            raise ValueError(f"`layer` must be a Dense layer that has been built. Received: {layer!r}.")
        own = {"name": layer.name, "dtype": layer.dtype_policy, "activation": activation_of(layer), **options}
        new = cls(layer.units, num_features, use_bias=layer.use_bias, **own)
        new.build((None, layer.kernel.shape[0]))
        if new.trained == "weights":
            if inputs is not None:
                raise ValueError("`inputs` fit Ψ; with trained='weights' it is computed. Received: both.")
            new.kernel.assign(layer.kernel)
            if new.use_bias:
                new.bias.assign(layer.bias)
            return new
        bias = layer.bias if layer.use_bias else ops.zeros((layer.units,))
        psi = ops.convert_to_numpy(new.features.of_weights(layer.kernel, bias)) if inputs is None else None
        new.psi.assign(psi if inputs is None else new.fitted(layer, np.asarray(inputs), ridge))
        if not np.isfinite(ops.convert_to_numpy(new.psi)).all():
            raise ValueError(f"The weights of {layer.name!r} are too large for the estimate. Give `inputs`, or scale "
                             "them down. Received: inputs=None.")  # fmt: skip
        return new

    def fitted(self, layer, inputs: np.ndarray, ridge: float) -> np.ndarray:
        """Ψ by ridge regression of `layer`'s outputs on Φ(inputs), solved in float64."""
        rows = inputs.reshape(-1, inputs.shape[-1]).astype(np.float32)
        if self.features.normalize:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows * (self.features.normalize / np.maximum(norms, 1e-6))
        if len(rows) <= self.features.count:
            raise ValueError(f"`inputs` must have more rows than features. Received: {len(rows)} rows for "
                             f"{self.features.count} features.")  # fmt: skip
        phi = ops.convert_to_numpy(ops.cast(self.features(rows), "float32")).astype(np.float64)
        goal = ops.convert_to_numpy(ops.cast(layer(rows), "float32")).astype(np.float64)
        scales = np.sqrt(np.square(phi).mean(axis=0)) + 1e-300
        phi /= scales
        gram = phi.T @ phi
        gram[np.diag_indices_from(gram)] += max(ridge, 1e-12) * len(rows)
        return (linalg.solve(gram, phi.T @ goal, assume_a="pos") / scales[:, None]).astype(np.float32)

    def fixed_variables(self):
        """What no training changes."""
        return self.features.fixed_variables()

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        own = {"units": self.units, "trained": self.trained, "use_bias": self.use_bias}
        given = self.kernel_initializer
        initializer = None if given is None else keras.initializers.serialize(given)
        regularizer = keras.regularizers.serialize(self.regularizer)
        return {**super().get_config(), **own, "kernel_initializer": initializer, "regularizer": regularizer,
                "num_features": self.features.num_features, **self.features.options()}  # fmt: skip


def activation_of(layer: keras.layers.Dense) -> Any:
    """What `SNNK` calls the activation of `layer`: a name that it knows, else the function itself, on NumPy arrays.

    GELU is exact here; Keras' approximate one (tanh) differs by 5e-4 and counts as the same.
    """
    function = layer.activation
    name = getattr(function, "__name__", "")
    if name in (RELU, *TRIGONOMETRIC, *FUNCTIONS):
        return name
    if name == "linear":
        raise ValueError(f"{layer.name!r} has no activation: a linear layer needs no features. Received: 'linear'.")
    return lambda z: ops.convert_to_numpy(function(ops.convert_to_tensor(z, "float32")))
