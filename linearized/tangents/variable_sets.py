"""Choice of trainable variables of a Keras model by a text: all, the last layer, or variables with given paths."""

from collections.abc import Callable
from typing import Any

import keras

from linearized.tangents.variable_names import chosen_by_name

LAST = "last_layer"


def variable_set(model: keras.Model, text: str) -> Callable[[Any], bool] | None:
    """Return a function of a variable that returns whether it is in a set; None for the set of all variables.

    Args:
        model: Keras model.
        text: "": all trainable variables. "last_layer": the variables of the last layer that has any, in the order of
            `model.trainable_variables`. Otherwise names that are parts of the paths of variables, see `variable_names`.

    Raises:
        UserError: For an empty name, a name that matches no variable, and if no variable is left.
    """
    variables = model.trainable_variables
    if not text or not variables:
        return None
    if text == LAST:
        last = next(layer for layer in model._flatten_layers() if any(one is variables[-1] for one in _own(layer)))
        chosen = {id(one) for one in _own(last)}
        return lambda variable: id(variable) in chosen
    return chosen_by_name(text, [variable.path for variable in variables])


def _own(layer: Any) -> list[Any]:
    """Return the trainable variables of a layer itself, not of layers inside it."""
    return [variable for variable in layer._trainable_variables if variable.trainable]
