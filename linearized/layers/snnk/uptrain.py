"""Uptraining: a trained Transformer goes on with SNNKs in the place of its last MLP blocks, or of its tanh pooler.

"Scalable Neural Network Kernels" (ICLR 2024), section on uptraining. Works on any Keras model whose MLP is a Dense with
an activation followed by a linear Dense: the small ones of `linearized.models.transformers`, keras_hub's, your own.
"""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from linearized.layers.snnk.bundle import bundle, links
from linearized.layers.snnk.fit import WARN_ABOVE
from linearized.layers.snnk.layer import SNNK, activation_of
from linearized.layers.snnk.rows import MADE_UP, ROWS, made_up_inputs, rows_into
from linearized.layers.snnk.universal import UniversalFeatures
from linearized.layers.surgery.swap import swap
from linearized.layers.surgery.swapped import is_graph, parts, walk

Dense = keras.layers.Dense
FEWEST, MOST = 64, 1024  # features of an SNNK whose number is found
UNFITTED = 256  # features where Ψ is not fitted, so that no error says how many are needed


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
    model: keras.Model, last: int, num_features: int | None = None, *, activation: Any = "relu", fit: bool = True,
    seed: int = 0, inputs: Any = None, bundled: bool = False, **options,
) -> keras.Model:  # fmt: skip
    """Return a copy of `model` in which the last `last` MLP blocks begin with an SNNK instead of a dense layer.

    Each block gets a layer of its own, with weights computed from the block's and projections of its own seed. The
    relative error of each SNNK on held-out rows is logged, kept as its `error`, and warned of above 0.2.

    Args:
        num_features: m of each SNNK. None: for each layer by itself the first of 64, 128, ..., 1,024 with which that
            error is at most 0.2, or 1,024 if none is (at most twice the cost of the last fit); 256 with fit=False.
        activation: Whose features; the ReLU's serve any activation as far as Ψ is fitted, as published for BERT's GELU.
            None: the block's own.
        fit: Fit Ψ to the block, and bound its features, on 8 m rows that the block gets when the model runs on
            `inputs`; else Ψ(W, b), whose variance at the norms inside a Transformer is large.
        inputs: Typical inputs of the model: an array, or what else it takes. None: made up, see `made_up_inputs`. The
            SNNK follows its block on inputs like these, so give real ones where there are any.
        bundled: Multiply each SNNK with the linear layer after it, which saves parameters and products.
        options: Of `SNNK.from_dense`.

    Raises ValueError if there are fewer blocks.
    """
    blocks = [block for block in mlp_blocks(model) if not isinstance(block.expand, SNNK)]
    if not 1 <= last <= len(blocks):
        raise ValueError(f"`last` must be 1..{len(blocks)}, the model's MLP blocks. Received: last={last}.")
    chosen = [block.expand for block in blocks[-last:]]
    seeds = [[seed, place] for place in range(last)]
    new = _stood_in(model, chosen, seeds, num_features, activation, fit, seed, inputs, options)
    return _bundled(new) if bundled else new


def _stood_in(model, layers, seeds, num_features, activation, fit, seed, inputs, options) -> keras.Model:
    """Return a copy of `model` with SNNKs in the place of `layers`, fitted to what these get if asked for."""
    if not fit and inputs is not None:
        raise ValueError("`inputs` are what Ψ is fitted on. Received: inputs and fit=False.")

    def made(place, size, **given):
        kind = activation_of(layers[place]) if activation is None else activation
        return SNNK.from_dense(layers[place], size, **{"activation": kind, "seed": seeds[place], **given, **options})

    if fit:
        new = _fitted(model, layers, num_features, seed, inputs, made)
    else:
        new = {place: made(place, num_features or UNFITTED) for place in range(len(layers))}
    places = {id(layer): place for place, layer in enumerate(layers)}
    return swap(model, {Dense: lambda layer: new[places[id(layer)]]}, where=lambda layer: id(layer) in places)


def _fitted(model, layers, num_features, seed, inputs, made) -> dict[int, SNNK]:
    """Return an SNNK fitted to each of `layers`, by its place in them.

    With `num_features` None each layer gets as many features as bring its error on held-out rows to `WARN_ABOVE`.
    """
    made_up, new = inputs is None, {}
    words = "held-out rows of made-up inputs" if made_up else "held-out rows of the inputs"
    size, left = num_features or FEWEST, list(range(len(layers)))
    while left:
        last = num_features is not None or size >= MOST
        typical = made_up_inputs(model, min(MADE_UP, ROWS * size), seed) if made_up else inputs
        if typical is None:
            raise ValueError(f"{model.name!r} does not state its inputs, so none can be made up. Give `inputs`, or "
                             "fit=False. Received: inputs=None.")  # fmt: skip
        rows = rows_into(model, [layers[place] for place in left], typical, ROWS * size, seed)
        for place, part in zip(left, rows, strict=True):
            with warnings.catch_warnings():
                if not last:  # a fit with more features follows, whose error is the one to warn of
                    warnings.filterwarnings("ignore", "The SNNK in the place of")
                new[place] = made(place, size, inputs=part.fitted, held_out=part.held_out, rows_are=words)
        left = [] if last else [place for place in left if not new[place].error <= WARN_ABOVE]
        size *= 2
    return new


def errors_of(model: keras.Model) -> dict[str, float]:
    """Return the relative error on held-out rows of each SNNK in `model` that replaced a layer, by the layer's name.

    They are those of the replacement: neither training nor a saved file changes or keeps them.
    """
    return {
        layer.name: layer.error
        for layer in walk(model)
        if isinstance(layer, (SNNK, UniversalFeatures)) and layer.error is not None
    }


def _bundled(model: keras.Model) -> keras.Model:
    """Return `bundle(model)` with the blocks inside layers folded too, whose graph `bundle` does not see."""
    return bundle(model, [tuple(block) for block in _attribute_blocks(model) if isinstance(block.expand, SNNK)])


def replace_pooler(
    model: keras.Model, num_features: int | None = None, *, activation: Any = "relu", fit: bool = True, seed: int = 0,
    bundled: bool = False, inputs: Any = None, **options,
) -> keras.Model:  # fmt: skip
    """Return a copy of `model` whose tanh pooler is an SNNK; bundled with the linear classifier after it, if asked for.

    The pooler is the last Dense with a tanh. Arguments and the report of the error as for `uptrain`.

    A steep tanh in many dimensions cannot be followed with 1,024 features, whatever the estimator. On inputs N(0, I_d)
    m functions of all of x reach polynomials of the degree k with binom(d + k, k) ≤ m, and what tanh(2 z) has beyond
    them is its least error: for d = 16 that is .40 with 17 functions (k = 1), .25 with 969 (k = 3) and .18 with 20,349
    (k = 5). 1,024 ReLU features, fitted by ridge regression on 8,192 rows, err by .36. tanh(z) has .26, .12 and .06.

    Raises ValueError if there is no pooler.
    """
    poolers = [layer for layer in walk(model) if type(layer) is Dense and layer.activation is keras.activations.tanh]
    if not poolers:
        kinds = sorted({type(layer).__name__ for layer in walk(model)})
        raise ValueError(f"There is no Dense with a tanh. Received: a model of {', '.join(kinds)}.")
    new = _stood_in(model, poolers[-1:], [seed], num_features, activation, fit, seed, inputs, options)
    return bundle(new) if bundled else new
