"""Bundling: multiply the linear maps around trained SNNKs into one matrix each, with equal outputs and fewer weights.

An SNNK from d inputs to u outputs computes the m features Φ(x) and multiplies them by the trained matrix Ψ, (m, u). If
a linear layer follows, one product replaces Ψ and its kernel. If another SNNK follows, whose features Φ' depend on
m' fixed projections of its inputs, one product replaces Ψ and these projections ("Scalable Neural Network Kernels",
ICLR 2024, section on bundling). A ReLU network of width u with SNNKs of m features thus changes from u x u matrices to
m x m ones. In the table, a Dense after an SNNK has k units, and a Dense before one maps d₀ inputs to d outputs.

| chain                       | becomes            | weights                       |
|-----------------------------|--------------------|-------------------------------|
| SNNK -> Dense               | Φ -> Dense         | m u + u k  ->  m k            |
| Dense -> SNNK (relu, power) | Φ' -> ...          | d₀ d + d m  ->  d₀ m          |
| SNNK -> SNNK (relu, power)  | Φ -> Φ' -> ...     | m u + u m'  ->  m m'          |

Features of exponentials (sines, cosines) and features with `normalize` need the norm of their input in addition to its
projections, so no map before them can be folded into them; maps after them can. Bounded features of the other kinds
(see `UniversalFeatures`) measure the norm of the projections, so their centre, radius and growth are unchanged.
"""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import ops

from linearized.layers.snnk.layer import SNNK
from linearized.layers.snnk.universal import UniversalFeatures
from linearized.layers.surgery.swap import swap
from linearized.layers.surgery.swapped import is_graph, walk

Layer = keras.layers.Layer
Chain = tuple[Layer, Layer]


def bundle(model: keras.Model, chains: Sequence[Chain] = ()) -> keras.Model:
    """Return a smaller model that multiplies the linear maps before and after SNNKs into one matrix each.

    Its outputs at inference are those of `model` up to rounding, a relative difference near 1e-6. A pair of maps is
    folded where the product has no more weights than both. Dropout between folded layers is removed: bundle when
    training is over, or continue training without it. Folded projections stay fixed, like those of any SNNK.

    Args:
        model: Any built Keras model with SNNKs; it is unchanged. In functional and sequential parts, including nested
            ones, the graph determines which layer follows which.
        chains: Pairs of layers inside other kinds of layers, where there is no graph. You guarantee that only the
            second layer takes the output of the first, and that both are used once.

    Raises:
        ValueError: If there is nothing to fold.
    """
    after = {id(first): second for first, second in [*links(model), *chains]}
    new: dict[int, Layer] = {}
    done = [_fold(layer, after, new) for layer in walk(model) if isinstance(layer, SNNK) or _is_linear(layer)]
    if not any(done):
        raise ValueError(f"{model.name!r} has no SNNK with a linear map around it that gets smaller when folded.")
    kinds = {type(layer) for layer in walk(model) if id(layer) in new}
    return swap(model, dict.fromkeys(kinds, lambda layer: new[id(layer)]), where=lambda layer: id(layer) in new)


def _fold(first: Layer, after: dict[int, Layer], new: dict[int, Layer]) -> bool:
    """Fold the linear map that ends `first` into the layer after it, unless that needs more weights.

    Call it in the order of the graph.

    Args:
        first: SNNK or linear Dense.
        after: Layer -> the only layer that takes its output, by the id of the layer.
        new: Layer -> its replacement, by the id of the layer; the function adds to it.

    Returns:
        Whether the map was folded.
    """
    between, second = [], after.get(id(first))
    while second is not None and _is_transparent(second):
        between, second = [*between, second], after.get(id(second))
    if second is None:
        return False
    now = new.get(id(first), first)  # an earlier layer may have been folded into it
    matrix, shift = _linear_part(now)
    if isinstance(second, SNNK) and second.features.folds and second.trained == "psi":
        weights, moved = _projection_of(second.features)
        folded = _with_projection(second, _product(matrix, weights), _product(shift, weights) + moved)
    elif isinstance(first, SNNK) and _is_linear(second):
        weights, offset = _linear_part(second)
        folded = _dense(second, _product(matrix, weights), _product(shift, weights) + offset)
    else:
        return False
    if matrix.shape[0] * weights.shape[1] > matrix.size + weights.size:
        return False
    new[id(first)] = _features_of(now)
    new[id(second)] = folded
    new.update({id(layer): keras.layers.Identity(name=layer.name) for layer in between})
    return True


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return a float32 product that is computed in float64, so that folding adds no rounding of its own."""
    return (left.astype(np.float64) @ right.astype(np.float64)).astype(np.float32)


def _linear_part(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix and the bias of the linear map that ends `layer`, an SNNK (its Ψ, without bias) or a Dense."""
    if isinstance(layer, SNNK):
        matrix = ops.convert_to_numpy(ops.cast(layer.matrix(), "float32"))
        return matrix, np.zeros(layer.units, np.float32)
    matrix = ops.convert_to_numpy(layer.kernel)
    return matrix, ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32)


