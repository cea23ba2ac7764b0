"""Kervolution: a convolution that replaces the inner product of patch and filter by a kernel (Wang et al., CVPR 2019).

With a patch x, a filter w and its bias b, the kernels are as follows. The degree p, the offset c and the width γ are
arguments of the layers.

| kernel       | value                               | computed by                                            |
|--------------|-------------------------------------|--------------------------------------------------------|
| "linear"     | x·w + b                             | a convolution: exactly Keras' own layer                |
| "polynomial" | (x·w + b + c)^p                     | a convolution, then powers by squaring                 |
| "sigmoid"    | tanh(x·w + b + c)                   | a convolution                                          |
| "gaussian"   | exp(-γ‖x - w‖²) + b                 | a convolution and norms, see `layers.distances`        |
| "l2"         | ‖x - w‖₂ + b                        | a convolution and norms, see `layers.distances`        |
| "l1"         | ‖x - w‖₁ + b                        | a sum over the entries of a patch                      |

Every kernel except "l1" costs a convolution and a few passes over its output. No kernel stores copies of all patches,
or the differences of all patches and filters. Padding is with zeros, which count as inputs in the distances.

`variant="published"` follows the public PyTorch implementation (ryanaleksander/kernel-convolution, whose CIFAR-10
example trains a ResNet-50). It differs from the table in three points:

- The defaults are p = 2 and γ = 1/2.
- The bias is added after the kernel: (x·w + c)^p + b and tanh(x·w + c) + b.
- Filters and biases start uniform within ±1/√P, where P is the length of a patch.

Three errors of the PyTorch implementation are not repeated. Its Gaussian reshapes filters without a transpose, which
mixes them. It reshapes outputs in the same way, which mixes channels and pixels. It exchanges height and width.
"""

import keras
from keras import ops

from linearized.layers.distances import by_filter, scaled_squares
from linearized.layers.kervolution_stack import warn_of_stack
from linearized.layers.kervolution_start import deviation
from linearized.layers.patches import convolve, l1_distance
from linearized.layers.shapes import check_shape

KERNELS = ("linear", "polynomial", "gaussian", "sigmoid", "l1", "l2")
DISTANCES = ("gaussian", "l1", "l2")
VARIANTS = ("standard", "published")
# Argument -> kernels that read it
OPTIONS = {"degree": ("polynomial",), "offset": ("polynomial", "sigmoid"), "gamma": ("gaussian",)}
LEARNED = ("polynomial", "sigmoid", "gaussian")  # kernels whose c or γ can be learned
DEGREE, POLYNOMIAL_OFFSET, SIGMOID_OFFSET = 3, 1.0, 0.0
PUBLISHED_DEGREE, PUBLISHED_GAMMA = 2, 0.5
SMALLEST = 1e-12  # lower bound of squared L2 distances, because the derivative of the root at 0 is infinite


