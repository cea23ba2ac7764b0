"""Layer with the random features Φ(x) of an SNNK (scalable neural network kernel), see `snnk.features`.

Features of powers and of frequencies grow without bound, and a matrix Ψ that was fitted on some rows is not valid for
rows far from them. Therefore a layer with a `radius` R bounds its features. For a row x and z = a (x - c), it returns
s^growth · Φ(z / s) with s = max(1, ‖z‖ / R). The centre c is 0 and the scale a is 1 until `calibrate` sets them. A row
outside the ball ‖z‖ <= R is thus moved straight towards the centre to the border of the ball, and the features there
are multiplied by s^growth. With growth 0, outputs outside the ball stay in the range of the outputs on its border.

For "relu" and powers, Φ is a function of the random projections P z alone. ‖z‖ is then estimated by ‖P z‖, divided by
the square root of the number of projections.
"""

import contextlib
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from linearized.layers.shapes import check_shape
from linearized.layers.snnk import features as snnk_features
from linearized.layers.snnk.expansions import KINDS, RELU, expand

WARN_ABOVE = 1.25  # distance in radii that causes a warning; new rows of the same distribution often reach 1.2


@keras.saving.register_keras_serializable("linearized")
class UniversalFeatures(keras.layers.Layer):
    """Layer that computes random features Φ(x) of its inputs, such that Φ(x)·Ψ(w, b) estimates f(w·x + b).

    f is an activation, w are the weights of a unit and b is its bias; `of_weights` computes Ψ. The random projections
    are drawn once, saved with the weights and never trained. `linearized.layers.snnk.features` lists the features and
    their symbols.

    Args:
        num_features: m, the largest number of features. The number in use, the attribute `count`, is smaller if m
            features cannot be split into pairs (for Fourier expansions) or into equal numbers per term
            (`Exponentials`).
        activation: f: relu, sin, cos, tanh, sigmoid, softplus or gelu; a `Power`, `Fourier` or `Exponentials` with your
            own coefficients; or any function on arrays, which is expanded when the layer is created.
        expansion: Kind of the expansion of functions other than relu, sin and cos: "power" or "fourier".
        reach: Half the length of the interval on which the expansion approximates f: `|w·x + b| <= reach`.
        degree: Largest power, or number of frequencies above 0, of the expansion.
        features: Kind of the features of Fourier expansions: "asymmetric" (positive features of x, with w and b in
            phases) or "symmetric".
        shift: M >= 0 of Fourier expansions and `Exponentials`, which bounds the features of large projections; 0: no
            shift. The best M is about s²‖x‖²/(2d) with s = scale·√ω at the frequency ω.
        scale: Factor of s in the asymmetric features; the variance is smallest at scale² = ‖w‖/‖x‖.
        orthogonal: Whether projections are orthogonal to each other in blocks of d (Haar); otherwise all are
            independent.
        lengths: Lengths of orthogonal projections: "chi", so that each of them is N(0, I), or "fixed" at √d, see
            `snnk.features.draw`.
        normalize: Norm over the last axis to which inputs are first scaled; 0: inputs are not scaled.
        seed: Random-number seed of the projections, one integer or several, none negative.
        biased: Whether units have a bias b. If so, "relu" extends x by the coordinate 1, and every power below the
            last gets features.
        constant: Floor c of the "relu" features max(g·x + h, c), for a random projection g and offset h. 0 is the ReLU;
            -5 makes them nearly linear.
        radius: R. 0: features are not bounded. R > 0: a row outside the ball of radius R around the centre c is moved
            to the border of the ball, and its features are multiplied by (distance / R)^growth. The distance of a row x
            from c is ‖a (x - c)‖ with a scale a; for "relu" and powers the distance is estimated from the random
            projections. c is 0 and a is 1 until `calibrate` sets c, a and R from rows.
        growth: Exponent with which bounded features continue to grow outside the radius: 0 for functions that stay
            bounded, 1 for those that grow like `|z|`, such as the ReLU.

    Input shape: `(n, d)`, or more axes before the last.
    Output shape: the same with `count` in the place of d.

    Raises:
        ValueError: For arguments outside these ranges, and for too few features for the terms of the expansion.
    """

    def __init__(
        self, num_features, activation="relu", expansion="power", reach=3.0, degree=8, features="asymmetric",
        shift=0.0, scale=1.0, orthogonal=True, normalize=0.0, seed=0, biased=True, constant=0.0, radius=0.0,
        growth=0.0, lengths="chi", **kwargs,
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
        if lengths not in snnk_features.LENGTHS or (lengths != "chi" and not orthogonal):
            raise ValueError('`lengths` must be "chi" or, with orthogonal projections, "fixed". '
                             f"Received: lengths={lengths!r}, orthogonal={orthogonal}.")  # fmt: skip
        if constant and activation != RELU:
            raise ValueError(f"`constant` is the floor of the \"relu\" features. Received: constant={constant} for "
                             f"activation={activation!r}.")  # fmt: skip
        if not (np.isfinite([constant, radius, growth]).all() and radius >= 0 and growth >= 0):
            raise ValueError("`constant`, `radius` and `growth` must be finite, the last two not negative. "
                             f"Received: constant={constant}, radius={radius}, growth={growth}.")  # fmt: skip
        if growth and not radius:
            raise ValueError(f"`growth` has no effect without a `radius`. Received: growth={growth}, radius={radius}.")
        if expansion not in KINDS:
            raise ValueError(f"`expansion` must be one of {', '.join(KINDS)}. Received: expansion={expansion!r}.")
        self.seed = [int(number) for number in np.atleast_1d(seed)]
        if min(self.seed) < 0:
            raise ValueError(f"`seed` must not be negative. Received: seed={seed}.")
        self.num_features, self.expansion, self.features = int(num_features), expansion, features
        self.reach, self.degree, self.shift, self.scale = float(reach), int(degree), float(shift), float(scale)
        self.orthogonal, self.normalize, self.biased = bool(orthogonal), float(normalize), bool(biased)
        self.constant, self.radius, self.growth = float(constant), float(radius), float(growth)
        self.lengths = lengths
        if isinstance(activation, dict):
            activation = keras.saving.deserialize_keras_object(activation)
        series = expand(activation, expansion, self.reach, self.degree)
        self.activation = activation if isinstance(activation, str) else series
        self.towers = snnk_features.towers(
            self.num_features, series, kind=features, shift=self.shift, scale=self.scale, reach=self.reach,
            constant=self.constant, biased=self.biased,
        )  # fmt: skip
        self.count = self.towers.count
        self.folds = self.towers.folds and not self.normalize  # whether Φ(Ax + c) is Φ of other projections
        self._warned, self.label, self.error = False, self.name, None  # `error` is set when an SNNK is bundled

    def _drawn(self, dim):
        """Draw the random projections for inputs of length `dim`, (dim, projections).

        A feature that is a product of n projections needs n independent draws. Therefore the projections are divided
        into groups, which are drawn separately.
        """
        groups = [
            snnk_features.draw(dim, count, [*self.seed, place], self.orthogonal, self.lengths)
            for place, count in enumerate(self.towers.groups)
        ]
        return np.concatenate(groups, axis=1)

    def build(self, input_shape):
        """Draw the random projections for inputs of length d, and create the centre and radius of bounded features."""
        dim, count = input_shape[-1], self.towers.projections
        drawn = self._drawn(dim + self.towers.draws_offset)
        offset = drawn[dim] if self.towers.draws_offset else np.zeros(count, np.float32)
        self.projection = self._fixed("projection", drawn[:dim])
        self.offset = self._fixed("offset", offset) if self.towers.folds else None
        # -centre, projected if Φ depends on the projections only, so that a linear map before it can be folded in
        size = count if self.towers.folds else dim
        self.origin = self._fixed("origin", np.zeros(size, np.float32)) if self.radius else None
        self.rescale = self._fixed("rescale", np.float32(1)) if self.radius and not self.towers.folds else None
        self.bound = self._fixed("bound", np.float32(self.radius)) if self.radius else None
        self.built = True

    def _fixed(self, name, value):
        def initializer(shape, dtype=None):
            return ops.convert_to_tensor(value, dtype=dtype)

        # Differences from the centre cancel, so bounded features measure rows in float32.
        kept = {"trainable": False, "autocast": not self.radius}
        return self.add_weight(name=name, shape=np.shape(value), initializer=initializer, **kept)

    def call(self, x):
        """Return the features Φ(x), `(..., count)`, of inputs x (..., d)."""
        check_shape(self, x.shape, (..., self.projection.shape[0]))
        x, projection = self._normalized(x), ops.convert_to_tensor(self.projection)
        if not self.radius:
            if not self.towers.folds:
                return self.towers.of_inputs(x, projection)
            return self.towers.of_projected(ops.matmul(x, projection) + ops.convert_to_tensor(self.offset))
        seen = self._seen(x)
        excess = self._excess(seen)
        self._warn(excess)
        inside = seen / excess
        if self.towers.folds:
            features = self.towers.of_projected(inside + ops.convert_to_tensor(self.offset))
        else:
            features = self.towers.of_inputs(inside, projection)
        return ops.cast(features * excess**self.growth if self.growth else features, self.compute_dtype)

    def _normalized(self, x):
        if not self.normalize:
            return x
        norms = ops.sum(ops.square(ops.cast(x, "float32")), axis=-1, keepdims=True)
        return x * ops.cast(self.normalize * ops.rsqrt(ops.maximum(norms, 1e-12)), x.dtype)

    def _seen(self, x):
        """Return the projected or scaled difference between inputs x and the centre c of bounded features, in float32.

        This is P(x - c) with the projections P for "relu" and powers, and a (x - c) with the scale a for other
        features.
        """
        x = ops.cast(x, "float32")
        if self.towers.folds:
            return ops.matmul(x, ops.convert_to_tensor(self.projection)) + ops.convert_to_tensor(self.origin)
        return (x + ops.convert_to_tensor(self.origin)) * ops.convert_to_tensor(self.rescale)

    def _sizes(self, seen):
        """Return the distances of rows from the centre, (..., 1), in a form that cannot overflow.

        A small number under the square root makes the distance differentiable at 0.

        Args:
            seen: Result of `_seen` for the rows.
        """
        top = ops.stop_gradient(ops.maximum(ops.max(ops.abs(seen), axis=-1, keepdims=True, initial=0.0), 1e-30))
        norms = top * ops.sqrt(ops.sum(ops.square(seen / top), axis=-1, keepdims=True) + 1e-12)
        return norms / self.towers.projections**0.5 if self.towers.folds else norms

    def _excess(self, seen):
        return ops.maximum(self._sizes(seen) / ops.convert_to_tensor(self.bound), 1.0)

    def excess(self, x):
        """Return max(1, r / R) for each row, where r is its distance from the centre of the ball of radius R.

        Bounded features are valid in this ball. The features of a row outside the ball are the features of a point on
        the border, times the returned number to the power `growth`.

        Args:
            x: Rows (..., d).

        Returns:
            One number of at least 1 per row, (..., 1).

        Raises:
            ValueError: If the features are not bounded.
        """
        if not self.radius:
            raise ValueError(f"{self.name!r} has no radius. Received: radius=0.")
        return self._excess(self._seen(self._normalized(ops.convert_to_tensor(x, self.compute_dtype))))

    def _warn(self, excess):
        """Warn once about rows far outside the radius.

        Compiled functions cause no warning, because distances are unknown during compilation.

        Args:
            excess: Distance of each row from the centre, divided by the radius, as the method `excess` returns it.
        """
        if self._warned or not _is_concrete(excess) or not excess.shape[0]:
            return
        worst = float(ops.max(excess))
        if worst > WARN_ABOVE:
            self._warned = True
            warnings.warn(f"{self.label!r} got rows up to {worst:.3g} times as far from the centre as those that it "
                          "was calibrated on. Its outputs there are bounded, but do not follow the layer that it "
                          "replaces. Calibrate it on such rows, or bring them into the radius.",
                          stacklevel=4)  # fmt: skip

    @contextlib.contextmanager
    def quiet(self):
        """Suppress warnings about rows outside the radius in a `with` block."""
        before, self._warned = self._warned, True
        try:
            yield
        finally:
            self._warned = before

    def calibrate(self, rows):
        """Set the centre, the scale and the radius of bounded features so that they fit the distribution of some rows.

        The centre c becomes the mean of the rows. The scale a is chosen so that the 95 % quantile of a‖x - c‖ is the
        best norm for a fit (`spread` in `snnk.features`). The radius becomes the largest scaled distance of a row from
        c, but at most 1.5 times the 95 % quantile of these distances, so that outliers do not enlarge the radius.

        Args:
            rows: Rows (n, d) from the distribution of the layer's inputs.
        """
        rows = ops.convert_to_numpy(self._normalized(ops.convert_to_tensor(rows, "float32"))).astype(np.float64)
        centre = rows.mean(axis=0)
        spread = np.quantile(np.linalg.norm(rows - centre, axis=1), 0.95)
        factor = self.towers.spread / spread if spread > 0 else 1.0
        if self.towers.folds:
            projection = ops.convert_to_numpy(self.projection).astype(np.float64) * factor
            self.projection.assign(projection)
            self.origin.assign(-(centre @ projection))
        else:
            self.origin.assign(-centre)
            self.rescale.assign(factor)
        sizes = ops.convert_to_numpy(self._sizes(self._seen(ops.convert_to_tensor(rows, "float32"))))
        found = float(min(sizes.max(), 1.5 * np.quantile(sizes, 0.95)))
        self.radius = found if spread > 0 else 1.0
        self.bound.assign(self.radius)

    def _offset(self):
        return None if self.offset is None else ops.convert_to_tensor(self.offset)

    def of_weights(self, kernel, bias):
        """Return the features Ψ(W, b) of weights and biases, (count, u) in float32.

        Φ(x)·Ψ(W, b) estimates the outputs f(Wx + b) of u units, unless the features were calibrated.

        Args:
            kernel: Weights W, (d, u).
            bias: Biases b, (u,).
        """
        values = (kernel, bias, self.projection, self._offset())
        return self.towers.weights(*(value if value is None else ops.cast(value, "float32") for value in values))

    def fixed_variables(self):
        """Return the variables that training never changes: projections, offsets, centre, scale and radius."""
        every = (self.projection, self.offset, self.origin, self.rescale, self.bound)
        return [variable for variable in every if variable is not None]

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return (*input_shape[:-1], self.count)

    def options(self) -> dict[str, Any]:
        """Return the arguments of this class except `num_features`, as a dictionary that Keras can save.

        `SNNK` adds the dictionary to its own configuration.
        """
        names = ("expansion", "reach", "degree", "features", "shift", "scale", "orthogonal", "normalize", "seed",
                 "biased", "constant", "radius", "growth", "lengths")  # fmt: skip
        given = self.activation
        activation = given if isinstance(given, str) else keras.saving.serialize_keras_object(given)
        return {"activation": activation, **{name: getattr(self, name) for name in names}}

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        return {**super().get_config(), "num_features": self.num_features, **self.options()}


def _is_concrete(tensor) -> bool:
    """Return whether a tensor has values, which is false for symbolic tensors and during compilation."""
    # TensorFlow's eager tensors have `numpy`; JAX's arrays are of this class, and its tracers are not.
    return hasattr(tensor, "numpy") or type(tensor).__name__ == "ArrayImpl"
