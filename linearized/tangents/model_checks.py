"""Checks of a Keras model and of its input rows before derivatives are computed."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from linearized.base.array_checks import refuse_not_finite
from linearized.base.errors import UserError
from linearized.base.reading import one_line
from linearized.tangents.signals import BACKENDS, flat, gradients, in_float32
from linearized.tangents.variable_sets import variable_set

ROUNDING = 1e-5  # rounding error of a sum in float32, relative to the size of its terms
COUPLED = 1e-3  # largest relative change of a row's outputs by another row in the batch, for independent rows


def checked_inputs(x: Any) -> np.ndarray:
    """Return rows (n, ...) as a float32 array, or as int32 if they are integers.

    Args:
        x: Array of rows, or another object that NumPy converts to one, except a list, tuple or dictionary.

    Raises:
        UserError: For a list, tuple or dictionary, for an array that does not consist of rows (n, ...) of real numbers,
            and if an entry is not finite.
    """
    if isinstance(x, list | tuple | dict):
        raise UserError("Tangent kernels take one array of rows (n, ...). Give a model of one input.")
    x = np.asarray(x)
    if x.ndim < 2 or not len(x) or x.dtype.kind not in "biuf":
        raise UserError(f"Inputs must be rows (n, ...) of real numbers. Received: {x.dtype} of shape {x.shape}.")
    if x.dtype.kind == "f":
        refuse_not_finite(x, "Inputs")
    return np.ascontiguousarray(x, np.float32 if x.dtype.kind == "f" else np.int32)


def checked_outputs(model: keras.Model, probe: np.ndarray) -> int:
    """Check that the tangent kernel of a model can be computed, and return the number of outputs per row.

    Args:
        model: Keras model; it is called in inference mode.
        probe: Input rows (n, ...); only the first one is used.

    Raises:
        UserError: For a backend other than TensorFlow and JAX, several inputs or outputs, rows that the model does not
            accept, weights that are not in float32, weights or outputs that are not finite, random numbers in inference
            mode, and outputs that depend on other rows of the batch.
    """
    if keras.backend.backend() not in BACKENDS:
        raise UserError(f"Tangent kernels need Keras on {' or '.join(BACKENDS)}. Received: {keras.backend.backend()}.")
    if len(getattr(model, "inputs", None) or ()) > 1:
        raise UserError(f"The model {model.name} has {len(model.inputs)} inputs. Give a model of one of them, with the "
                        "others as constants.")  # fmt: skip
    row = probe[:1]
    with in_float32(model):
        try:
            first, again, beside = (model(rows, training=False) for rows in (row, row, _with_another(row)))
        except Exception as error:  # a layer may raise any exception
            raise UserError(f"The model {model.name} cannot take rows of shape {row.shape[1:]}: "
                            f"{one_line(error)}.") from error  # fmt: skip
    if isinstance(first, list | tuple | dict):
        raise UserError(f"The model {model.name} has {len(first)} outputs. Give a model of one of them: "
                        "keras.Model(model.inputs, model.outputs[0]).")  # fmt: skip
    first, again, beside = (keras.ops.convert_to_numpy(one) for one in (first, again, beside))
    if not np.array_equal(first, again, equal_nan=True):
        raise UserError(f"The model {model.name} draws random numbers in inference mode{_drawing(model)}: two calls on "
                        "the same row differ.")  # fmt: skip
    for variable in model.variables:
        if "float" in variable.dtype and variable.dtype != "float32":
            raise UserError(f"The weights {variable.path} of the model {model.name} are stored in {variable.dtype}. "
                            "Tangents need weights in float32, as under the mixed policies.")  # fmt: skip
        if not np.isfinite(keras.ops.convert_to_numpy(variable.value).astype(np.float64)).all():
            raise UserError(f"The weights {variable.path} of the model {model.name} are not finite.")
    if not np.isfinite(first).all():
        raise UserError(f"The outputs of the model {model.name} are not finite on the first row.")
    if first.ndim < 2 or len(beside) != 2:
        raise UserError(f"The model {model.name} must return a row of outputs per input row. Received: {first.shape}.")
    change = float(np.abs(beside[0] - first[0]).max())
    if change > COUPLED * max(float(np.abs(first).max()), 1e-6) and change > ROUNDING * _size_of_terms(model, row):
        raise UserError(f"The outputs of the model {model.name} for one row change with the rows beside it: "
                        "there is no kernel of two rows.")  # fmt: skip
    return int(np.prod(first.shape[1:]))


def _size_of_terms(model: keras.Model, row: np.ndarray) -> float:
    """Return `Σ|w ∂f/∂w|` over all trainable weights w, where f is the sum of the outputs for one row.

    This is an estimate of the size of the terms whose sum is f. If it is large compared with f, the terms cancel, and
    the relative rounding error of f is large.

    Args:
        model: Keras model.
        row: Input row (1, ...).
    """
    variables = model.trainable_variables
    if not variables:
        return 0.0
    found = gradients(model, row, variables, np.ones((1, flat(model(row, training=False)).shape[1]), np.float32))
    values = [keras.ops.convert_to_numpy(variable.value).astype(np.float64) for variable in variables]
    return sum(float(np.abs(slope[0] * value).sum()) for slope, value in zip(found, values, strict=True)
               if slope is not None)  # fmt: skip


def chosen_variables(model: keras.Model, chosen: Callable[[Any], bool] | str | None) -> list[Any]:
    """Return the trainable variables of a model that the argument `chosen` selects.

    Args:
        model: Keras model.
        chosen: Function of a variable that returns whether it is included; or "last_layer", or names such as
            "block5,head/kernel" (see `variable_sets.variable_set`); None: all are included.

    Raises:
        UserError: If no variable is selected, or for an invalid text.
    """
    if isinstance(chosen, str):
        chosen = variable_set(model, chosen)
    found = [one for one in model.trainable_variables if chosen is None or chosen(one)]
    if not found:
        which = "no trainable variable" if chosen is None else "no trainable variable that was chosen"
        raise UserError(f"The model {model.name} has {which}.")
    return found


def _with_another(row: np.ndarray) -> np.ndarray:
    return np.concatenate([row, np.zeros_like(row)])


def _drawing(model: keras.Model) -> str:
    """Return " (NAMES)" with the names of the layers that probably draw random numbers, or "" if none is found.

    These are layers with a seed generator, except Keras' dropout and noise layers, which are off in inference mode.
    """
    usual = (keras.layers.Dropout, keras.layers.GaussianNoise, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
    names = [layer.name for layer in model._flatten_layers(include_self=False)
             if not isinstance(layer, usual) and any(isinstance(one, keras.random.SeedGenerator)
                                                     for one in vars(layer).values())]  # fmt: skip
    return f" ({', '.join(names[:5])})" if names else ""
