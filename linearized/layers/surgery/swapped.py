"""Functions that find and replace layers inside a layer, and wrappers of a layer whose inner layers were replaced."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras
from keras.saving import deserialize_keras_object, serialize_keras_object

Layer = keras.layers.Layer


def walk(layer: Layer) -> Iterator[Layer]:
    """Yield a layer and all layers inside it, at any depth and each once.

    The layers inside a functional or sequential model are in the order of `model.layers`, and those inside any other
    layer in the order of its attributes.
    """
    seen = set()
    stack = [layer]
    while stack:
        if id(current := stack.pop()) in seen:
            continue
        seen.add(id(current))
        yield current
        stack.extend(reversed(list(parts(current).values())))


def is_graph(layer: Layer) -> bool:
    """Return whether a layer is a functional or sequential model, which Keras can clone layer by layer."""
    return isinstance(layer, keras.Sequential) or (isinstance(layer, keras.Model) and hasattr(layer, "operations"))


def parts(layer: Layer) -> dict[str, Layer]:
    """Return the layers directly inside a layer as a dictionary.

    For a functional or sequential model the keys are the names of the layers. For any other layer they are the names of
    attributes. A layer in a list or dictionary has its index or key added, as in "blocks.0".
    """
    if is_graph(layer):
        return {inner.name: inner for inner in layer.layers}
    found = {}
    for name, value in vars(layer).items():
        if name not in ("_layers", "_tracker") and not name.startswith("_self_"):  # Keras' and TensorFlow's own lists
            found.update(_layers_in(name, value))
    return found


def _layers_in(path: str, value: Any) -> Iterator[tuple[str, Layer]]:
    if isinstance(value, Layer):
        yield path, value
    elif isinstance(value, (list, tuple, dict)):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _layers_in(f"{path}.{key}", entry)


def at(owner: Layer, path: str) -> Layer:
    """Return the layer inside another layer at a path.

    Args:
        owner: Layer or model.
        path: Keys as in `parts`, one for each level and separated by "/", such as "blocks.3/mlp/dense_1".
    """
    for name in path.split("/"):
        owner = parts(owner)[name]
    return owner


def put(owner: Layer, path: str, new: Layer) -> None:
    """Replace a layer inside another layer, in place.

    The new layer takes the old layer's position among the owner's layers, and the owner no longer tracks the old layer,
    unless another attribute of the owner also holds the old layer.

    Args:
        owner: Layer or model.
        path: Path of the layer that is replaced, such as "blocks.3/mlp/dense_1".
        new: New layer.
    """
    above, _, last = path.rpartition("/")
    owner = at(owner, above) if above else owner
    name, *keys = last.split(".")
    value, old = _with(getattr(owner, name), keys, new), parts(owner)[last]
    tracker = owner._tracker  # Keras locks it once a layer is built, and has no public way to replace a part
    locked, tracker.locked = tracker.locked, False
    place = [layer is old for layer in owner._layers].index(True)
    setattr(owner, name, value)
    if all(part is not old for part in parts(owner).values()):
        tracker.untrack(old)
        now = [layer is new for layer in owner._layers].index(True)
        owner._layers.insert(place, owner._layers.pop(now))  # weights keep their order
    tracker.locked = locked


def _with(value: Any, keys: list[str], new: Layer) -> Any:
    """Return a copy of nested lists, tuples and dictionaries of layers, in which one layer is replaced.

    Args:
        value: The nested structure, or the layer itself.
        keys: Keys and indices of the layer, as texts, from the outermost level inwards.
        new: Layer that replaces it.
    """
    if not keys:
        return new
    if isinstance(value, dict):
        return {key: _with(entry, keys[1:], new) if str(key) == keys[0] else entry for key, entry in value.items()}
    return type(value)(
        [_with(entry, keys[1:], new) if str(key) == keys[0] else entry for key, entry in enumerate(value)]
    )


def accepted_config(layer: Layer) -> dict[str, Any]:
    """Return the serialised form of a layer, without configuration entries that its constructor does not accept.

    Some layers include derived sizes in their configuration, and Keras cannot create these layers from it.
    """
    full = serialize_keras_object(layer)
    names = {"name", "trainable", "dtype"}
    for kind in type(layer).__mro__[: type(layer).__mro__.index(Layer)]:
        names |= set(inspect.signature(kind.__init__).parameters)
    return {**full, "config": {name: value for name, value in full["config"].items() if name in names}}


class _Swapped:
    """Base class of `SwappedLayer` and `SwappedModel`, which wrap a layer and replace layers inside it.

    All calls are passed to the wrapped layer, `inner`.

    Args:
        inner: Layer that nothing else uses; layers inside it are replaced in place.
        changed: Dictionary from a path, such as "blocks.3/mlp/dense_1", to the layer that is put there.
        inner_config: Serialised configuration of the layer before the replacement.
    """

    def __init__(self, inner, changed, inner_config, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.changed_paths = inner, list(changed)
        self._inner_config = inner_config  # configuration of the layer before its parts are replaced
        for path, part in changed.items():
            put(inner, path, part)
        self.supports_masking = inner.supports_masking
        self.built = inner.built

    def build(self, *shapes, **named_shapes):
        """Create the weights of the inner layer, unless they exist."""
        if not self.inner.built:
            self.inner.build(*shapes, **named_shapes)
        self.built = True

    def call(self, *args, **kwargs):
        """Return the outputs of the inner layer."""
        return self.inner(*args, **kwargs)

    def compute_mask(self, *args, **kwargs):
        """Return the mask of the inner layer."""
        return self.inner.compute_mask(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        """Return the output specification of the inner layer."""
        return self.inner.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        """Return the output shape of the inner layer."""
        return self.inner.compute_output_shape(*args, **kwargs)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        groups: dict[int, list[str]] = {}  # a layer with two paths is restored as one layer
        for path in self.changed_paths:
            groups.setdefault(id(at(self.inner, path)), []).append(path)
        changed = [
            {"paths": paths, "layer": serialize_keras_object(at(self.inner, paths[0]))} for paths in groups.values()
        ]
        base = {"name": self.name, "trainable": self.trainable, "dtype": serialize_keras_object(self.dtype_policy)}
        return {**base, "inner": self._inner_config, "changed": changed}

    @classmethod
    def from_config(cls, config):
        """Return the wrapper, with its inner layer and the replaced layers, that `get_config` described."""
        config = dict(config)
        inner = deserialize_keras_object(inner_config := config.pop("inner"))
        changed = {}
        for group in config.pop("changed"):
            changed |= dict.fromkeys(group["paths"], deserialize_keras_object(group["layer"]))
        dtype = deserialize_keras_object(config.pop("dtype"))
        return cls(inner, changed, inner_config, dtype=dtype, **config)


@keras.saving.register_keras_serializable("linearized")
class SwappedLayer(_Swapped, keras.layers.Layer):
    """Wrapper that `swap` puts around a copy of a layer if `swap` replaced layers inside the copy.

    The wrapper is also used for a layer whose constructor does not accept the layer's own configuration. Loading
    restores the inner layer from `inner_config` and then replaces the layers inside it again.

    Args:
        inner: Layer that nothing else uses; layers inside it are replaced in place.
        changed: Dictionary from a path, such as "blocks.3/mlp/dense_1", to the layer that is put there.
        inner_config: Serialised configuration of the layer before the replacement.

    Input shape: the input shape of `inner`.
    Output shape: the output shape of `inner`.
    """


@keras.saving.register_keras_serializable("linearized")
class SwappedModel(_Swapped, keras.Model):
    """Wrapper that `swap` puts around a copy of a model that is neither functional nor sequential.

    Args:
        inner: Model that nothing else uses; layers inside it are replaced in place.
        changed: Dictionary from a path, such as "blocks.3/mlp/dense_1", to the layer that is put there.
        inner_config: Serialised configuration of the model before the replacement.
    """
