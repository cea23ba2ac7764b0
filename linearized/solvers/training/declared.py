"""Functions that collect what the layers of a model declare about their variables, for training.

A layer can have two optional methods. `gradient_scales()` returns a multiplier for the gradient of each trainable
variable of the layer. `fixed_variables()` returns the weights that training does not change, which checkpoints need
not store. Keras' own attribute `supports_jit` states whether XLA can compile a layer.
"""

from collections.abc import Iterator

import keras


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def gradient_scales(model: keras.Model) -> list[float]:
    """Return the multiplier of the gradient of each trainable variable of a model, in the model's order.

    The multiplier is 1 for the variables of layers without a method `gradient_scales`.
    """
    declared = {}
    for layer in _layers(model):
        if hasattr(layer, "gradient_scales"):
            pairs = zip(layer.trainable_variables, layer.gradient_scales(), strict=True)
            declared |= {id(variable): scale for variable, scale in pairs}
    return [declared.get(id(variable), 1.0) for variable in model.trainable_variables]


def computes_rows(model: keras.Model) -> bool:
    """Return whether XLA can compile the model and the outputs of every layer are rows (n, d), as in dense networks.

    The result is False for a model that is not functional, because the shapes of its layers are not known.
    """
    outputs = [getattr(layer, "output", None) for layer in _layers(model)]
    return all(layer.supports_jit for layer in _layers(model)) and all(
        len(getattr(output, "shape", ())) == 2 for output in outputs
    )


def changing_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights of a model that training may change, in the model's order.

    These are all weights, including running statistics, except those that the method `fixed_variables` of a layer
    returns.
    """
    fixed = set()
    for layer in _layers(model):
        if hasattr(layer, "fixed_variables"):
            fixed |= {id(variable) for variable in layer.fixed_variables()}
    return [variable for variable in model.weights if id(variable) not in fixed]
