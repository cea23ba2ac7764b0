"""Uptraining: replace dense layers of a trained Transformer by SNNKs, before the model is trained further.

An SNNK (scalable neural network kernel) replaces a dense layer by a product of random features and a trained matrix.
`uptrain` replaces the first dense layer of each of the last MLP blocks. `replace_pooler` replaces the tanh pooler. The
method comes from "Scalable Neural Network Kernels" (ICLR 2024), section on uptraining. An MLP block is a Dense with an
activation followed by a linear Dense. Any Keras model with such blocks can be changed: the small Transformers of
`linearized.models.transformers`, the models of keras_hub, or your own.
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
FEWEST, MOST = 64, 1024  # limits of the number of features where the caller gives none and Ψ is fitted
UNFITTED = 256  # number of features where the caller gives none and Ψ is not fitted


class MLP(NamedTuple):
    """One MLP block of a Transformer.

    Attributes:
        expand: Dense layer with an activation, or the SNNK that replaced it.
        contract: Linear Dense layer that is applied to the output of `expand`.
    """

    expand: keras.layers.Layer
    contract: Dense


def mlp_blocks(model: keras.Model) -> list[MLP]:
    """Return the MLP blocks of a model, in the order of its layers.

    A block is a Dense with an activation (or an SNNK) followed by a linear Dense. The second layer must have as many
    outputs as the first has inputs. There may be dropout in between. In functional and sequential models the graph
    determines which layer follows which. In models and layers without a graph, the second layer is the next dense layer
    among the attributes of the same object.
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
    """Return a copy of a model in which the last MLP blocks begin with an SNNK instead of a dense layer.

    Each block gets an SNNK of its own, with m features Φ(x), a trained matrix Ψ and its own random projections. The
    initial Ψ is computed from the dense layer that the SNNK replaces. The relative error of each SNNK on held-out rows
    is logged and stored as the attribute `error` of the SNNK; an error above 0.2 causes a warning.

    Args:
        model: Keras model with MLP blocks, see `linearized.layers.snnk.uptrain.mlp_blocks`; it is unchanged.
        last: Number of blocks that are changed, counted from the end.
        num_features: m of each SNNK. None: for each layer the smallest of 64, 128, ..., 1,024 with an error of at most
            0.2, or 1,024 if there is none; 256 with fit=False. All fits of a layer together cost at most twice the last
            fit.
        activation: Activation that the features estimate. ReLU features suit any activation if Ψ is fitted, as in the
            paper for BERT's GELU. None: the block's own activation.
        fit: Whether to fit Ψ to the outputs of the first layer of the block, and to bound the features. The fit uses
            8 m inputs of this layer, recorded while the model runs on `inputs`. Otherwise Ψ is computed from the
            layer's weights alone, and Φ(x)·Ψ is an unbiased estimate: of the arc-cosine kernel for "relu", of the
            activation's series expansion for all others. For the others, the variance is large if the norms of the
            layer's inputs and weights are far above 1, as they usually are in a Transformer.
        seed: Random-number seed of projections and rows.
        inputs: Typical inputs of the model, in the structure that the model accepts, such as an array. None: random
            inputs (normal numbers, or tokens). The SNNK approximates the first layer of the block on such inputs, so
            give real inputs if possible.
        bundled: Whether to multiply each Ψ with the linear layer after it (see `bundle`), which saves parameters and
            operations.
        **options: Options of `SNNK.from_dense`.

    Raises:
        ValueError: If `last` is not between 1 and the number of blocks, if the model does not state its inputs and
            `inputs` is None, if `inputs` are given with fit=False, and for options that `SNNK.from_dense` refuses.
    """
    blocks = [block for block in mlp_blocks(model) if not isinstance(block.expand, SNNK)]
    if not 1 <= last <= len(blocks):
        raise ValueError(f"`last` must be 1..{len(blocks)}, the model's MLP blocks. Received: last={last}.")
    chosen = [block.expand for block in blocks[-last:]]
    seeds = [[seed, place] for place in range(last)]
    new = _stood_in(model, chosen, seeds, num_features, activation, fit, seed, inputs, options)
    return _bundled(new) if bundled else new


