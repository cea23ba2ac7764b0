"""Functions that determine whether a user's Keras model requires flat rows or images as inputs."""

import math
from typing import Any

import numpy as np

from linearized.base.errors import UserError


def stated_shape(model: Any) -> Any:
    """Return the shape of a Keras model's input, in which the first size, the number of rows, is None.

    For a subclassed model, this is the shape with which the model was built. For a model that was not built the result
    is None, and for a model with several inputs it is a list of shapes.
    """
    shape = getattr(model, "input_shape", None)
    if shape is None:
        shape = (model.get_build_config() or {}).get("input_shape")
        return tuple(shape) if is_one_shape(shape) else shape
    return shape


def is_one_shape(shape: Any) -> bool:
    """Return whether `shape` is the shape of one array: a list or tuple whose entries are whole numbers or None."""
    return isinstance(shape, list | tuple) and all(size is None or isinstance(size, int) for size in shape)


def row_shape(
    path: str, shape: Any, dim: int, image_shape: tuple[int, ...] | None, where: str
) -> tuple[int, ...]:  # fmt: skip
    """Return the shape that a model requires for a row of `dim` numbers: (dim,), or the shape of an image.

    Args:
        path: Path of the model, used in error messages.
        shape: Input shape of the model as `stated_shape` returns it; None: unknown, flat rows are used.
        dim: Length of a row.
        image_shape: (height, width, channels) if the rows are images. For images of one channel, the input of the model
            may lack the last axis.
        where: Name of the data, used in error messages.

    Raises:
        UserError: For several inputs, and if the rows do not fit.
    """
    if shape is None:
        return (dim,)
    if not isinstance(shape, tuple):
        raise UserError(f"{path} has {len(shape)} inputs. Give a model of one input, which takes the rows.")
    forms = [(dim,)] if image_shape is None else [(dim,), image_shape]
    if image_shape is not None and image_shape[2] == 1:
        forms.append(image_shape[:2])
    for form in forms:
        if len(shape) == 1 + len(form) and all(a in (None, b) for a, b in zip(shape[1:], form, strict=True)):
            return form
    have = f"rows of {dim} numbers" + ("" if image_shape is None else f", images of {image_shape}")
    raise UserError(f"{path} takes inputs of shape {shape[1:]}, and {where} has {have}. Give data of that shape, or a "
                    "model for these.")  # fmt: skip


def first_weights(model: Any, dim: int, name: str = "The model") -> np.ndarray:
    """Return the weights W (dim, units) of the first layer of a Keras model, in float64.

    For a convolution, each column of W is a flattened filter, which is applied to patches of length `dim`.

    Args:
        model: Keras model.
        dim: Length of a row, or of a patch.
        name: Name of the model, used in error messages.

    Raises:
        UserError: If the first weights of the model do not have `dim` inputs, for example the weights of a
            convolution if `dim` is the length of whole images.
    """
    shapes = [tuple(weight.shape) for weight in model.weights]
    place = next((place for place, shape in enumerate(shapes) if len(shape) > 1), None)
    if place is None or len(shapes[place]) not in (2, 4) or math.prod(shapes[place][:-1]) != dim:
        first = "none" if place is None else shapes[place]
        raise UserError(f"{name} has no first layer of {dim} inputs. Received: first weights of shape {first}.")
    return np.asarray(model.weights[place], np.float64).reshape(dim, -1)