def _features_of(layer: Layer) -> Layer:
    """Return `layer` without the linear map that ends it: the features of an SNNK, or the identity for a Dense."""
    if not isinstance(layer, SNNK):
        return keras.layers.Identity(name=layer.name)
    old = layer.features
    features = UniversalFeatures.from_config({**old.get_config(), "name": layer.name})
    features.build((None, old.projection.shape[0]))
    features.set_weights(old.get_weights())
    features.error = layer.error
    return features


def _projection_of(features: UniversalFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Return the projections and the vector added to them: the origin of bounded features, else the offset."""
    added = features.origin if features.radius else features.offset
    return ops.convert_to_numpy(features.projection), ops.convert_to_numpy(added)


def _with_projection(layer: SNNK, projection: np.ndarray, added: np.ndarray) -> SNNK:
    """Return a copy of an SNNK with other projections, which `added` is added to, and the same Ψ, offsets and bound."""
    new = SNNK.from_config(layer.get_config())
    new.build((None, len(projection)))
    old, features = layer.features, new.features
    features.projection.assign(projection)
    features.offset.assign(old.offset)
    (features.origin if features.radius else features.offset).assign(added)
    if features.radius:
        features.bound.assign(old.bound)
    new.psi.assign(layer.psi)
    new.error = layer.error
    return new


def _dense(layer: keras.layers.Dense, kernel: np.ndarray, bias: np.ndarray) -> keras.layers.Dense:
    config = {**layer.get_config(), "use_bias": layer.use_bias}
    new = type(layer).from_config(config)
    new.build((None, len(kernel)))
    new.set_weights([kernel, bias] if layer.use_bias else [kernel])
    return new


def _is_linear(layer: Layer) -> bool:
    return type(layer) is keras.layers.Dense and layer.activation is keras.activations.linear


def _is_transparent(layer: Layer) -> bool:
    """Return whether the outputs of `layer` equal its inputs at inference."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation is keras.activations.linear
    return isinstance(layer, (keras.layers.Dropout, keras.layers.Identity))


def links(model: keras.Model) -> Iterator[Chain]:
    """Yield the pairs of a layer and the only layer that takes its output, in functional and sequential parts.

    Both layers of a pair are called once. A layer whose output is also an output of its part is left out.
    """
    uses: dict[int, int] = {}
    found = []
    for part in filter(is_graph, walk(model)):
        graph = part if hasattr(part, "operations") and not isinstance(part, keras.Sequential) else part._functional
        nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
        takers: dict[int, list] = {}
        for node in nodes:
            uses[id(node.operation)] = uses.get(id(node.operation), 0) + 1
            for tensor in node.input_tensors:
                takers.setdefault(id(tensor._keras_history.operation), []).append((node.operation, node))
        for tensor in graph.outputs:
            takers.setdefault(id(tensor._keras_history.operation), []).append((None, None))
        for node in nodes:
            after = takers.get(id(node.operation), [])
            if len(after) == 1 and isinstance(after[0][0], Layer) and len(after[0][1].input_tensors) == 1:
                found.append((node.operation, after[0][0]))
    yield from ((first, second) for first, second in found if uses[id(first)] == uses[id(second)] == 1)
