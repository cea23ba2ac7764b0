"""Functions that record the inputs of layers inside a model, for the fit of SNNKs that replace the layers.

`rows_into` runs the model and records the inputs. `made_up_inputs` returns random inputs of the model, for users who
give none.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from linearized.layers.surgery.swapped import walk

Layer = keras.layers.Layer
ROWS = 8  # number of rows per feature
BATCH = 64  # rows of a batch
MADE_UP = 512  # largest number of random inputs of the model; if they give too few rows, `rows_into` makes up the rest
UNKNOWN = 8  # length of an input axis whose length the model does not state


class LayerInputs(NamedTuple):
    """Recorded inputs of a layer inside a model, two arrays (n, d) in float32.

    Attributes:
        fitted: Rows for the fit.
        held_out: Other rows, on which the error is measured.
    """

    fitted: np.ndarray
    held_out: np.ndarray


def rows_into(model: keras.Model, layers: Sequence[Layer], inputs: Any, count: int, seed: int) -> list[LayerInputs]:
    """Return the inputs of layers inside a model, recorded while the model runs at inference.

    The model runs in batches, until 4 · count rows are recorded for each layer or the inputs are used up. Of the rows
    of a layer, a fifth is held out, at most `count`. `count` of the other rows are drawn for the fit. If there are
    fewer, all are used, and each missing row is computed from three random rows: one row plus half the difference of
    the two others. This widens the distribution of the rows by a fifth and keeps the directions of their variance.

    Args:
        model: Keras model that calls the layers.
        layers: Layers inside the model whose inputs are recorded.
        inputs: Inputs of the model: an array, or a list or dictionary of arrays; the first axis is the batch.
        count: Number of rows for the fit of each layer.
        seed: Random-number seed of the choice of rows.

    Returns:
        The inputs of each layer, in the order of `layers`.

    Raises:
        ValueError: If the model does not call one of the layers.
    """
    found: dict[int, list[np.ndarray]] = {id(layer): [] for layer in layers}
    random = np.random.default_rng([seed, 1])
    total = len(keras.tree.flatten(inputs)[0])
    order = random.permutation(total)
    for layer in layers:
        vars(layer)["call"] = _recorded(layer, found[id(layer)])
    try:
        for start in range(0, total, BATCH):
            if all(sum(map(len, parts)) >= 4 * count for parts in found.values()):
                break
            rows = order[start : start + BATCH]
            model(keras.tree.map_structure(lambda array, rows=rows: np.asarray(array)[rows], inputs), training=False)
    finally:
        for layer in layers:
            del vars(layer)["call"]
    missing = [layer.name for layer in layers if not found[id(layer)]]
    if missing:
        raise ValueError(f"{model.name!r} does not call {', '.join(missing)}. Received: inputs for {total} rows.")
    return [_exactly(np.concatenate(found[id(layer)]), count, random) for layer in layers]


def _recorded(layer: Layer, rows: list[np.ndarray]):
    """Return a replacement for `layer.call` that also records the inputs.

    Args:
        layer: Keras layer.
        rows: List to which each call appends its inputs, as an array (n, d).
    """
    call = layer.call

    @functools.wraps(call)
    def recorded(x, *args, **kwargs):
        rows.append(ops.convert_to_numpy(ops.cast(x, "float32")).reshape(-1, x.shape[-1]))
        return call(x, *args, **kwargs)

    return recorded


def _exactly(rows: np.ndarray, count: int, random: np.random.Generator) -> LayerInputs:
    rows = rows[random.permutation(len(rows))]
    others, rows = np.split(rows, [min(max(len(rows) // 5, 1), count)]) if len(rows) > 1 else (rows, rows)
    if len(rows) >= count:
        return LayerInputs(rows[:count], others)
    one, two, three = random.integers(0, len(rows), (3, count - len(rows)))
    return LayerInputs(np.concatenate([rows, rows[one] + 0.5 * (rows[two] - rows[three])]), others)


def made_up_inputs(model: keras.Model, count: int, seed: int) -> Any:
    """Return random inputs for a model, in the structure of its inputs, or None if the model does not state its inputs.

    Floating-point inputs are N(0, 1). Integer inputs are tokens, uniform below the size of the largest embedding, or 0
    if the input's name contains "segment" or "type". Masks are 1. Axes of unknown length have 8 entries.

    Args:
        model: Keras model.
        count: Number of inputs, the length of the batch axis.
        seed: Random-number seed.
    """
    spec = getattr(model, "input", None) if hasattr(model, "inputs") else None
    if spec is None:
        return None
    random = np.random.default_rng([seed, 2])
    sizes = [layer.input_dim for layer in walk(model) if isinstance(layer, keras.layers.Embedding)]

    def made(tensor):
        shape = (count, *(length or UNKNOWN for length in tensor.shape[1:]))
        dtype, name = keras.backend.standardize_dtype(tensor.dtype), tensor.name.lower()
        if "mask" in name or dtype == "bool":
            return np.ones(shape, dtype)
        if "int" not in dtype:
            return random.standard_normal(shape).astype("float32")
        plain = "segment" in name or "type" in name
        return np.zeros(shape, dtype) if plain else random.integers(0, max([*sizes, 2]), shape).astype(dtype)

    return keras.tree.map_structure(made, spec)
