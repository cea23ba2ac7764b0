"""Uptraining: a trained Transformer goes on with SNNKs in the place of its last MLP blocks, or of its tanh pooler.

"Scalable Neural Network Kernels" (ICLR 2024), section on uptraining. Works on any Keras model whose MLP is a Dense with
an activation followed by a linear Dense: the small ones of `linearized.models.transformers`, keras_hub's, your own.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from linearized.layers.snnk.bundle import bundle, links
from linearized.layers.snnk.layer import SNNK, activation_of
from linearized.layers.snnk.rows import MADE_UP, ROWS, LayerInputs, made_up_inputs, rows_into
from linearized.layers.snnk.universal import UniversalFeatures
from linearized.layers.surgery.swap import swap
from linearized.layers.surgery.swapped import is_graph, parts, walk

Dense = keras.layers.Dense


class MLP(NamedTuple):
    """One MLP block: `expand` has the activation, `contract` is linear and takes its output."""

    expand: keras.layers.Layer
    contract: Dense


def mlp_blocks(model: keras.Model) -> list[MLP]:
    """The MLP blocks of `model`, in order.

    The second layer gives back the width that the first takes. In functional and sequential parts the graph tells which
    follows which; in other layers two dense attributes one after the other are taken for a block.
    """
    found = [*_graph_blocks(model), *_attribute_blocks(model)]
    place = {id(layer): index for index, layer in enumerate(walk(model))}
    return sorted(found, key=lambda block: place[id(block.expand)])


def _is_expand(layer) -> bool:
    if isinstance(layer, SNNK):
        return True
    return type(layer) is Dense and layer.activation is not keras.activations.linear


def _is_contract(layer, expand) -> bool:
    linear = type(layer) is Dense and layer.activation is keras.activations.linear
    return linear and layer.kernel.shape[0] == expand.units and layer.units == _width(expand)


def _graph_blocks(model: keras.Model) -> Iterator[MLP]:
    after = {id(first): second for first, second in links(model)}
    for layer in walk(model):
        if _is_expand(layer):
            second = after.get(id(layer))
            while isinstance(second, keras.layers.Dropout):
                second = after.get(id(second))
            if second is not None and _is_contract(second, layer):
                yield MLP(layer, second)


def _attribute_blocks(model: keras.Model) -> Iterator[MLP]:
    for owner in walk(model):
        if is_graph(owner):
            continue
        dense = [part for part in parts(owner).values() if _is_expand(part) or type(part) is Dense]
        for first, second in itertools.pairwise(dense):
            if _is_expand(first) and _is_contract(second, first):
                yield MLP(first, second)


def _width(layer) -> int:
    return layer.features.projection.shape[0] if isinstance(layer, SNNK) else layer.kernel.shape[0]


def uptrain(
    model: keras.Model, last: int, num_features: int, *, activation: Any = "relu", fit: bool = True, seed: int = 0,
    inputs: Any = None, **options,
) -> keras.Model:  # fmt: skip
    """Return a copy of `model` in which the last `last` MLP blocks begin with an SNNK instead of a dense layer.

    Each block gets a layer of its own, with weights computed from the block's and projections of its own seed. The
    relative error of each SNNK on held-out rows is logged, kept as its `error`, and warned of above 0.2.

    Args:
        activation: Whose features; the ReLU's serve any activation as far as Ψ is fitted, as published for BERT's GELU.
            None: the block's own.
        fit: Fit Ψ to the block, and bound its features, on 8 m rows that the block gets when the model runs on
            `inputs`; else Ψ(W, b), whose variance at the norms inside a Transformer is large.
        inputs: Typical inputs of the model: an array, or what else it takes. None: made up, see `made_up_inputs`. The
            SNNK follows its block on inputs like these, so give real ones where there are any.
        options: Of `SNNK.from_dense`.

    Raises ValueError if there are fewer blocks.
    """
    blocks = [block for block in mlp_blocks(model) if not isinstance(block.expand, SNNK)]
    if not 1 <= last <= len(blocks):
        raise ValueError(f"`last` must be 1..{len(blocks)}, the model's MLP blocks. Received: last={last}.")
    chosen = [block.expand for block in blocks[-last:]]
    seeds = [[seed, place] for place in range(last)]
    return _stood_in(model, chosen, seeds, num_features, activation, fit, seed, inputs, options)


def _stood_in(model, layers, seeds, num_features, activation, fit, seed, inputs, options) -> keras.Model:
    """Return a copy of `model` with SNNKs in the place of `layers`, fitted to what these get if asked for."""
    count = ROWS * num_features
    made_up = inputs is None
    rows: list[LayerInputs | None] = [None] * len(layers)
    if fit:
        inputs = made_up_inputs(model, min(MADE_UP, count), seed) if made_up else inputs
        if inputs is None:
            raise ValueError(f"{model.name!r} does not state its inputs, so none can be made up. Give `inputs`, or "
                             "fit=False. Received: inputs=None.")  # fmt: skip
        rows = rows_into(model, layers, inputs, count, seed)
    elif not made_up:
        raise ValueError("`inputs` are what Ψ is fitted on. Received: inputs and fit=False.")
    places = {id(layer): place for place, layer in enumerate(layers)}
    words = "held-out rows of made-up inputs" if made_up else "held-out rows of the inputs"
    given = [
        {} if part is None else {"inputs": part.fitted, "held_out": part.held_out, "rows_are": words} for part in rows
    ]

    def factory(layer):
        place = places[id(layer)]
        kind = activation_of(layer) if activation is None else activation
        own = {"activation": kind, "seed": seeds[place], **given[place], **options}
        return SNNK.from_dense(layer, num_features, **own)

    return swap(model, {Dense: factory}, where=lambda layer: id(layer) in places)


def errors_of(model: keras.Model) -> dict[str, float]:
    """Return the relative error on held-out rows of each SNNK in `model` that replaced a layer, by the layer's name.

    They are those of the replacement: neither training nor a saved file changes or keeps them.
    """
    return {
        layer.name: layer.error
        for layer in walk(model)
        if isinstance(layer, (SNNK, UniversalFeatures)) and layer.error is not None
    }


def bundle_blocks(model: keras.Model) -> keras.Model:
    """Return `bundle(model)`, which also folds the blocks inside layers whose graph it does not see."""
    return bundle(model, [tuple(block) for block in _attribute_blocks(model) if isinstance(block.expand, SNNK)])


def replace_pooler(
    model: keras.Model, num_features: int, *, activation: Any = "relu", fit: bool = True, seed: int = 0,
    bundled: bool = False, inputs: Any = None, **options,
) -> keras.Model:  # fmt: skip
    """Return a copy of `model` whose tanh pooler is an SNNK; bundled with the linear classifier after it, if asked for.

    The pooler is the last Dense with a tanh. Arguments and the report of the error as for `uptrain`. Raises ValueError
    if there is none.
    """
    poolers = [layer for layer in walk(model) if type(layer) is Dense and layer.activation is keras.activations.tanh]
    if not poolers:
        kinds = sorted({type(layer).__name__ for layer in walk(model)})
        raise ValueError(f"There is no Dense with a tanh. Received: a model of {', '.join(kinds)}.")
    new = _stood_in(model, poolers[-1:], [seed], num_features, activation, fit, seed, inputs, options)
    return bundle(new) if bundled else new