class _Kervolution:
    """Base class of `Kervolution1D`, `Kervolution2D` and `Kervolution3D`, which document the arguments.

    In the list of base classes it must precede Keras' convolution, because it replaces the convolution's `call`.
    """

    def __init__(
        self, filters, kernel_size, kernel="polynomial", degree=None, offset=None, gamma=None, learnable=False,
        variant="standard", kernel_initializer=None, bias_initializer=None, **kwargs,
    ):  # fmt: skip
        super().__init__(
            filters, kernel_size, kernel_initializer=kernel_initializer or "glorot_uniform",
            bias_initializer=bias_initializer or "zeros", **kwargs,
        )  # fmt: skip
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
        if variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: variant={variant!r}.")
        self.kernel_name, self.degree, self.offset, self.gamma = kernel, degree, offset, gamma
        self.learnable, self.variant = bool(learnable), variant
        self._starts_by_kernel, self._bias_by_variant = kernel_initializer is None, bias_initializer is None

    def build(self, input_shape):
        """Create the weights, with initial values that depend on the layer's kernel and on its argument `variant`."""
        patch = input_shape[self._channel_axis()] // self.groups
        for size in self.kernel_size:
            patch *= size
        published = self.variant == "published"
        self._gamma = self.gamma or (PUBLISHED_GAMMA if published else 1 / patch)
        if self._bias_by_variant and published:
            self.bias_initializer = keras.initializers.RandomUniform(-(patch**-0.5), patch**-0.5)
        if self._starts_by_kernel and published:
            self.kernel_initializer = keras.initializers.RandomUniform(-(patch**-0.5), patch**-0.5)
        elif self._starts_by_kernel and self.kernel_name != "linear":
            start = deviation(self.kernel_name, patch, self._degree(), self._offset(), self._gamma)
            self.kernel_initializer = keras.initializers.RandomNormal(stddev=start)
        super().build(input_shape)
        learned = {"gaussian": "gamma_ratio"}.get(self.kernel_name, "offset_weight")
        if self.learnable:
            start = 0.0 if self.kernel_name == "gaussian" else self._offset()
            constant = keras.initializers.Constant(start)
            self.learned = self.add_weight(name=learned, shape=(), initializer=constant)
        self.input_spec = None  # `call` makes the same check, with an error that names the received shape

    def _degree(self):
        if self.degree is not None:
            return int(self.degree)
        return PUBLISHED_DEGREE if self.variant == "published" else DEGREE

    def _offset(self):
        if self.offset is not None:
            return float(self.offset)
        return POLYNOMIAL_OFFSET if self.kernel_name == "polynomial" else SIGMOID_OFFSET

    def __call__(self, x, *args, **kwargs):
        warn_of_stack(self, x)
        return super().__call__(x, *args, **kwargs)

    def call(self, x):
        """Return the kernel values of all patches of the inputs x and all filters, with bias and activation applied."""
        channels, sizes = self.kernel.shape[-2] * self.groups, (None,) * self.rank
        last = self.data_format == "channels_last"
        check_shape(self, x.shape, (None, *sizes, channels) if last else (None, channels, *sizes))
        if self.kernel_name in DISTANCES:
            values = self._of_distance(x)
            values = values if self.bias is None else values + by_filter(self, ops.cast(self.bias, values.dtype))
            values = ops.cast(values, self.compute_dtype)
        else:
            values = self._of_product(convolve(self, x, self.kernel))
        return values if self.activation is None else self.activation(values)

    def _of_product(self, product):
        bias = None if self.bias is None else by_filter(self, self.bias)
        inside = self.variant == "standard" or self.kernel_name == "linear"
        shift = bias if inside else None
        if self.kernel_name != "linear" and (self.learnable or self._offset()):
            offset = self.learned if self.learnable else self._offset()
            shift = offset if shift is None else shift + offset  # one pass over the outputs, not two
        values = product if shift is None else product + shift
        if self.kernel_name == "sigmoid":
            values = ops.tanh(values)
        elif self.kernel_name == "polynomial":
            values = _power(values, self._degree())
        return values if inside or bias is None else values + bias

    def _of_distance(self, x):
        """Return the values of the kernel "gaussian", "l2" or "l1" for inputs x, before the bias is added.

        The data type is float32, or float64 in a float64 layer. In half precision, rounding errors of ‖x‖² and ‖w‖²
        would exceed small distances.
        """
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        x, weights = ops.cast(x, dtype), ops.cast(self.kernel, dtype)
        if self.kernel_name == "l1":
            return l1_distance(self, x, weights)
        if self.kernel_name == "l2":
            return ops.sqrt(ops.maximum(scaled_squares(self, x, weights, 1.0), SMALLEST))
        gamma = self._gamma
        if self.learnable:  # the learned number may have any sign, γ stays positive
            gamma = gamma * ops.exp(ops.cast(self.learned, dtype))
        return ops.exp(ops.minimum(scaled_squares(self, x, weights, -gamma), 0.0))

    def _channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    @classmethod
    def from_conv(cls, layer, kernel="polynomial", **options):
        """Return a kervolution with the geometry, name, activation and weights of a Keras convolution.

        Args:
            layer: Convolution with the same number of axes. If it is built, the new layer is built too and gets a copy
                of its weights. Default initializers of Keras are replaced by those of the kernel and the variant;
                other initializers are kept.
            kernel: Name of the kernel: linear, polynomial, gaussian, sigmoid, l1 or l2.
            **options: Parameters of the kernel: degree, offset, gamma, learnable and variant, as for the class.

        Raises:
            ValueError: If `layer` is not a Keras convolution of the same number of axes.
        """
        own = cls.__mro__[2]
        if not isinstance(layer, own):
            raise ValueError(f"`{cls.__name__}.from_conv` takes a {own.__name__}. Received: {type(layer).__name__}.")
        config = {name: value for name, value in layer.get_config().items() if name not in _OWN}
        if isinstance(layer.kernel_initializer, keras.initializers.GlorotUniform):
            config.pop("kernel_initializer")
        if isinstance(layer.bias_initializer, keras.initializers.Zeros):
            config.pop("bias_initializer")
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
        """Save the filters, the biases and, if `learnable` is set, the trained offset c or width γ of the kernel."""
        super().save_own_variables(store)  # Keras' convolutions save filters and bias alone
        if self.learnable:
            store[str(len(store.keys()))] = self.learned

    def load_own_variables(self, store):
        """Load the filters, the biases and, if `learnable` is set, the trained offset c or width γ of the kernel."""
        super().load_own_variables(store)
        if self.learnable:
            self.learned.assign(store[str(len(store.keys()) - 1)])

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        start = {"kernel_initializer": None} if self._starts_by_kernel else {}
        start |= {"bias_initializer": None} if self._bias_by_variant else {}
        own = {name: getattr(self, name) for name in _OWN[1:]}
        return {**super().get_config(), **start, "kernel": self.kernel_name, **own}


