"""Kervolution: a convolution whose inner product of patch and filter is a kernel (Wang et al., CVPR 2019).

| kernel       | of a patch x and a filter w, bias b | computed by                                            |
| "linear"     | x·w + b                             | a convolution: exactly Keras' own layer                |
| "polynomial" | (x·w + b + c)^p                     | a convolution, then powers by squaring                 |
| "sigmoid"    | tanh(x·w + b + c)                   | a convolution                                          |
| "gaussian"   | exp(-γ‖x - w‖²) + b                 | ‖x‖² - 2x·w + ‖w‖², ‖x‖² by a one-channel convolution  |
| "l2"         | ‖x - w‖₂ + b                        | the same                                               |
| "l1"         | ‖x - w‖₁ + b                        | a sum over the kernel's offsets and the input channels |

No kernel but L1 costs more than a convolution and a few passes over its output, and none holds unfolded patches or a
difference of each patch and each filter. Padding is with zeros, which count as inputs in the distances.
"""

import keras
from keras import ops

from linearized.layers.patches import convolve, l1_distance

KERNELS = ("linear", "polynomial", "gaussian", "sigmoid", "l1", "l2")
DISTANCES = ("gaussian", "l1", "l2")
OPTIONS = {"degree": ("polynomial",), "offset": ("polynomial", "sigmoid"), "gamma": ("gaussian",)}
LEARNED = ("polynomial", "sigmoid", "gaussian")  # kernels that have a c or a γ to be learned
DEGREE, POLYNOMIAL_OFFSET, SIGMOID_OFFSET = 3, 1.0, 0.0
SMALLEST = 1e-12  # below this square the L2 distance counts as constant: the root's slope at 0 is infinite


