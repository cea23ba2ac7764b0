"""Scalable neural network kernels: a dense layer f(Wx + b) as a product of random features of inputs and of weights.

Φ(x) are m features of the inputs, and Ψ(W, b) are m features of the weights (Choromanski et al., "Scalable Neural
Network Kernels", ICLR 2024). `snnk.expansions` expands f, and `snnk.features` contains the features. The trained matrix
Ψ is (m, u) for u units; its size does not depend on the number of inputs. The layer is linear in Φ, so a linear layer
after it can be multiplied into Ψ (`snnk.bundle`).
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from linearized.layers.initializers import SeededNormal
from linearized.layers.snnk import fit as snnk_fit
from linearized.layers.snnk.expansions import FUNCTIONS, RELU, TRIGONOMETRIC, Expansion
from linearized.layers.snnk.universal import UniversalFeatures

TRAINED = ("psi", "weights")
MADE_UP_ROWS = 512  # number of rows N(0, 1) on which the error of the estimate is measured


@keras.saving.register_keras_serializable("linearized")
class SNNK(keras.layers.Layer):
    """Scalable neural network kernel: an approximation Φ(x)·Ψ(W, b) of a dense layer f(Wx + b) by random features.

    Φ(x) are m random features of the d inputs, and Ψ(W, b), (m, u), are m random features of the weights W and the bias
    b of each of the u units (Choromanski et al., ICLR 2024). The random projections that both depend on are never
    trained.

    Args:
        units: u, the number of outputs.
        num_features: m, the largest number of features. Fewer are used if m features cannot be split into pairs (for
            Fourier expansions) or into equal numbers per term (`Exponentials`).
        activation: f: relu, sin, cos, tanh, sigmoid, softplus or gelu; a `Power`, `Fourier` or `Exponentials`; or a
            function on arrays.
        trained: "psi": Ψ itself is trained, m u numbers; it starts at Ψ(W, b) for initial W and b, which are then
            discarded. "weights": W and b are trained, (d + 1) u numbers, and Ψ is computed in every call.
        use_bias: Whether the units have a bias b, which starts at 0.
        kernel_initializer: Initializer of W, (d, u); None: N(0, 1/d) from the seed of the projections.
        regularizer: Regularizer of Ψ, or of W if that is trained.
        kwargs: Other options of `linearized.layers.UniversalFeatures`.

    Input shape: `(n, d)`, or more axes before the last.
    Output shape: the same with u in the place of d. Costs O(n m (d + u)), and O(u m d) more per call if W is trained.

    Example:
        >>> import numpy as np
        >>> from linearized.layers.snnk.layer import SNNK
        >>> layer = SNNK(10, num_features=64, activation="relu")
        >>> tuple(layer(np.ones((2, 8), "float32")).shape)
        (2, 10)
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
        self.features.label = self.name
        self.units, self.trained, self.use_bias = int(units), trained, bool(use_bias)
        self.kernel_initializer = None if kernel_initializer is None else keras.initializers.get(kernel_initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.error = self.ridge = None  # set by `from_dense`

    def build(self, input_shape):
        """Draw the random projections for inputs of length d, and create the trained weights."""
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
        """Return Φ(x)·Ψ, `(n, u)`, for inputs x."""
        return ops.matmul(self.features(x), self.matrix())

    def matrix(self):
        """Return the current Ψ, (m, u), in the compute data type."""
        if self.trained == "psi":
            return ops.convert_to_tensor(self.psi)
        bias = self.bias if self.use_bias else ops.zeros((self.units,))
        return ops.cast(self.features.of_weights(self.kernel, bias), self.compute_dtype)

    @classmethod
    def from_dense(
        cls, layer, num_features=256, inputs=None, ridge=None, bounded=True, held_out=None, rows_are="", **options
    ):
        """Return an SNNK Φ(x)·Ψ that approximates a trained dense layer f(Wx + b), and measure its error.

        The relative error ‖f̂ - f‖ / ‖f‖ of the SNNK's outputs f̂ against the layer's outputs f, on rows that the fit
        does not use, is logged and stored as `error`; an error above 0.2 causes a warning. As an example, ReLU features
        for the tanh of 12 standard normal inputs have an error below 0.25 with m = 128 features and 3,000 rows. With
        fewer features or rows the error is larger.

        Args:
            layer: Layer whose kernel, bias and activation are read; it is not changed.
            num_features: m, the number of features Φ.
            inputs: Typical inputs of `layer`, (n, d) with n > m. Ψ is fitted to the layer's outputs by ridge regression
                on Φ(inputs), which costs O((n + m) m²). The error is smaller by orders of magnitude than with the
                unbiased estimate Ψ(W, b), and inputs and weights may have larger norms. None: Ψ(W, b) is used, and its
                error is measured on rows N(0, 1). For relu, Ψ(W, b) estimates the arc-cosine kernel instead of the
                layer (see `snnk.features`).
            ridge: Ridge of the regression, in units of the mean square of a feature times n; None: chosen by
                leave-one-out errors.
            bounded: With `inputs`: whether to centre and scale the features by these rows, and to bound the features
                outside the radius of the rows, see `linearized.layers.UniversalFeatures`. Without `inputs`: whether to
                bound the features for ‖x‖ > reach / max‖w‖, with the weights w of all units. For smaller ‖x‖,
                `|w·x| <= reach` holds for all units, so the expansion of f is valid. An `activation` that is "relu",
                `Power`, `Fourier` or `Exponentials` is never bounded without `inputs`.
            held_out: Rows like `inputs`, on which the error is measured; None: a fifth of `inputs`.
            rows_are: Description of the rows on which the error is measured, for the log.
            **options: Other arguments of `SNNK`. `activation` defaults to the activation of `layer`.

        Raises:
            ValueError: If `layer` is not a built Dense, if the norms of its weights are too large for the unbiased
                estimate, if there are too few inputs or some are not finite, and for arguments that cannot be combined.
        """
        if not isinstance(layer, keras.layers.Dense) or not layer.built:
            raise ValueError(f"`layer` must be a Dense layer that has been built. Received: {layer!r}.")
        own = {"name": layer.name, "dtype": layer.dtype_policy, "activation": activation_of(layer), **options}
        if inputs is not None:
            return cls._fitted(layer, num_features, inputs, ridge, bounded, held_out, rows_are, own)
        if held_out is not None or ridge is not None:
            raise ValueError("`ridge` and `held_out` are read where Ψ is fitted on `inputs`. Received: inputs=None.")
        if bounded and own["activation"] != RELU and not isinstance(own["activation"], Expansion):
            own.setdefault("radius", own.get("reach", 3.0) / _largest_norm(layer))
        new = cls(layer.units, num_features, use_bias=layer.use_bias, **own)
        new.build((None, layer.kernel.shape[0]))
        bias = layer.bias if layer.use_bias else ops.zeros((layer.units,))
        if new.trained == "weights":
            new.kernel.assign(layer.kernel)
            if new.use_bias:
                new.bias.assign(layer.bias)
        else:
            new.psi.assign(ops.convert_to_numpy(new.features.of_weights(layer.kernel, bias)))
        if not np.isfinite(ops.convert_to_numpy(new.matrix())).all():
            raise ValueError(f"The weights of {layer.name!r} are too large for the estimate. Give `inputs`, or scale "
                             "them down. Received: inputs=None.")  # fmt: skip
        rows = np.random.default_rng(0).standard_normal((MADE_UP_ROWS, layer.kernel.shape[0]))
        new.error = _error_on(new, layer, rows)
        snnk_fit.report(layer.name, new.error, "rows N(0, 1), as no `inputs` were given")
        return new

    @classmethod
    def _fitted(cls, layer, num_features, inputs, ridge, bounded, held_out, rows_are, options):
        """Return an SNNK whose matrix Ψ is fitted to the outputs of a dense layer on given inputs.

        The arguments are those of `from_dense`, with `options` as a dictionary.
        """
        if options.get("trained", "psi") == "weights":
            raise ValueError("`inputs` fit Ψ; with trained='weights' it is computed. Received: both.")
        rows, others = (None if x is None else np.asarray(x).reshape(-1, np.shape(x)[-1]).astype(np.float32)
                        for x in (inputs, held_out))  # fmt: skip
        if not (np.isfinite(rows).all() and (others is None or np.isfinite(others).all())):
            raise ValueError("`inputs` must be finite. Received: NaN or infinity in them.")
        if bounded and "radius" in options:
            raise ValueError("The radius is measured on `inputs`. Leave `radius` out, or give bounded=False as well. "
                             f"Received: radius={options['radius']}.")  # fmt: skip
        if bounded:
            options = {"radius": 1.0, "growth": snnk_fit.growth_of(layer, rows), **options}
        new = cls(layer.units, num_features, use_bias=layer.use_bias, **options)
        new.build((None, layer.kernel.shape[0]))
        features, normalize = new.features, new.features.normalize
        if len(rows) <= features.count:
            raise ValueError(f"`inputs` must have more rows than features. Received: {len(rows)} rows for "
                             f"{features.count} features.")  # fmt: skip

        def goal(x):
            norms = np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
            return layer(x * (normalize / norms) if normalize else x)

        if bounded:
            features.calibrate(rows)
        found = snnk_fit.fit(goal, features, rows, ridge, others)
        new.psi.assign(found.psi)
        new.error, new.ridge = found.error, found.ridge
        snnk_fit.report(layer.name, new.error, rows_are or "rows held out of `inputs`")
        return new

    def fixed_variables(self):
        """Return the variables that training never changes: the variables of the random features."""
        return self.features.fixed_variables()

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        own = {"units": self.units, "trained": self.trained, "use_bias": self.use_bias}
        given = self.kernel_initializer
        initializer = None if given is None else keras.initializers.serialize(given)
        regularizer = keras.regularizers.serialize(self.regularizer)
        return {**super().get_config(), **own, "kernel_initializer": initializer, "regularizer": regularizer,
                "num_features": self.features.num_features, **self.features.options()}  # fmt: skip


def activation_of(layer: keras.layers.Dense) -> Any:
    """Return the value of the argument `activation` for an `SNNK` that replaces a dense layer.

    The value is a name that SNNK supports, or the layer's activation as a function on NumPy arrays. "gelu" in SNNK
    means the exact function; it also replaces Keras' approximation by tanh, which differs by at most 5e-4.

    Args:
        layer: Dense layer.

    Raises:
        ValueError: If the layer has no activation.
    """
    function = layer.activation
    name = getattr(function, "__name__", "")
    if name in (RELU, *TRIGONOMETRIC, *FUNCTIONS):
        return name
    if name == "linear":
        raise ValueError(f"{layer.name!r} has no activation: a linear layer needs no features. Received: 'linear'.")
    return lambda z: ops.convert_to_numpy(function(ops.convert_to_tensor(z, "float32")))


def _largest_norm(layer: keras.layers.Dense) -> float:
    """Return the largest norm of the weights of a unit of a dense layer, or 1 if all weights are 0."""
    return float(np.linalg.norm(ops.convert_to_numpy(layer.kernel), axis=0).max()) or 1.0


def _error_on(new: SNNK, layer: keras.layers.Dense, rows: np.ndarray) -> float:
    """Return the relative error of an SNNK's outputs; warnings about rows outside its radius are suppressed.

    Args:
        new: SNNK.
        layer: Dense layer that it approximates.
        rows: Rows (n, d) on which both are compared.
    """
    features = new.features
    normal = features.normalize / np.linalg.norm(rows, axis=1, keepdims=True) if features.normalize else 1.0
    with features.quiet():
        found = snnk_fit.outputs(new, rows)
    return snnk_fit.relative_error(found, snnk_fit.outputs(layer, rows * normal))
