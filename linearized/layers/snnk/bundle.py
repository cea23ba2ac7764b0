"""Bundling: multiply pairs of successive linear maps around trained SNNKs, which keeps the outputs and saves weights.

An SNNK (scalable neural network kernel) from d inputs to u outputs computes the m features Φ(x) and multiplies them by
the trained matrix Ψ, (m, u). If a linear layer follows, the product of Ψ and the layer's kernel replaces both matrices.
If another SNNK follows, its features Φ' depend on m' fixed projections of its inputs. The product of Ψ and these
projections then replaces both matrices. A linear layer before an SNNK is multiplied by the projections in the same way
("Scalable Neural Network Kernels", ICLR 2024, section on bundling). A ReLU network of width u with SNNKs of m features
thus changes from u x u matrices to m x m matrices. In the table, a Dense after an SNNK has k units, and a Dense before
an SNNK maps d₀ inputs to d outputs.

| chain                       | becomes            | weights                       |
|-----------------------------|--------------------|-------------------------------|
| SNNK -> Dense               | Φ -> Dense         | m u + u k  ->  m k            |
| Dense -> SNNK (relu, power) | Φ' -> ...          | d₀ d + d m'  ->  d₀ m'        |
| SNNK -> SNNK (relu, power)  | Φ -> Φ' -> ...     | m u + u m'  ->  m m'          |

Features of exponentials, sines and cosines, and features with `normalize`, need the norm of their input in addition to
its projections. A linear map before such features cannot be folded into them, but a linear map after them can be folded
into Ψ. Features with a `radius` (see `UniversalFeatures`) stay bounded by the same radius. For "relu" and power
features, the distance of a row from the centre is computed from the projected difference of the two, which folding
leaves unchanged.
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
    """Return a smaller model in which each pair of successive linear maps around SNNKs is multiplied into one matrix.

    An SNNK multiplies random features Φ(x) of its inputs by a trained matrix Ψ. The first map of a pair is Ψ or a
    linear Dense. The second map is a linear Dense after an SNNK, or the random projections of the next SNNK. Their
    product replaces both maps if it has no more weights than both together. At inference the outputs are those of
    `model` up to a relative rounding error near 1e-6. Products with projections are not trained, like the projections
    of any SNNK. Dropout between the two layers is removed, so bundle after training, or continue training without
    dropout.

    Args:
        model: Any built Keras model with SNNKs; it is unchanged. In functional and sequential models, including nested
            ones, the graph determines which layer follows which.
        chains: Further pairs of a layer and the layer that follows, for layers without a graph, such as subclassed
            ones. You guarantee that only the second layer uses the output of the first, and that both are called once.

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
    """Multiply the linear map at the end of a layer into the next layer, unless this increases the number of weights.

    The number increases if the product has more entries than both matrices together. Call this function for the layers
    in the order of the graph.

    Args:
        first: SNNK or linear Dense.
        after: Dictionary from the id of a layer to the only layer that uses its output.
        new: Dictionary from the id of a layer to the layer that replaces it. Replacements are added to it.

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
    """Return the product of two matrices in float32, computed in float64 to keep its rounding error small."""
    return (left.astype(np.float64) @ right.astype(np.float64)).astype(np.float32)


def _linear_part(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix and the bias of the linear map at the end of a layer.

    Args:
        layer: SNNK, whose matrix is Ψ and whose bias is 0, or linear Dense.
    """
    if isinstance(layer, SNNK):
        matrix = ops.convert_to_numpy(ops.cast(layer.matrix(), "float32"))
        return matrix, np.zeros(layer.units, np.float32)
    matrix = ops.convert_to_numpy(layer.kernel)
    return matrix, ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(layer.units, np.float32)


def _features_of(layer: Layer) -> Layer:
    """Return a layer without the linear map at its end: the features Φ of an SNNK, or the identity for a Dense."""
    if not isinstance(layer, SNNK):
        return keras.layers.Identity(name=layer.name)
    old = layer.features
    features = UniversalFeatures.from_config({**old.get_config(), "name": layer.name})
    features.build((None, old.projection.shape[0]))
    features.set_weights(old.get_weights())
    features.error = layer.error
    return features


def _projection_of(features: UniversalFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Return the random projections of features, and the vector that is added to the projected inputs.

    For features with a `radius`, the vector is minus the projection of the centre. For others it is the random offset.
    """
    added = features.origin if features.radius else features.offset
    return ops.convert_to_numpy(features.projection), ops.convert_to_numpy(added)


def _with_projection(layer: SNNK, projection: np.ndarray, added: np.ndarray) -> SNNK:
    """Return a copy of an SNNK with other projections of its inputs, and with the same Ψ, offsets and radius.

    Args:
        layer: SNNK.
        projection: New projections (d, projections).
        added: Vector that is added to the projected inputs. It replaces the vector that `_projection_of` returns.
    """
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
    """Return whether the outputs of a layer equal its inputs at inference; dropout is an example."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation is keras.activations.linear
    return isinstance(layer, (keras.layers.Dropout, keras.layers.Identity))


def links(model: keras.Model) -> Iterator[Chain]:
    """Yield the pairs of a layer and the only layer that uses its output, in functional and sequential models.

    Models inside `model` are included. A pair is left out if one of its layers is called more than once, if the second
    layer has further inputs, or if the output of the first layer is also an output of its model.
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