_OWN = ("kernel", "degree", "offset", "gamma", "learnable", "variant")

_ARGUMENTS = """
    Each output is a kernel of a patch x and a filter w, two vectors of length P (the product of the kernel sizes and
    the channels per group), plus the bias b of the filter (Wang et al., CVPR 2019):

    - "linear": x·w + b, which is Keras' own convolution.
    - "polynomial": (x·w + b + c)^p.
    - "sigmoid": tanh(x·w + b + c).
    - "gaussian": exp(-γ‖x - w‖²) + b.
    - "l2": ‖x - w‖₂ + b.
    - "l1": ‖x - w‖₁ + b.

    Args:
        filters, kernel_size: These and all other arguments of the Keras convolution (strides, padding, dilation_rate,
            groups, data_format, activation, use_bias, initializers, regularizers) keep their meaning.
        kernel: Name of the kernel: linear, polynomial, gaussian, sigmoid, l1 or l2.
        degree: p of the polynomial; None: 3, or 2 in the published variant.
        offset: c of the polynomial (1 if None) and of the sigmoid (0 if None).
        gamma: γ of the Gaussian. None: 1/P, so that the exponent is a mean over the patch, or 0.5 in the published
            variant.
        learnable: Whether c, or γ as a factor that stays positive, is trained; one number per layer.
        variant: "standard", or "published" for the defaults, the bias and the initial filters of the public PyTorch
            implementation: it computes (x·w + c)^p + b and tanh(x·w + c) + b.
        kernel_initializer: Initializer of the filters. None: normal, with the standard deviation of
            `linearized.layers.kervolution_start`; Glorot and Bengio's for the linear kernel; uniform within ±1/√P in
            the published variant.
        bias_initializer: Initializer of the bias; None: zeros, or uniform within ±1/√P in the published variant.
"""


@keras.saving.register_keras_serializable("linearized")
class Kervolution1D(_Kervolution, keras.layers.Conv1D):
    __doc__ = f"""Kervolution of sequences: a convolution in which a kernel replaces the product of patch and filter.
{_ARGUMENTS}
    Input shape: `(n, length, channels)`, or `(n, channels, length)` with "channels_first".
    Output shape: the output shape of `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("linearized")
class Kervolution2D(_Kervolution, keras.layers.Conv2D):
    __doc__ = f"""Kervolution of images: a convolution in which a kernel replaces the product of patch and filter.
{_ARGUMENTS}
    Input shape: `(n, height, width, channels)`, or `(n, channels, height, width)` with "channels_first".
    Output shape: the output shape of `keras.layers.Conv2D`.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from linearized.layers.kervolution import Kervolution2D
        >>> x = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype("float32")
        >>> layer = Kervolution2D(4, 3, kernel="linear")
        >>> convolution = keras.layers.Conv2D(4, 3)
        >>> convolution.build(x.shape)
        >>> shape = tuple(layer(x).shape)
        >>> convolution.set_weights(layer.get_weights())
        >>> shape, np.allclose(layer(x), convolution(x), atol=1e-5)
        ((1, 4, 4, 4), True)
    """


@keras.saving.register_keras_serializable("linearized")
class Kervolution3D(_Kervolution, keras.layers.Conv3D):
    __doc__ = f"""Kervolution of volumes: a convolution in which a kernel replaces the product of patch and filter.
{_ARGUMENTS}
    Input shape: `(n, depth, height, width, channels)`, or `(n, channels, depth, ...)` with "channels_first".
    Output shape: the output shape of `keras.layers.Conv3D`.
    """


def _power(x, exponent):
    """Return x^exponent elementwise, by repeated squaring.

    The derivative is defined here too. It takes two passes over x; automatic differentiation would take five.

    Args:
        x: Tensor.
        exponent: Whole number of at least 1.
    """
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
