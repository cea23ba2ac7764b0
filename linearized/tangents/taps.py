"""Functions that record the inputs and intermediate tensors of layers while a Keras model runs.

The site of a layer is the tensor s = h ⋆ w + b that is linear in the variables w and b of the layer: the input of its
activation, or the output of the layer. Derivatives with respect to w and b follow from the layer's inputs h and from
the derivative of the model's output with respect to s. A tap is a function that is called on each site and may replace
it, for example by a tensor that is watched for differentiation.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras

from linearized.base.errors import UserError

_L = keras.layers

# Names of the rules (see `rules`) by the method `call` of a layer, so that a subclass that overrides it has no rule.
# The sites of the first group are what the activation takes; those of the second group are the outputs.
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
    """Record of one call of a layer while a model runs.

    Attributes:
        layer: Layer that was called.
        kind: Name of the rule for its derivatives, a key of `linearized.tangents.rules.RULES`.
        inputs: Inputs of the layer. For a normalisation layer, the normalised inputs before the multiplication by its
            scale. None if only the layer and its rule are recorded.
        site: Tensor that is linear in the layer's variables, such as the input of its activation. None if only the
            layer and its rule are recorded.
    """

    layer: keras.layers.Layer
    kind: str
    inputs: Any
    site: Any


def kind_of(layer: keras.layers.Layer) -> str | None:
    """Return the name of the rule for the derivatives of a layer, a key of `rules.RULES`, or None if it has none.

    The rule of a standard Keras layer depends on the type of the layer. A layer of this package can name its rule in
    the attribute `tangent_rule`, and then has two methods. `at_site(s)` is called by `call` with the tensor s that is
    linear in the variables, and returns s. `entering(x)` returns the array that the kernel is multiplied by.
    """
    call = type(layer).call
    return BEFORE_ACTIVATION.get(call) or OUTPUTS.get(call) or getattr(layer, "tangent_rule", None)


@contextlib.contextmanager
def tapped(model: keras.Model, tap: Callable[[Any], Any]) -> Iterator[list[Call]]:
    """Record the calls of a model's layers within a `with` block, and apply a function to their sites.

    Args:
        model: Keras model. Its layers that have a rule (see `kind_of`) and trainable variables are recorded.
        tap: Function that is called with the site of each layer, the tensor that is linear in the layer's variables. It
            returns the tensor that replaces the site.

    Yields:
        List to which each call of these layers adds a `Call`.
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
    """Record the inputs and outputs of layers of a model within a `with` block.

    Args:
        model: Keras model that contains the layers.
        name: Name of the layer; None: all layers that have trainable weights of their own.

    Yields:
        List to which each call of these layers adds a pair (inputs, outputs).

    Raises:
        UserError: For a name that the model does not have.
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
    """Return the normalised inputs of a normalisation layer in inference mode, before the multiplication by γ.

    Args:
        layer: Keras batch normalisation, with its stored mean and variance, or layer normalisation.
        inputs: Inputs of the layer.
    """
    ops = keras.ops
    inputs = ops.cast(inputs, "float32")
    if isinstance(layer, _L.BatchNormalization):
        shape = [1] * len(inputs.shape)
        shape[layer.axis] = inputs.shape[layer.axis]
        mean, variance = (ops.reshape(one, shape) for one in (layer.moving_mean, layer.moving_variance))
    else:
        mean, variance = ops.moments(inputs, axes=layer.axis, keepdims=True)
    return (inputs - mean) / ops.sqrt(variance + layer.epsilon)