class _Kervolution:
    """What the layers of 1, 2 and 3 dimensions share; stands before Keras' convolution in the order of the classes."""

    def __init__(
        self, filters, kernel_size, kernel="polynomial", degree=None, offset=None, gamma=None, learnable=False, **kwargs
    ):
        super().__init__(filters, kernel_size, **kwargs)
        if kernel not in KERNELS:
            raise ValueError(f"`kernel` must be one of {', '.join(KERNELS)}. Received: kernel={kernel!r}.")
        for name, value in (("degree", degree), ("offset", offset), ("gamma", gamma)):
            if value is not None and kernel not in OPTIONS[name]:
                raise ValueError(f"The {kernel} kernel has no `{name}`. Received: {name}={value}.")
        if degree is not None and (degree < 1 or degree != int(degree)):
            raise ValueError(f"`degree` must be a whole number of at least 1. Received: degree={degree}.")
        if gamma is not None and not gamma > 0:
            raise ValueError(f"`gamma` must be positive. Received: gamma={gamma}.")
        if learnable and kernel not in LEARNED:
            raise ValueError(f"The {kernel} kernel has nothing to learn. Received: learnable={learnable}.")
        self.kernel_name, self.degree, self.offset, self.gamma = kernel, degree, offset, gamma
        self.learnable = bool(learnable)

    def build(self, input_shape):
        super().build(input_shape)
        patch = 1
        for size in self.kernel.shape[:-1]:
            patch *= size
        self._gamma = self.gamma or 1 / patch
        learned = {"gaussian": "gamma_ratio"}.get(self.kernel_name, "offset_weight")
        if self.learnable:
            start = 0.0 if self.kernel_name == "gaussian" else self._offset()
            constant = keras.initializers.Constant(start)
            self.learned = self.add_weight(name=learned, shape=(), initializer=constant)

    def _offset(self):
        if self.offset is not None:
            return float(self.offset)
        return POLYNOMIAL_OFFSET if self.kernel_name == "polynomial" else SIGMOID_OFFSET

    def call(self, x):
        if self.kernel_name in DISTANCES:
            values = self._of_distance(x)
            values = values if self.bias is None else values + self._by_filter(ops.cast(self.bias, values.dtype))
            values = ops.cast(values, self.compute_dtype)
        else:
            values = self._of_product(convolve(self, x, self.kernel))
        return values if self.activation is None else self.activation(values)

    def _of_product(self, product):
        shift = None if self.bias is None else self._by_filter(self.bias)
        if self.kernel_name != "linear" and (self.learnable or self._offset()):
            offset = self.learned if self.learnable else self._offset()
            shift = offset if shift is None else shift + offset  # one pass over the outputs, not two
        product = product if shift is None else product + shift
        if self.kernel_name == "linear":
            return product
        if self.kernel_name == "sigmoid":
            return ops.tanh(product)
        return _power(product, DEGREE if self.degree is None else int(self.degree))

    def _of_distance(self, x):
        """In float32 at the least: the norms cancel, and half precision would leave nothing of a small distance."""
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        x, weights = ops.cast(x, dtype), ops.cast(self.kernel, dtype)
        if self.kernel_name == "l1":
            return l1_distance(self, x, weights)
        if self.kernel_name == "l2":
            return ops.sqrt(ops.maximum(self._minus_squares(x, weights, -1.0), SMALLEST))
        gamma = self._gamma
        if self.learnable:  # of any sign, so that γ stays positive
            gamma = gamma * ops.exp(ops.cast(self.learned, dtype))
        return ops.exp(ops.minimum(self._minus_squares(x, weights, gamma), 0.0))

    def _minus_squares(self, x, weights, scale):
        """-scale·‖x - w‖² for each patch and filter; rounding can bring it over 0. Factors go into small tensors."""
        axis = self._channel_axis()
        of_filters = ops.sum(ops.square(weights), axis=tuple(range(self.rank + 1)))
        products = convolve(self, x, weights * (2 * scale)) - self._by_filter(of_filters * scale)
        return products - self._of_patches(x, scale, axis)

    def _of_patches(self, x, scale, axis):
        """scale·‖x‖² of every patch: squares summed over channels, then a convolution with ones."""
        squares = ops.square(x)
        if self.groups == 1:
            squares = ops.sum(squares, axis=axis, keepdims=True)
            return convolve(self, squares, ops.full((*self.kernel_size, 1, 1), scale, dtype=x.dtype))
        ones = ops.ones((*self.kernel_size, x.shape[axis] // self.groups, self.groups), dtype=x.dtype)
        norms = convolve(self, squares, ones * scale)
        return ops.repeat(norms, self.filters // self.groups, axis=axis)

    def _channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def _by_filter(self, values):
        """(filters,) in the shape that meets the outputs."""
        return values if self.data_format == "channels_last" else ops.reshape(values, (1, -1, *(1,) * self.rank))

    @classmethod
    def from_conv(cls, layer, kernel="polynomial", **options):
        """A kervolution with the geometry, name, activation and weights of a Keras convolution of the same dimension.

        Args:
            layer: Built or not; if it is built, so is the new layer, with a copy of its weights.
            kernel, options: The kernel and its parameters, as for the class.
        """
        own = cls.__mro__[2]
        if not isinstance(layer, own):
            raise ValueError(f"`{cls.__name__}.from_conv` takes a {own.__name__}. Received: {type(layer).__name__}.")
        config = {name: value for name, value in layer.get_config().items() if name not in _OWN}
        new = cls.from_config({**config, "kernel": kernel, **options})
        if layer.built:
            channels = layer.kernel.shape[-2] * layer.groups
            last = new.data_format == "channels_last"
            sizes = (None,) * layer.rank
            new.build((None, *sizes, channels) if last else (None, channels, *sizes))
            for ours, theirs in ((new.kernel, layer.kernel), (new.bias, layer.bias)):
                if theirs is not None:
                    ours.assign(theirs)
        return new

    def save_own_variables(self, store):
        super().save_own_variables(store)  # Keras' convolutions name what they save: filters and bias
        if self.learnable:
            store[str(len(store.keys()))] = self.learned

    def load_own_variables(self, store):
        super().load_own_variables(store)
        if self.learnable:
            self.learned.assign(store[str(len(store.keys()) - 1)])

    def get_config(self):
        return {**super().get_config(), "kernel": self.kernel_name, **{name: getattr(self, name) for name in _OWN[1:]}}


_OWN = ("kernel", "degree", "offset", "gamma", "learnable")

_ARGUMENTS = """
    Args:
        filters, kernel_size: And all other arguments of the Keras convolution (strides, padding, dilation_rate, groups,
            data_format, activation, use_bias, initializers, regularizers), with its meaning.
        kernel: One of linear, polynomial, gaussian, sigmoid, l1, l2; see the module's table.
        degree: p of the polynomial, 3 if None.
        offset: c of the polynomial (1 if None) and of the sigmoid (0 if None).
        gamma: γ of the Gaussian; None: one over the length of a patch, so that the exponent is a mean.
        learnable: Whether c, or γ as a factor that stays positive, is trained; one number a layer.
"""


@keras.saving.register_keras_serializable("linearized")
class Kervolution1D(_Kervolution, keras.layers.Conv1D):
    __doc__ = f"""Kervolution of sequences.
{_ARGUMENTS}
    Input shape: `(n, length, channels)`, or `(n, channels, length)` with "channels_first".
    Output shape: that of `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("linearized")
class Kervolution2D(_Kervolution, keras.layers.Conv2D):
    __doc__ = f"""Kervolution of images.
{_ARGUMENTS}
    Input shape: `(n, height, width, channels)`, or `(n, channels, height, width)` with "channels_first".
    Output shape: that of `keras.layers.Conv2D`.
    """


@keras.saving.register_keras_serializable("linearized")
class Kervolution3D(_Kervolution, keras.layers.Conv3D):
    __doc__ = f"""Kervolution of volumes.
{_ARGUMENTS}
    Input shape: `(n, depth, height, width, channels)`, or `(n, channels, depth, ...)` with "channels_first".
    Output shape: that of `keras.layers.Conv3D`.
    """


def _power(x, exponent):
    """x^exponent by squaring: no logarithm, and a slope of two passes where the rule for products would take five."""
    if exponent == 1:
        return x

    @ops.custom_gradient
    def power(x):
        lower = _product(x, exponent - 1)

        def grad(*args, upstream=None):
            slope = args[0] if upstream is None else upstream
            return (slope * exponent) * lower

        return lower * x, grad

    return power(x)


def _product(x, exponent):
    result = None
    while exponent:
        if exponent & 1:
            result = x if result is None else result * x
        exponent >>= 1
        x = ops.square(x) if exponent else x
    return result
