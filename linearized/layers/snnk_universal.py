"""The features Φ(x) of an SNNK as a layer: fixed random projections, and the towers of `snnk_features` on them."""

from typing import Any

import keras
import numpy as np
from keras import ops

from linearized.layers import snnk_features
from linearized.layers.shapes import check_shape
from linearized.layers.snnk_expansions import KINDS, expand


@keras.saving.register_keras_serializable("linearized")
class UniversalFeatures(keras.layers.Layer):
    """Φ(x), with its random projections drawn once, kept with the weights and never trained.

    Args:
        num_features: m. Where terms need pairs of features the layer may have one less (`count`).
        activation: relu, sin, cos, tanh, sigmoid, softplus, gelu; a `Power` or a `Fourier` with coefficients of your
            own; or any function on arrays, which is expanded at once.
        expansion: "power" or "fourier", for functions that are neither relu, sin nor cos.
        reach, degree: The expansion serves |w·x + b| <= reach, with powers or frequencies up to degree.
        features: "asymmetric" (positive features of x, w and b in phases) or "symmetric", for Fourier expansions.
        shift: M >= 0 of these: bounds the features of large projections. The best is about s²‖x‖²/(2d); 0 is off.
        scale: s of the asymmetric features; the variance is least at scale² = ‖w‖/‖x‖.
        orthogonal: Blocks of d projections are orthogonal to each other (Haar), else all are independent.
        normalize: Inputs are first scaled to this norm, over their last axis; 0: not.
        seed: Of the projections, one integer or several, none negative.

    Input shape: `(n, d)`, or more axes before the last.
    Output shape: the same with m in the place of d.
    """

    def __init__(
        self, num_features, activation="relu", expansion="power", reach=3.0, degree=8, features="asymmetric",
        shift=0.0, scale=1.0, orthogonal=True, normalize=0.0, seed=0, biased=True, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if num_features < 2:
            raise ValueError(f"`num_features` must be at least 2. Received: num_features={num_features}.")
        if features not in snnk_features.FOURIER_FEATURES:
            names = ", ".join(snnk_features.FOURIER_FEATURES)
            raise ValueError(f"`features` must be one of {names}. Received: features={features!r}.")
        if shift < 0 or scale <= 0 or normalize < 0:
            raise ValueError("`shift` and `normalize` must not be negative, `scale` must be above 0. "
                             f"Received: shift={shift}, normalize={normalize}, scale={scale}.")  # fmt: skip
        if expansion not in KINDS:
            raise ValueError(f"`expansion` must be one of {', '.join(KINDS)}. Received: expansion={expansion!r}.")
        self.seed = [int(number) for number in np.atleast_1d(seed)]
        if min(self.seed) < 0:
            raise ValueError(f"`seed` must not be negative. Received: seed={seed}.")
        self.num_features, self.expansion, self.features = int(num_features), expansion, features
        self.reach, self.degree, self.shift, self.scale = float(reach), int(degree), float(shift), float(scale)
        self.orthogonal, self.normalize, self.biased = bool(orthogonal), float(normalize), bool(biased)
        if isinstance(activation, dict):
            activation = keras.saving.deserialize_keras_object(activation)
        series = expand(activation, expansion, self.reach, self.degree)
        self.activation = activation if isinstance(activation, str) else series
        self.towers = snnk_features.towers(
            self.num_features, series, kind=features, shift=self.shift, scale=self.scale, reach=self.reach,
            biased=self.biased,
        )  # fmt: skip
        self.count = self.towers.count
        self.folds = self.towers.has_offset and not self.normalize  # whether Φ(Ax + c) is Φ of other projections

    def _drawn(self, dim):
        """(dim, projections): each group of the towers drawn by itself."""
        groups = [
            snnk_features.draw(dim, count, [*self.seed, place], self.orthogonal)
            for place, count in enumerate(self.towers.groups)
        ]
        return np.concatenate(groups, axis=1)

    def build(self, input_shape):
        dim, count = input_shape[-1], self.towers.projections
        drawn = self._drawn(dim + self.towers.draws_offset)
        offset = drawn[dim] if self.towers.draws_offset else np.zeros(count, np.float32)
        self.projection = self._fixed("projection", drawn[:dim])
        self.offset = self._fixed("offset", offset) if self.towers.has_offset else None
        self.built = True

    def _fixed(self, name, value):
        def initializer(shape, dtype=None):
            return ops.convert_to_tensor(value, dtype=dtype)

        return self.add_weight(name=name, shape=value.shape, initializer=initializer, trainable=False)

    def call(self, x):
        check_shape(self, x.shape, (..., self.projection.shape[0]))
        if self.normalize:
            norms = ops.sum(ops.square(ops.cast(x, "float32")), axis=-1, keepdims=True)
            x = x * ops.cast(self.normalize * ops.rsqrt(ops.maximum(norms, 1e-12)), x.dtype)
        return self.towers.inputs(x, ops.convert_to_tensor(self.projection), self._offset())

    def _offset(self):
        return None if self.offset is None else ops.convert_to_tensor(self.offset)

    def of_weights(self, kernel, bias):
        """Ψ(W, b) in float32, (m, u), of W (d, u) and b (u,)."""
        values = (kernel, bias, self.projection, self._offset())
        return self.towers.weights(*(value if value is None else ops.cast(value, "float32") for value in values))

    def fixed_variables(self):
        """What no training changes."""
        return [variable for variable in (self.projection, self.offset) if variable is not None]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.count)

    def options(self) -> dict[str, Any]:
        """The arguments after `num_features`, as for a configuration."""
        names = ("expansion", "reach", "degree", "features", "shift", "scale", "orthogonal", "normalize", "seed",
                 "biased")  # fmt: skip
        given = self.activation
        activation = given if isinstance(given, str) else keras.saving.serialize_keras_object(given)
        return {"activation": activation, **{name: getattr(self, name) for name in names}}

    def get_config(self):
        return {**super().get_config(), "num_features": self.num_features, **self.options()}
