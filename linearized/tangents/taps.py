"""Recording of layer inputs in a Keras model, and taps on the linear outputs of layers that hold variables.

A tapped site is a tensor s = h ⋆ w + b that is linear in the variables of its layer, before the activation. The
derivative with respect to w and b follows from h and the derivative δ of an output with respect to s.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras

from linearized.base.errors import UserError

_L = keras.layers

# Rules by the function `call` of a layer, so that a subclass that overrides it has no rule. Sites of the first group
# lie before the activation; those of the second group are the outputs.
BEFORE_ACTIVATION = {
    _L.Dense.call: "dense",
    _L.EinsumDense.call: "einsum",
    _L.Conv1D.call: "conv",
    _L.Conv2D.call: "conv",
    _L.Conv3D.call: "conv",
    _L.DepthwiseConv1D.call: "depthwise",
    _L.DepthwiseConv2D.call: "depthwise",
    _L.SeparableConv1D.call: "separable",
    _L.SeparableConv2D.call: "separable",
}
OUTPUTS = {
    _L.BatchNormalization.call: "normalization",
    _L.LayerNormalization.call: "normalization",
    _L.Embedding.call: "embedding",
}


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
        layer: Layer that was called.
        kind: Name of the rule, a value of the tables of this module.
        inputs: Inputs of the layer; normalised inputs for a normalisation layer.
        site: The tapped tensor.
    """

    layer: keras.layers.Layer
    kind: str
    inputs: Any
    site: Any


def kind_of(layer: keras.layers.Layer) -> str | None:
    """Return the name of the rule of a layer, or None if it has none.

    A layer of this package names its rule in `tangent_rule`. It has the method `at_site(s)`, through which its call
    passes the site, and `entering(x)`, which returns the array that the kernel is multiplied by.
    """
    call = type(layer).call
    return BEFORE_ACTIVATION.get(call) or OUTPUTS.get(call) or getattr(layer, "tangent_rule", None)


@contextlib.contextmanager
def tapped(model: keras.Model, tap: Callable[[Any], Any]) -> Iterator[list[Call]]:
    """Yield the list that calls of the model's layers fill; restore activations and calls at the end.

    Args:
        model: Keras model whose layers with a rule and trainable variables are tapped.
        tap: Function that takes each site and returns the tensor that replaces it.
    """
    calls: list[Call] = []
    layers = [layer for layer in model._flatten_layers(include_self=True)
              if kind_of(layer) is not None and layer.trainable_variables]  # fmt: skip
    try:
        for layer in layers:  # bypasses Keras' `__setattr__`, which would track the function
            object.__setattr__(layer, "call", _recording(layer, kind_of(layer), calls, tap))
        yield calls
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


@contextlib.contextmanager
def recorded(model: keras.Model, name: str | None) -> Iterator[list[tuple[Any, Any]]]:
    """Yield the list of (inputs, outputs) that calls of layers fill.

    Args:
        model: Keras model that contains the layers.
        name: Name of the layer; None: all layers that have weights of their own.

    Raises `UserError` for a name that the model does not have.
    """
    seen: list[tuple[Any, Any]] = []
    layers = model._flatten_layers(include_self=False)
    chosen = [one for one in layers if (bool(one._trainable_variables) if name is None else one.name == name)]
    if not chosen:
        names = ", ".join(one.name for one in model._flatten_layers(include_self=False))
        raise UserError(f"The model {model.name} has no layer {name or 'with weights'}. Its layers are: {names[:600]}.")

    def recording(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = original(inputs, *args, **kwargs)
            seen.append((inputs, outputs))
            return outputs

        return call

    try:
        for layer in chosen:
            object.__setattr__(layer, "call", recording(layer.call))
        yield seen
    finally:
        for layer in chosen:
            object.__delattr__(layer, "call")


def _recording(layer: Any, kind: str, calls: list[Call], tap: Callable[[Any], Any]) -> Callable[..., Any]:
    original = layer.call

    def of_activation(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        activation, sites = layer.activation, []

        def tapping(site: Any) -> Any:
            sites.append(tap(site))
            return sites[0] if activation is None else activation(sites[0])

        object.__setattr__(layer, "activation", tapping)
        try:
            outputs = original(inputs, *args, **kwargs)
        finally:
            object.__setattr__(layer, "activation", activation)
        calls.append(Call(layer, kind, inputs, sites[0]))
        return outputs

    def of_output(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        site = tap(original(inputs, *args, **kwargs))
        calls.append(Call(layer, kind, _normalised(layer, inputs) if kind == "normalization" else inputs, site))
        return site

    def of_site(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        sites: list[Any] = []

        def at_site(site: Any) -> Any:
            sites.append(tap(site))
            return sites[0]

        object.__setattr__(layer, "at_site", at_site)
        try:
            outputs = original(inputs, *args, **kwargs)
        finally:
            object.__delattr__(layer, "at_site")
        calls.append(Call(layer, kind, layer.entering(inputs), sites[0]))
        return outputs

    if hasattr(layer, "at_site"):
        return of_site
    return of_output if type(layer).call in OUTPUTS else of_activation


def _normalised(layer: Any, inputs: Any) -> Any:
    """Return the array that a normalisation layer multiplies by γ in inference mode."""
    ops = keras.ops
    inputs = ops.cast(inputs, "float32")
    if isinstance(layer, _L.BatchNormalization):
        shape = [1] * len(inputs.shape)
        shape[layer.axis] = inputs.shape[layer.axis]
        mean, variance = (ops.reshape(one, shape) for one in (layer.moving_mean, layer.moving_variance))
    else:
        mean, variance = ops.moments(inputs, axes=layer.axis, keepdims=True)
    return (inputs - mean) / ops.sqrt(variance + layer.epsilon)