def _stood_in(model, layers, seeds, num_features, activation, fit, seed, inputs, options) -> keras.Model:
    """Return a copy of a model in which SNNKs replace some dense layers.

    Args:
        model: Keras model; it is unchanged.
        layers: Dense layers of the model that are replaced.
        seeds: Random-number seed of the projections for each of these layers.
        num_features: Number of features of each SNNK; None: chosen as for `uptrain`.
        activation: Activation that the features estimate; None: the activation of the layer.
        fit: Whether Ψ of each SNNK is fitted to the layer; otherwise Ψ is computed from the layer's weights.
        seed: Random-number seed of the rows of the fit.
        inputs: Inputs of the model for the fit; None: random ones.
        options: Further arguments of `SNNK.from_dense`, as a dictionary.

    Raises:
        ValueError: If `inputs` are given with fit=False.
    """
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
    """Fit an SNNK to each of some dense layers of a model, on inputs of the layers that are recorded in the model.

    Args:
        model: Keras model.
        layers: Dense layers of the model.
        num_features: m, the number of features. None: for each layer m starts at 64 and is doubled until the error on
            held-out rows is at most 0.2 or m is 1,024.
        seed: Random-number seed of the rows.
        inputs: Inputs of the model; None: random ones.
        made: Function that returns the SNNK of a layer, from its index, m and further arguments of `SNNK.from_dense`.

    Returns:
        Dictionary from the index of a layer to its SNNK.
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
                if not last:  # a fit with more features follows, and only its error is reported
                    warnings.filterwarnings("ignore", "The SNNK in the place of")
                new[place] = made(place, size, inputs=part.fitted, held_out=part.held_out, rows_are=words)
        left = [] if last else [place for place in left if not new[place].error <= WARN_ABOVE]
        size *= 2
    return new


def errors_of(model: keras.Model) -> dict[str, float]:
    """Return the relative error of each SNNK that replaced a layer of a model, by the name of the layer.

    The errors ‖f̂ - f‖ / ‖f‖ of the SNNK's outputs f̂ against the layer's outputs f were measured on held-out rows when
    the layers were replaced. Training does not change them, and saved files do not store them.
    """
    return {
        layer.name: layer.error
        for layer in walk(model)
        if isinstance(layer, (SNNK, UniversalFeatures)) and layer.error is not None
    }


def _bundled(model: keras.Model) -> keras.Model:
    """Return a copy of a model in which the matrix of each SNNK is multiplied with the linear layer after it.

    In contrast to `bundle`, this includes MLP blocks inside layers that have no graph.
    """
    return bundle(model, [tuple(block) for block in _attribute_blocks(model) if isinstance(block.expand, SNNK)])


def replace_pooler(
    model: keras.Model, num_features: int | None = None, *, activation: Any = "relu", fit: bool = True, seed: int = 0,
    bundled: bool = False, inputs: Any = None, **options,
) -> keras.Model:  # fmt: skip
    """Return a copy of a model in which an SNNK replaces the pooler: the last Dense with activation tanh.

    The arguments are those of `uptrain`, without `last`. With `bundled`, successive linear maps around SNNKs are
    multiplied into one matrix, such as the matrix of the new SNNK and the kernel of the classifier after it.

    No estimator with 1,024 features approximates a steep tanh in many dimensions well. On inputs N(0, I) of length d, m
    functions can span all polynomials of degree at most k only if binom(d + k, k) ≤ m. The smallest relative error is
    then the error of the best polynomial of degree k. For d = 16 and z = w·x with ‖w‖ = 1, this error is:

    | k | m      | tanh(z) | tanh(2 z) |
    |---|--------|---------|-----------|
    | 1 | 17     | .26     | .40       |
    | 3 | 969    | .12     | .25       |
    | 5 | 20,349 | .06     | .18       |

    1,024 ReLU features, fitted by ridge regression on 8,192 rows, have an error of .36 for tanh(2 z).

    Raises:
        ValueError: If the model has no pooler, if the model does not state its inputs and `inputs` is None, if `inputs`
            are given with fit=False, and for options that `SNNK.from_dense` refuses.
    """
    poolers = [layer for layer in walk(model) if type(layer) is Dense and layer.activation is keras.activations.tanh]
    if not poolers:
        kinds = sorted({type(layer).__name__ for layer in walk(model)})
        raise ValueError(f"There is no Dense with a tanh. Received: a model of {', '.join(kinds)}.")
    new = _stood_in(model, poolers[-1:], [seed], num_features, activation, fit, seed, inputs, options)
    return bundle(new) if bundled else new
