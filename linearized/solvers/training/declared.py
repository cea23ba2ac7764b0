"""What layers tell solvers about their variables, by two methods that a layer may have.

`gradient_scales()` gives a multiplier for the gradient of each of its trainable variables, and `fixed_variables()` its
weights that no training changes, so that they need not be kept with every checkpoint.
"""

from collections.abc import Iterator

import keras


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def gradient_scales(model: keras.Model) -> list[float]:
    """One multiplier a trainable variable, in the model's order; 1 where a layer declares none."""
    declared = {}
    for layer in _layers(model):
        if hasattr(layer, "gradient_scales"):
            pairs = zip(layer.trainable_variables, layer.gradient_scales(), strict=True)
            declared |= {id(variable): scale for variable, scale in pairs}
    return [declared.get(id(variable), 1.0) for variable in model.trainable_variables]


def changing_weights(model: keras.Model) -> list[keras.Variable]:
    """The weights that training may change (trained ones, running statistics), in the model's order."""
    fixed = set()
    for layer in _layers(model):
        if hasattr(layer, "fixed_variables"):
            fixed |= {id(variable) for variable in layer.fixed_variables()}
    return [variable for variable in model.weights if id(variable) not in fixed]
