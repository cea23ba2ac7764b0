"""The function `swap`, which copies a model and replaces some layers, such as Dense by SNNK in the copy.

Functional and sequential models are cloned layer by layer. Layers and models of other kinds store their inner layers in
attributes. Their copies are wrapped in `SwappedLayer` or `SwappedModel`. These wrappers assign the new layers to the
attributes, both in `swap` and when a saved model is loaded.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.saving import deserialize_keras_object, serialize_keras_object

from linearized.layers.surgery.swapped import SwappedLayer, SwappedModel, accepted_config, is_graph, parts, walk

Layer = keras.layers.Layer
Factory = Callable[[Layer], Layer]


def swap(
    model: keras.Model, replacements: Mapping[type, Factory], where: Callable[[Layer], bool] | None = None
) -> keras.Model:
    """Return a copy of `model` in which new layers replace all layers of some classes.

    Args:
        model: Any built Keras model; it is unchanged. A model that is neither functional nor sequential must be
            restorable from its configuration (`get_config`), which saving requires too.
        replacements: Dictionary from a layer class to a factory, a function that returns the replacement of a layer of
            this class. Subclasses do not match. A replacement is a new, built layer for the same inputs and outputs;
            give it the name of the old layer, so that `get_layer` finds it. The factory is called once for each layer,
            even for a layer that the model uses twice.
        where: Function that returns whether a matched layer is replaced; None: all matched layers are replaced.

    Returns:
        Model with the same weights in all layers that were not replaced, compiled like `model`. A functional model
        stays functional, and a sequential model stays sequential. Any other model becomes a `SwappedModel`.

    Raises:
        ValueError: If the model is not built, if no layer was chosen, if a factory does not return a new layer, or if
            the model cannot be copied.
    """
    if not model.built:
        raise ValueError(f"`swap` needs a built model: call {model.name!r} on a batch first.")
    exchange = _Exchange(model, replacements, where or (lambda layer: True))
    if not any(map(exchange.chosen, walk(model))):
        names = ", ".join(kind.__name__ for kind in replacements)
        kinds = sorted({type(layer).__name__ for layer in walk(model)})
        raise ValueError(f"No layer was chosen for {names}. Received: a model of {', '.join(kinds)}.")
    return exchange.finish(exchange.of(model))


class _Exchange:
    """State of one call of `swap`: the replacement or copy of each layer, so that shared layers stay shared.

    Args:
        model: Model that is copied.
        replacements: Dictionary from a layer class to a function from a layer to its replacement.
        where: Function that returns whether a layer of these classes is replaced.
    """

    def __init__(self, model: keras.Model, replacements: Mapping[type, Factory], where: Callable[[Layer], bool]):
        self.replacements, self.where = replacements, where
        self.classes = {type(layer).__name__: type(layer) for layer in walk(model)}
        self.done: dict[int, Layer] = {}
        self.copies: list[tuple[Layer, Layer]] = []

    def chosen(self, layer: Layer) -> bool:
        """Return whether a layer of the model is to be replaced."""
        return type(layer) in self.replacements and bool(self.where(layer))

    def of(self, layer: Any) -> Any:
        """Return the replacement or the copy of a layer, or the copy of another operation of the graph.

        The first call for a layer makes the new object, and later calls return it again.
        """
        if id(layer) not in self.done:
            self.done[id(layer)] = self._new(layer)
        return self.done[id(layer)]

    def _new(self, layer: Any) -> Any:
        if not isinstance(layer, Layer):
            return type(layer).from_config(layer.get_config())
        if self.chosen(layer):
            return self._made(layer)
        if is_graph(layer):
            return keras.models.clone_model(layer, clone_function=self.of)
        copy, exact = self._copy(layer)
        inside = any(map(self.chosen, walk(layer)))
        if exact and not inside:
            return copy
        if not copy.built:
            raise ValueError(f"{type(layer).__name__} {layer.name!r} is not built when restored from its config. "
                             "Give it `get_config` and `build`. Received: a layer without weights.")  # fmt: skip
        wrapper = SwappedModel if isinstance(layer, keras.Model) else SwappedLayer
        changed = {path: self.of(part) for path, part in self._changes(layer, set())} if inside else {}
        config = serialize_keras_object(layer) if exact else accepted_config(layer)
        swapped = wrapper(copy, changed, config, name=layer.name, dtype=layer.dtype_policy)
        if isinstance(layer, keras.Model) and layer.compiled:
            swapped.compile_from_config(layer.get_compile_config())
        return swapped

    def _changes(self, layer: Layer, seen: set[int]) -> Iterator[tuple[str, Layer]]:
        """Yield (path, layer) for each inner layer that a copy must exchange; a path is like "blocks.3/mlp/dense_1".

        These are the layers to replace, and functional or sequential models that contain layers to replace. Layers
        inside a yielded layer are not yielded.

        Args:
            layer: Layer whose inner layers are searched.
            seen: Ids of the layers that were searched already; the ids of further searched layers are added.
        """
        seen.add(id(layer))
        for name, part in parts(layer).items():
            if self.chosen(part) or (is_graph(part) and any(map(self.chosen, walk(part)))):
                yield name, part
            elif id(part) not in seen:
                yield from ((f"{name}/{path}", inner) for path, inner in self._changes(part, seen))

    def _made(self, layer: Layer) -> Layer:
        new = self.replacements[type(layer)](layer)
        if not isinstance(new, Layer) or any(new is other for other in (layer, *self.done.values())):
            raise ValueError(
                f"The factory of {type(layer).__name__} must give a new layer each time. Received for "
                f"{layer.name!r}: {new!r}."
            )
        return new

    def _copy(self, layer: Layer) -> tuple[Layer, bool]:
        """Return a new copy of a layer, and whether Keras can create the copy from the unchanged configuration.

        If the copy is built, it gets the weights of the layer. Otherwise the method `finish` assigns the weights, after
        the graph has built the copy.
        """
        exact = True
        try:
            copy = deserialize_keras_object(serialize_keras_object(layer), custom_objects=self.classes)
        except TypeError:
            exact = False
            copy = deserialize_keras_object(accepted_config(layer), custom_objects=self.classes)
        if len(copy.weights) == len(layer.weights):
            copy.set_weights(layer.get_weights())
        else:
            self.copies.append((layer, copy))  # it is built when the graph calls it
        return copy, exact

    def finish(self, model: keras.Model) -> keras.Model:
        """Assign the weights of the layers that were not built when they were copied, and return the model.

        Args:
            model: The new model, in whose graph all layers are built.

        Raises:
            ValueError: If a copy has another number of weights than the original layer.
        """
        for layer, copy in self.copies:
            if len(copy.weights) != len(layer.weights):
                raise ValueError(
                    f"{type(layer).__name__} {layer.name!r} cannot be restored from its configuration: expected "
                    f"{len(layer.weights)} weights. Received: {len(copy.weights)}. Give it `get_config` and `build`."
                )
            copy.set_weights(layer.get_weights())
        return model
