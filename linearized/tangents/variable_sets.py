"""Sets of a model's trainable variables by name: all, those of the last layer, all but embeddings, or by words."""

from collections.abc import Callable
from typing import Any

import keras

from linearized.base.errors import UserError

ALL, LAST, NO_EMBEDDINGS = "all", "last", "no_embeddings"


def variable_set(model: keras.Model, text: str) -> Callable[[Any], bool] | None:
    """Return the function that holds for the variables of a set; None for all of them.

    Args:
        text: "all"; "last", the variables of the last layer that has trainable ones, in the order of
            `model.trainable_variables`; "no_embeddings", all but those named embeddings; or words such as
            "block5,head": variables whose path has one of them in it.

    Raises `UserError` for a word that no path has, and for "no_embeddings" where there are no embeddings.
    """
    variables = model.trainable_variables
    if text == ALL or not variables:
        return None
    if text == LAST:
        last = next(layer for layer in model._flatten_layers() if any(one is variables[-1] for one in _own(layer)))
        chosen = {id(one) for one in _own(last)}
        return lambda variable: id(variable) in chosen
    if text == NO_EMBEDDINGS:
        if not any(map(_is_embedding, variables)):
            raise UserError(f"The model {model.name} has no trainable embeddings to leave out. Take all variables.")
        return lambda variable: not _is_embedding(variable)
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not word or not any(word in variable.path for variable in variables):
            paths = ", ".join(variable.path for variable in variables)
            raise UserError(f"The model {model.name} has no trainable variable with {word!r} in its path. Take {ALL}, "
                            f"{LAST}, {NO_EMBEDDINGS}, or words of these paths: {paths[:400]}.")  # fmt: skip
    return lambda variable: any(word in variable.path for word in words)


def _own(layer: Any) -> list[Any]:
    """Return the trainable variables of a layer itself, not of layers inside it."""
    return [variable for variable in layer._trainable_variables if variable.trainable]


def _is_embedding(variable: Any) -> bool:
    return "embedding" in variable.name
