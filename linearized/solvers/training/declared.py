"""Optional methods by which layers declare properties of their variables to solvers.

`gradient_scales()` returns a multiplier for the gradient of each trainable variable of the layer. `fixed_variables()`
returns the weights that training does not change, so that checkpoints need not store them.
"""

from collections.abc import Iterator

import keras


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def gradient_scales(model: keras.Model) -> list[float]:
    """Return one multiplier per trainable variable, in the model's order; 1 where a layer declares none."""
    declared = {}
    for layer in _layers(model):
        if hasattr(layer, "gradient_scales"):
            pairs = zip(layer.trainable_variables, layer.gradient_scales(), strict=True)
            declared |= {id(variable): scale for variable, scale in pairs}
    return [declared.get(id(variable), 1.0) for variable in model.trainable_variables]


def changing_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights that training may change (trained ones, running statistics), in the model's order."""
    fixed = set()
    for layer in _layers(model):
        if hasattr(layer, "fixed_variables"):
            fixed |= {id(variable) for variable in layer.fixed_variables()}
    return [variable for variable in model.weights if id(variable) not in fixed]
