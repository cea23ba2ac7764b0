"""Uptraining: a trained Transformer goes on with SNNKs in the place of its last MLP blocks, or of its tanh pooler.

"Scalable Neural Network Kernels" (ICLR 2024), section on uptraining. Works on any Keras model whose MLP is a Dense with
an activation followed by a linear Dense: the small ones of `linearized.models.transformers`, keras_hub's, your own.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from linearized.layers.snnk import SNNK, activation_of
from linearized.layers.snnk_bundle import bundle, links
from linearized.layers.swap import swap
from linearized.layers.swapped import is_graph, parts, walk

Dense = keras.layers.Dense
FIT_ROWS = 8  # rows of made-up inputs for each feature, where Ψ is fitted


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
    **options,
) -> keras.Model:  # fmt: skip
    """A copy of `model` in which the last `last` MLP blocks begin with an SNNK instead of a dense layer.

    Each block gets a layer of its own, with weights computed from the block's and projections of its own seed.

    Args:
        activation: Whose features; the ReLU's serve any activation as far as Ψ is fitted, as published for BERT's GELU.
            None: the block's own.
        fit: Fit Ψ to the block on 8 m inputs N(0, 1), the law of what a layer normalisation hands on, so that the copy
            starts near the original; else Ψ(W, b), whose variance at such norms is large.
        options: Of `SNNK`.

    Raises ValueError if there are fewer blocks.
    """
    blocks = [block for block in mlp_blocks(model) if not isinstance(block.expand, SNNK)]
    if not 1 <= last <= len(blocks):
        raise ValueError(f"`last` must be 1..{len(blocks)}, the model's MLP blocks. Received: last={last}.")
    chosen = {id(block.expand): place for place, block in enumerate(blocks[-last:])}
    random = np.random.default_rng(seed)

    def factory(layer):
        rows = random.standard_normal((FIT_ROWS * num_features, layer.kernel.shape[0])).astype(np.float32)
        kind = activation_of(layer) if activation is None else activation
        own = {"activation": kind, "seed": [seed, chosen[id(layer)]], **options}
        return SNNK.from_dense(layer, num_features, inputs=rows if fit else None, **own)

    return swap(model, {Dense: factory}, where=lambda layer: id(layer) in chosen)


def bundle_blocks(model: keras.Model) -> keras.Model:
    """`bundle`, told of the blocks inside layers whose graph it does not see."""
    return bundle(model, [tuple(block) for block in _attribute_blocks(model) if isinstance(block.expand, SNNK)])


def replace_pooler(
    model: keras.Model, num_features: int, *, activation: Any = "relu", fit: bool = True, seed: int = 0,
    bundled: bool = False, **options,
) -> keras.Model:  # fmt: skip
    """A copy of `model` whose tanh pooler is an SNNK; bundled with the linear classifier after it, if asked for.

    The pooler is the last Dense with a tanh. Arguments as for `uptrain`. Raises ValueError if there is none.
    """
    poolers = [layer for layer in walk(model) if type(layer) is Dense and layer.activation is keras.activations.tanh]
    if not poolers:
        kinds = sorted({type(layer).__name__ for layer in walk(model)})
        raise ValueError(f"There is no Dense with a tanh. Received: a model of {', '.join(kinds)}.")
    random = np.random.default_rng(seed)

    def factory(layer):
        rows = random.standard_normal((FIT_ROWS * num_features, layer.kernel.shape[0])).astype(np.float32)
        kind = activation_of(layer) if activation is None else activation
        own = {"activation": kind, "seed": seed, **options}
        return SNNK.from_dense(layer, num_features, inputs=rows if fit else None, **own)

    new = swap(model, {Dense: factory}, where=lambda layer: layer is poolers[-1])
    return bundle(new) if bundled else new
