"""Functions that replace the convolutions of a trained model by kervolutions or by lambda layers."""

import keras

from linearized.layers.kervolution import Kervolution2D
from linearized.layers.lambda_layer import LambdaLayer
from linearized.layers.surgery.swap import swap
from linearized.layers.surgery.swapped import walk

PLACES = ("all", "inner")
Conv2D = keras.layers.Conv2D


def kervolved(
    model: keras.Model, kernel: str = "polynomial", places: str = "all", last: int = 0, **options
) -> keras.Model:
    """Return a copy of `model` in which kervolutions with the same filters and biases replace convolutions.

    Args:
        model: Built Keras model with `Conv2D` layers; it is unchanged.
        kernel: Kernel of the kervolutions: linear, polynomial, gaussian, sigmoid, l1 or l2, see `Kervolution2D`.
        places: Convolutions that can be replaced: "all", as in the public CIFAR-10 example, or "inner": all except the
            first convolution and 1x1 convolutions.
        last: Number of these convolutions that are replaced, counted from the end; 0: all.
        **options: Options of `Kervolution2D`: degree, offset, gamma, learnable, variant.

    Raises:
        ValueError: If there is no convolution to replace, or if `last` exceeds their number.
    """
    found = [layer for layer in walk(model) if type(layer) is Conv2D]
    if places == "inner":
        found = [layer for layer in found[1:] if max(layer.kernel_size) > 1]
    return _exchanged(model, found, last, lambda layer: Kervolution2D.from_conv(layer, kernel, **options))


def with_lambda_layers(
    model: keras.Model, heads: int = 4, keys: int = 16, scope: int = 0, last: int = 0, seed: int = 0, **options
) -> keras.Model:
    """Return a copy of `model` in which new, untrained lambda layers replace its spatial convolutions.

    A convolution is replaced if its window is larger than one pixel, its padding is "same", its data format is
    "channels_last", its strides are equal along rows and columns, its dilation and groups are one, and `heads` divides
    the number of its filters. The first convolution of the model and convolutions with an activation are kept. Biases
    are dropped.

    Args:
        model: Built Keras model with `Conv2D` layers; it is unchanged.
        heads: Number of queries per pixel, see `LambdaLayer`.
        keys: Depth of queries and keys, see `LambdaLayer`.
        scope: Side in pixels of the window of a position lambda, odd, or 0 for all pixels, see `LambdaLayer`.
        last: Number of these convolutions that are replaced, counted from the end; 0: all.
        seed: Random-number seed of the initial weights; each layer has its own draw.
        **options: Other options of `LambdaLayer`.

    Raises:
        ValueError: If there is no convolution to replace, or if `last` exceeds their number.
    """
    found = [layer for layer in list(walk(model)) if type(layer) is Conv2D][1:]
    found = [layer for layer in found if _can_be_lambda(layer, heads)]
    numbers = {id(layer): number for number, layer in enumerate(found)}

    def factory(layer):
        new = LambdaLayer(
            layer.filters, heads, keys, scope=scope, strides=layer.strides[0], seed=(seed, numbers[id(layer)]),
            kernel_regularizer=layer.kernel_regularizer, name=layer.name, dtype=layer.dtype_policy, **options,
        )  # fmt: skip
        new.build(layer.get_build_config()["input_shape"])
        return new

    return _exchanged(model, found, last, factory)


def _can_be_lambda(layer: Conv2D, heads: int) -> bool:
    plain = layer.groups == 1 and set(layer.dilation_rate) == {1} and layer.data_format == "channels_last"
    window = max(layer.kernel_size) > 1 and layer.padding == "same" and len(set(layer.strides)) == 1
    return plain and window and layer.filters % heads == 0 and layer.activation is keras.activations.linear


def _exchanged(model: keras.Model, found: list, last: int, factory) -> keras.Model:
    if not found or not 0 <= last <= len(found):
        raise ValueError(f"The model has {len(found)} convolutions that can be exchanged. Received: last={last}.")
    chosen = {id(layer) for layer in found[-last:]}
    return swap(model, {Conv2D: factory}, where=lambda layer: id(layer) in chosen)
