"""Linearization of a Keras model f(x; θ) in its weights: f(x; θ₀) + J(x) v (Chizat, Oyallon and Bach, NeurIPS 2019).

θ₀ are the present weights, J(x) = ∂f(x; θ₀)/∂θ is the Jacobian, and v = θ - θ₀ is trained.

    linear = linearize(model)          # a Keras model, at v = 0
    linear.fit(x, y)                   # trains v; `linearized.fit_linearization` solves for v

The layers of f are in inference mode and compute in float32. A call costs a forward and two backward passes of f on
TensorFlow, and two forward passes on JAX.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging
from keras import ops
from keras.saving import deserialize_keras_object, serialize_keras_object

from linearized.base.errors import UserError
from linearized.base.keywords import suggests_keywords
from linearized.base.reading import one_line
from linearized.layers.shapes import check_shape
from linearized.tangents.model_checks import checked_inputs, checked_outputs, chosen_variables
from linearized.tangents.products import first_order

ROWS = 2  # number of rows that are drawn to check a model


@keras.saving.register_keras_serializable("linearized")
class Linearization(keras.layers.Layer):
    """Layer that returns the linearization f(x; θ₀) + J(x) v of an inner model f, and trains only v.

    θ₀ are the weights of the inner model, and J(x) = ∂f(x; θ₀)/∂θ is its Jacobian with respect to the chosen variables.
    v consists of one array for each chosen variable, in the shape of the variable, and starts at 0. The layer computes
    in float32, whatever `dtype` is given.

    Args:
        inner: Keras model f. No other model may use it: its weights are frozen, and its layers are set to float32.
        places: Indices in `inner.variables` of the chosen variables; None: all trainable ones.
        offset: Whether f(x; θ₀) is added; otherwise the layer returns J(x) v.
        direction_regularizer: Regularizer of each array of v.

    Input shape: the input shape of `inner`.
    Output shape: the output shape of `inner`.
    """

    def __init__(self, inner, places=None, offset=True, direction_regularizer=None, **kwargs):
        super().__init__(autocast=False, **{**kwargs, "dtype": "float32"})
        self.inner = deserialize_keras_object(inner) if isinstance(inner, dict) else inner
        if not isinstance(self.inner, keras.Model):
            raise ValueError(f"`inner` must be a Keras model. Received: inner={inner!r}.")
        self.places = None if places is None else [int(place) for place in places]
        if self.places is not None and (not self.places or len(set(self.places)) < len(self.places)):
            raise ValueError(f"`places` must be distinct indices, at least one. Received: places={places}.")
        self.offset = bool(offset)
        self.direction_regularizer = keras.regularizers.get(direction_regularizer)
        self._built_for: tuple[int | None, ...] | None = None
        self.inner.trainable = self.places is None  # otherwise its configuration would differ before and after `build`
        for layer in self.inner._flatten_layers():
            if layer.compute_dtype != "float32":
                layer.dtype_policy = "float32"

    def build(self, input_shape):
        """Create the trained weights v, one array per variable of `moved_variables`, and freeze the inner model.

        The arrays have the shapes of the variables and start at 0.
        """
        if not self.inner.built:
            self.inner.build(input_shape)
        if self.places is None:
            trainable = {id(variable) for variable in self.inner.trainable_variables}
            self.places = [place for place, one in enumerate(self.inner.variables) if id(one) in trainable]
        if not self.places or max(self.places) >= len(self.inner.variables) or min(self.places) < 0:
            raise ValueError(f"`places` must be indices of the {len(self.inner.variables)} variables of "
                             f"{self.inner.name!r}. Received: places={self.places}.")  # fmt: skip
        self.inner.trainable = False
        self._built_for = tuple(input_shape)
        self.directions = [
            self.add_weight(
                name=f"direction_{number}", shape=variable.shape, initializer="zeros", dtype="float32",
                regularizer=self.direction_regularizer,
            )
            for number, variable in enumerate(self.moved_variables())
        ]  # fmt: skip

    def moved_variables(self):
        """Return the variables of the inner model with respect to which its Jacobian is taken.

        The trained weights v consist of one array for each of these variables, in this order.
        """
        variables = self.inner.variables
        return [variables[place] for place in self.places]

    def call(self, x):
        """Return the linearised outputs f(x; θ₀) + J(x) v for rows x, or J(x) v if the layer has offset=False.

        f is the inner model with the weights θ₀, J is its Jacobian, and v are the trained weights of this layer.
        """
        check_shape(self, x.shape, (None, *self._built_for[1:]))
        outputs, change = first_order(self.inner, self.moved_variables(), self.directions, x)
        return ops.cast(outputs + change if self.offset else change, "float32")

    def fixed_variables(self):
        """Return the variables that training never changes: all those of the inner model."""
        return self.inner.variables

    def compute_output_shape(self, input_shape):
        """Return the output shape for an input shape."""
        return self.inner.compute_output_spec(keras.KerasTensor(input_shape, _input_dtype(self.inner))).shape

    def get_config(self):
        """Return the configuration from which `from_config` creates an equal layer, without the values of weights."""
        regularizer = keras.regularizers.serialize(self.direction_regularizer)
        own = {"inner": serialize_keras_object(self.inner), "places": self.places, "offset": self.offset}
        return {**super().get_config(), **own, "direction_regularizer": regularizer}


@suggests_keywords
def linearize(
    model: keras.Model, *, offset: bool = True, variables: Callable[[Any], bool] | str | None = None, x: Any = None
) -> keras.Model:  # fmt: skip
    """Return the linearization f(x; θ₀) + J(x) v of a Keras model f at its present weights θ₀, as a Keras model.

    J(x) = ∂f(x; θ₀)/∂θ is the Jacobian of the outputs with respect to the chosen weights θ. v has one number for each
    of these weights; it starts at 0, and only v is trained. Keras' `fit` trains v by gradient descent, and
    `linearized.fit_linearization` solves for v over a grid of ridges. The new model can be saved, loaded
    (after `import linearized.layers`) and used for predictions like any Keras model. It contains a copy of `model`, so
    later changes of `model` do not affect it.

    Args:
        model: Keras model with one input and one output, of any layers.
        offset: Whether f(x; θ₀) is added; otherwise the outputs are J(x) v.
        variables: Trainable variables that are chosen: "last_layer" for those of the last layer; parts of their paths
            such as "block5,head/kernel" or "-embeddings" (see `linearized.tangents.variable_names`); or a function that
            returns whether a variable is chosen. None: all trainable variables.
        x: Some rows (n, ...) of inputs, with which the model is checked. None: two rows in the shape of the model's
            input, of N(0, 1) numbers, or of zeros for integer inputs.

    Raises:
        UserError: If the model has several inputs or outputs, does not state the shape of its rows (and `x` is None),
            does not accept the rows, draws random numbers in inference mode, has weights or outputs that are not
            finite, returns outputs that depend on other rows of the batch, or cannot be saved and loaded by Keras; and
            if no trainable variable is chosen.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import linearized
        >>> layers = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]
        >>> model = keras.Sequential([keras.Input((3,)), *layers])
        >>> x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
        >>> linear = linearized.linearize(model)
        >>> np.allclose(linear(x), model(x), atol=1e-6)  # equal until the new model's weights move
        True
    """
    rows = _probe(model) if x is None else checked_inputs(x)
    checked_outputs(model, rows)
    return linearization_of(copied(model), chosen_places(model, variables), rows, offset=offset)


def chosen_places(model: keras.Model, variables: Callable[[Any], bool] | str | None) -> list[int]:
    """Return the indices in `model.variables` of the trainable variables that are chosen for a linearization.

    Args:
        model: Keras model.
        variables: Choice as for `linearize`: "last_layer", parts of paths such as "block5,head/kernel", or a function
            that returns whether a variable is chosen; None: all trainable variables.

    Raises:
        UserError: If no trainable variable is chosen, or for a name that matches none.
    """
    chosen = {id(one) for one in chosen_variables(model, variables)}
    return [place for place, one in enumerate(model.variables) if id(one) in chosen]


def linearization_of(
    inner: keras.Model, places: list[int], rows: np.ndarray, *, offset: bool = True,
    direction_regularizer: keras.regularizers.Regularizer | None = None,
) -> keras.Model:  # fmt: skip
    """Return the linearization f(x; θ₀) + J(x) v of a model f as a Keras model of one `Linearization` layer.

    In contrast to `linearize`, this function neither checks nor copies the model.

    Args:
        inner: Model f that is linearised. No other model may use it: its weights are frozen.
        places: Indices in `inner.variables` of the variables that the Jacobian J is taken with respect to.
        rows: Rows (n, ...), which determine the shape and the data type of the new model's input.
        offset: Whether f(x; θ₀) is added; otherwise the outputs are J(x) v.
        direction_regularizer: Regularizer of each array of v, one per variable.
    """
    if any(layer.compute_dtype != "float32" for layer in inner._flatten_layers()):
        logging.info("%s: its policy is not float32; the linearization computes in float32.", inner.name)
    inputs = keras.Input(rows.shape[1:], dtype=rows.dtype.name, name="x")
    layer = Linearization(inner, places, offset, direction_regularizer=direction_regularizer, name="linearization")
    return keras.Model(inputs, layer(inputs), name=f"{inner.name}_linearized")


def set_direction(model: keras.Model, v: np.ndarray) -> None:
    """Set the trained parameters v of a linearised model f(x; θ₀) + J(x) v.

    Args:
        model: Model that `linearize` returned.
        v: One number for each weight of the variables in `Linearization.moved_variables`, in an array of any shape.
            Flattened in row-major order, it contains one variable after the other, each in row-major order.

    Raises:
        ValueError: For another number of entries.
    """
    directions = model.get_layer("linearization").directions
    sizes = [int(np.prod(variable.shape)) for variable in directions]
    if v.size != sum(sizes):
        raise ValueError(f"Expected {sum(sizes)} parameters. Received: shape {v.shape}.")
    for variable, part in zip(directions, np.split(v.ravel(), np.cumsum(sizes)[:-1]), strict=True):
        variable.assign(part.reshape(variable.shape))


def get_direction(model: keras.Model) -> np.ndarray:
    """Return the p trained parameters v of a linearised model f(x; θ₀) + J(x) v as one column (p, 1).

    v has one array for each variable in `Linearization.moved_variables`. The column contains these arrays one after the
    other in that order, each flattened in row-major order. `set_direction` accepts the column.

    Args:
        model: Model that `linearize` returned.
    """
    directions = model.get_layer("linearization").directions
    return np.concatenate([ops.convert_to_numpy(variable).ravel() for variable in directions])[:, None]


def copied(model: keras.Model) -> keras.Model:
    """Return an uncompiled copy of a model that shares nothing with it, made by saving and loading the model.

    Raises:
        UserError: If Keras cannot save or load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
            return keras.saving.load_model(path, compile=False)
        except Exception as error:  # a user's class may raise any exception
            raise UserError(
                f"The model {model.name} cannot be saved and loaded by Keras ({one_line(error)}). Classes of your own "
                "need get_config and keras.saving.register_keras_serializable."
            ) from error


def _input_dtype(model: keras.Model) -> str:
    inputs = getattr(model, "inputs", None)
    return "float32" if not inputs else keras.backend.standardize_dtype(inputs[0].dtype)


def _probe(model: keras.Model) -> np.ndarray:
    """Return two rows for the check of a model: N(0, 1) numbers in the shape of its input, or zeros for integer inputs.

    Raises:
        UserError: If the model has several inputs, or does not state the shape of its input.
    """
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, list) or (isinstance(shape, tuple) and shape and isinstance(shape[0], tuple)):
        raise UserError(f"The model {model.name} has {len(shape)} inputs. Give a model of one of them, with the "
                        "others as constants.")  # fmt: skip
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise UserError(f"The model {model.name} does not state the shape of its rows. Give some rows: "
                        "linearize(model, x=rows).")  # fmt: skip
    if "int" in _input_dtype(model):
        return np.zeros((ROWS, *shape[1:]), np.int32)
    return np.random.default_rng(0).standard_normal((ROWS, *shape[1:])).astype(np.float32)
