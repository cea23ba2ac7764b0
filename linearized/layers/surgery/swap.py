"""A copy of a model with some of its layers exchanged: Dense for SNNK, Conv2D for Kervolution2D, any for any.

Functional and Sequential models are cloned layer by layer. A layer or model of another kind keeps its parts in
attributes, so its copy is wrapped in `SwappedLayer` or `SwappedModel`, which put the new parts in their places, here
and again when the model is loaded from a file.
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
    """A new model in which every chosen layer is `factory(layer)`; `model` is left as it was.

    Args:
        model: Any built Keras model. One that is neither functional nor sequential must come back from its
            configuration (`get_config`), as for saving.
        replacements: Layer class -> factory. A layer is matched by its own class, not by a parent's. The factory
            returns a new layer for the same inputs and outputs, built, with weights made of the old ones; give it
            the old one's name, so that `get_layer` finds it. It is called once a layer: a layer that is used twice
            stays one, and no two layers share one replacement.
        where: Which of the matched layers to exchange; None: all of them.

    Returns: A model with the weights of the old one in all that was not exchanged, compiled like it. A functional model
        stays functional, a sequential one sequential; another becomes a `SwappedModel`.

    Raises ValueError if nothing was chosen, if a factory gives no new layer, or if the model cannot be copied.
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
    """One swap at work: remembers what became of each layer, so that a shared layer stays shared."""

    def __init__(self, model: keras.Model, replacements: Mapping[type, Factory], where: Callable[[Layer], bool]):
        self.replacements, self.where = replacements, where
        self.classes = {type(layer).__name__: type(layer) for layer in walk(model)}
        self.done: dict[int, Layer] = {}
        self.copies: list[tuple[Layer, Layer]] = []

    def chosen(self, layer: Layer) -> bool:
        return type(layer) in self.replacements and bool(self.where(layer))

    def of(self, layer: Any) -> Any:
        """What takes the place of `layer`, or of an operation of the graph."""
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
            raise ValueError(f"{type(layer).__name__} {layer.name!r} does not come back built from its configuration. "
                             "Give it `get_config` and `build`. Received: a layer without weights.")  # fmt: skip
        wrapper = SwappedModel if isinstance(layer, keras.Model) else SwappedLayer
        changed = {path: self.of(part) for path, part in self._changes(layer, set())} if inside else {}
        config = serialize_keras_object(layer) if exact else accepted_config(layer)
        swapped = wrapper(copy, changed, config, name=layer.name, dtype=layer.dtype_policy)
        if isinstance(layer, keras.Model) and layer.compiled:
            swapped.compile_from_config(layer.get_compile_config())
        return swapped

    def _changes(self, layer: Layer, seen: set[int]) -> Iterator[tuple[str, Layer]]:
        """The outermost layers inside `layer` that are exchanged or are graphs with such layers, by path."""
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
        """The same layer anew, with equal weights as soon as it has any; whether Keras can make it from its config."""
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
        """Writes the weights of the layers that could not have them before."""
        for layer, copy in self.copies:
            if len(copy.weights) != len(layer.weights):
                raise ValueError(
                    f"{type(layer).__name__} {layer.name!r} does not come back from its configuration: expected "
                    f"{len(layer.weights)} weights. Received: {len(copy.weights)}. Give it `get_config` and `build`."
                )
            copy.set_weights(layer.get_weights())
        return model
