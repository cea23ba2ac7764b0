"""Kervolutions against Keras' convolutions, and against loops over patches and filters that a page of text defines."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from linearized.layers.kervolution import KERNELS, OPTIONS, Kervolution1D, Kervolution2D, Kervolution3D
from linearized.layers.surgery.swap import swap
from linearized.settings.model_settings import KERVOLUTIONS

CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
KERVOLUTIONS_OF = {1: Kervolution1D, 2: Kervolution2D, 3: Kervolution3D}
# Sides differ in every axis, so that height and width cannot be swapped unseen; 4 channels and 6 filters likewise.
SIZES = {1: (9,), 2: (7, 5), 3: (5, 4, 3)}
WINDOWS = {1: 3, 2: (3, 2), 3: (2, 3, 2)}
GEOMETRIES = {
    "valid": {},
    "same": {"padding": "same"},
    "strides": {"strides": 2, "padding": "same"},
    "strides, valid": {"strides": 2},
    "dilation": {"dilation_rate": 2, "padding": "same"},
    "groups": {"groups": 2, "padding": "same"},
    "channels first": {"data_format": "channels_first", "padding": "same"},
    "all": {"groups": 2, "strides": 2, "padding": "same", "data_format": "channels_first"},
}
FUNCTIONS = {
    "linear": lambda x, w, b: (x * w).sum() + b,
    "polynomial": lambda x, w, b: ((x * w).sum() + b + 1.0) ** 3,
    "sigmoid": lambda x, w, b: np.tanh((x * w).sum() + b),
    "gaussian": lambda x, w, b: np.exp(-((x - w) ** 2).mean()) + b,
    "l1": lambda x, w, b: np.abs(x - w).sum() + b,
    "l2": lambda x, w, b: np.sqrt(((x - w) ** 2).sum()) + b,
}


def inputs(rank, geometry, seed=0, rows=2):
    x = np.random.default_rng(seed).standard_normal((rows, *SIZES[rank], 4)).astype(np.float32)
    return np.moveaxis(x, -1, 1) if geometry.get("data_format") == "channels_first" else x


def built(layer, x):
    layer.build(x.shape)
    random = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(0.3 * random.standard_normal(variable.shape))
    return layer


def by_loops(layer, x, function):
    """Output by output: the patch under a filter, place by place and in float64, goes into `function(x, w, b)`."""
    kernel, bias = np.asarray(layer.kernel, np.float64), np.asarray(layer.bias, np.float64)
    first = layer.data_format == "channels_first"
    x = (np.moveaxis(x, 1, -1) if first else x).astype(np.float64)
    window = kernel.shape[:-2]
    spans = [(size - 1) * rate + 1 for size, rate in zip(window, layer.dilation_rate, strict=True)]
    before, outputs = [], []
    for axis, (span, stride) in enumerate(zip(spans, layer.strides, strict=True), start=1):
        length = x.shape[axis]
        if layer.padding == "same":
            count = -(-length // stride)
            padding = max((count - 1) * stride + span - length, 0)
            before.append((padding // 2, padding - padding // 2))
        elif layer.padding == "causal":
            count, padding = -(-length // stride), span - 1
            before.append((padding, 0))
        else:
            count = (length - span) // stride + 1
            before.append((0, 0))
        outputs.append(count)
    padded = np.pad(x, [(0, 0), *before, (0, 0)])
    found = np.zeros((len(x), *outputs, layer.filters))
    of_group, inside = layer.filters // layer.groups, kernel.shape[-2]
    for place in np.ndindex(*found.shape[:-1]):
        start = [at * stride for at, stride in zip(place[1:], layer.strides, strict=True)]
        for f in range(layer.filters):
            group = f // of_group
            patch = np.zeros((*window, inside))
            for offset in np.ndindex(*window):
                at = tuple(s + o * r for s, o, r in zip(start, offset, layer.dilation_rate, strict=True))
                patch[offset] = padded[(place[0], *at)][group * inside : (group + 1) * inside]
            found[(*place, f)] = function(patch, kernel[..., f], bias[f])
    return np.moveaxis(found, -1, 1) if first else found


CASES = [
    *(
        pytest.param(rank, GEOMETRIES[name], id=f"{rank}D {name}")
        for rank, name in itertools.product((1, 2, 3), GEOMETRIES)
    ),
    pytest.param(1, {"padding": "causal", "dilation_rate": 2}, id="1D causal"),
    pytest.param(2, {"strides": (1, 2)}, id="2D strides that differ"),
    pytest.param(2, {"dilation_rate": (1, 2), "padding": "same"}, id="2D dilations that differ"),
    pytest.param(3, {"strides": (2, 1, 2), "padding": "same"}, id="3D strides that differ"),
]


@pytest.mark.parametrize("rank, geometry", CASES)
def test_degree_one_without_offset_is_the_convolution(rank, geometry):
    """Keras' own layer with the same weights: strides, padding, dilation, groups, data formats, in 1, 2 and 3 axes."""
    x = inputs(rank, geometry)
    conv = built(CONVOLUTIONS[rank](6, WINDOWS[rank], activation="relu", **geometry), x)
    layer = KERVOLUTIONS_OF[rank].from_conv(conv, kernel="polynomial", degree=1, offset=0.0)
    np.testing.assert_array_equal(layer(x), conv(x))
    linear = KERVOLUTIONS_OF[rank].from_conv(conv, kernel="linear")
    np.testing.assert_array_equal(linear(x), conv(x))
    assert layer.compute_output_shape(x.shape) == layer(x).shape


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != "linear"])
@pytest.mark.parametrize("rank, geometry", CASES)
def test_kernels_equal_loops_over_patches(rank, geometry, kernel):
    x = inputs(rank, geometry)
    layer = built(KERVOLUTIONS_OF[rank](6, WINDOWS[rank], kernel=kernel, **geometry), x)
    np.testing.assert_allclose(layer(x), by_loops(layer, x, FUNCTIONS[kernel]), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_compiled_by_xla_channels_first_images_are_channels_last_images_transposed(kernel):
    x = inputs(2, {})
    last = built(Kervolution2D(6, 3, kernel=kernel, padding="same", groups=2), x)
    first = Kervolution2D.from_conv(last, kernel, data_format="channels_first")
    model = keras.Sequential([keras.Input((4, *SIZES[2])), first])
    model.compile(jit_compile=True)
    there = model.predict(np.moveaxis(x, -1, 1), verbose=0)
    np.testing.assert_allclose(np.moveaxis(there, 1, -1), last(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel", "options", "function"), [
    ("polynomial", {"degree": 5, "offset": -0.5}, lambda x, w, b: ((x * w).sum() + b - 0.5) ** 5),
    ("polynomial", {"degree": 2, "learnable": True}, lambda x, w, b: ((x * w).sum() + b + LEARNED) ** 2),
    ("sigmoid", {"offset": 0.7}, lambda x, w, b: np.tanh((x * w).sum() + b + 0.7)),
    ("sigmoid", {"learnable": True}, lambda x, w, b: np.tanh((x * w).sum() + b + LEARNED)),
    ("gaussian", {"gamma": 0.3}, lambda x, w, b: np.exp(-0.3 * ((x - w) ** 2).sum()) + b),
    ("gaussian", {"gamma": 0.3, "learnable": True},
     lambda x, w, b: np.exp(-0.3 * np.exp(LEARNED) * ((x - w) ** 2).sum()) + b),
])  # fmt: skip
def test_parameters_of_the_kernels(kernel, options, function):
    x = inputs(2, {})
    layer = built(Kervolution2D(6, 2, kernel=kernel, **options), x)
    if options.get("learnable"):
        layer.learned.assign(LEARNED)
    np.testing.assert_allclose(layer(x), by_loops(layer, x, function), rtol=1e-4, atol=1e-5)


def unfolded(x, size, stride, padding):
    """Patches (b, L, P) of images (b, c, H, W), with P in the order of channels, rows, columns: `F.unfold`'s values."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    rows, columns = ((length - size) // stride + 1 for length in x.shape[2:])
    return np.stack(
        [
            x[:, :, i * stride : i * stride + size, j * stride : j * stride + size].reshape(len(x), -1)
            for i, j in itertools.product(range(rows), range(columns))
        ],
        axis=1,
    ), (rows, columns)


PUBLISHED = {  # of patches (b, L, P) and filters (o, P), as in the public implementation, filters not mixed
    "polynomial": lambda x, w: (x @ w.T + 1.0) ** 2,
    "gaussian": lambda x, w: np.exp(-0.5 * ((x[..., None] - w.T) ** 2).sum(axis=2)),
    "sigmoid": lambda x, w: np.tanh(x @ w.T),
}


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("kernel", PUBLISHED)
def test_the_published_variant_is_the_published_formula(kernel, stride, padding):
    """Kernels of unfolded patches and filters in PyTorch's layout, plus the bias, by NumPy in float64."""
    random = np.random.default_rng(0)
    x = 0.5 * random.standard_normal((2, 3, 7, 6)).astype(np.float32)
    filters, bias = 0.3 * random.standard_normal((5, 3, 3, 3)), random.standard_normal(5)
    patches, sides = unfolded(x, 3, stride, padding)
    expected = PUBLISHED[kernel](patches, filters.reshape(5, -1)) + bias
    layer = Kervolution2D(5, 3, strides=stride, kernel=kernel, variant="published")
    rows = np.pad(x.transpose(0, 2, 3, 1), [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    layer.build(rows.shape)
    layer.kernel.assign(filters.transpose(2, 3, 1, 0))
    layer.bias.assign(bias)
    np.testing.assert_allclose(layer(rows), expected.reshape(2, *sides, 5), rtol=1e-5, atol=1e-6)


def test_the_published_variant_starts_like_pytorch():
    """Filters and biases uniform within ±1/√P: their standard deviations are 1/√(3 P)."""
    keras.utils.set_random_seed(0)
    layer = Kervolution2D.from_config(Kervolution2D(4000, 3, variant="published").get_config())
    layer.build((None, 5, 5, 4))
    for variable in (layer.kernel, layer.bias):
        assert np.std(variable) == pytest.approx(1 / np.sqrt(3 * 36), rel=0.05)
        assert np.abs(variable).max() <= 1 / 6
    standard = Kervolution2D(4, 3)
    standard.build((None, 5, 5, 4))
    assert not np.any(standard.bias)
    given = Kervolution2D(4, 3, variant="published", bias_initializer="ones")
    given.build((None, 5, 5, 4))
    np.testing.assert_array_equal(given.bias, np.ones(4))


LEARNED = -0.8


def test_learned_parameters_start_at_the_given_ones():
    x = inputs(2, {})
    for kernel, options in (("polynomial", {"offset": 0.4}), ("sigmoid", {}), ("gaussian", {"gamma": 0.2})):
        fixed = built(Kervolution2D(6, 2, kernel=kernel, **options), x)
        learnable = Kervolution2D.from_conv(fixed, kernel, **options, learnable=True)
        assert len(learnable.trainable_variables) == len(fixed.trainable_variables) + 1
        np.testing.assert_allclose(learnable(x), fixed(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_slopes_equal_differences(kernel):
    """Of the inputs, the filters and what is learned, along a random direction; L1's slope is our own code."""
    geometry = {"groups": 2, "strides": 2, "padding": "same"}
    learnable = kernel in ("polynomial", "sigmoid", "gaussian")
    layer = built(Kervolution2D(6, 3, kernel=kernel, learnable=learnable, **geometry, dtype="float64"), inputs(2, {}))
    x = inputs(2, {}).astype(np.float64)
    weights = layer.trainable_variables
    start, random = [x, *(np.asarray(variable) for variable in weights)], np.random.default_rng(3)
    ahead = [random.standard_normal(value.shape) for value in start]
    probe = random.standard_normal(layer(x).shape)

    def value(share):
        for variable, at, step in zip(weights, start[1:], ahead[1:], strict=True):
            variable.assign(at + share * step)
        return float(ops.sum(layer(start[0] + share * ahead[0]) * probe))

    step = 1e-6
    measured = (value(step) - value(-step)) / (2 * step)
    value(0.0)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tensor = tf.convert_to_tensor(x)
        tape.watch(tensor)
        total = tf.reduce_sum(layer(tensor) * probe)
    slopes = tape.gradient(total, [tensor, *(variable.value for variable in weights)])
    told = sum(float(np.sum(np.asarray(slope) * to)) for slope, to in zip(slopes, ahead, strict=True))
    assert told == pytest.approx(measured, rel=1e-4)


def test_distances_are_never_negative_and_their_slopes_finite():
    """A filter that equals its patch: ‖x‖² - 2x·w + ‖w‖² rounds to a small number of any sign."""
    import tensorflow as tf

    x = 100 * np.random.default_rng(0).standard_normal((1, 3, 3, 40)).astype(np.float32)
    for kernel in ("gaussian", "l2", "l1"):
        layer = Kervolution2D(1, 3, kernel=kernel, **({"gamma": 1.0} if kernel == "gaussian" else {}))
        layer.build(x.shape)
        layer.kernel.assign(x[0, ..., None])
        with tf.GradientTape() as tape:
            value = tf.reshape(layer(x), ())
        [slope] = tape.gradient(value, [layer.kernel.value])
        assert 0 <= float(value) <= (1.0 if kernel == "gaussian" else 4.0)  # of ‖x‖ = 1,900
        assert np.isfinite(slope).all()
        assert kernel != "l1" or float(value) == 0


def test_half_precision_keeps_small_distances():
    """Computed from bfloat16 norms of some thousands, a distance of 10 would be lost; ours is near the float32 one."""
    x = 3 + 0.1 * np.random.default_rng(0).standard_normal((1, 5, 5, 64)).astype(np.float32)
    full = built(Kervolution2D(2, 3, kernel="l2", use_bias=False), x)
    full.kernel.assign(3 + 0.1 * np.random.default_rng(1).standard_normal(full.kernel.shape))
    half = Kervolution2D.from_conv(full, "l2", dtype="mixed_bfloat16")
    np.testing.assert_allclose(np.asarray(half(x), np.float32), full(x), rtol=0.02)


def test_no_tensor_is_larger_than_inputs_and_outputs():
    """Polynomial, sigmoid, Gaussian and L2: the compiled program holds neither patches nor differences."""
    import tensorflow as tf

    n, side, channels, filters = 2, 8, 8, 8
    largest = n * side * side * max(channels, filters)
    for kernel in ("polynomial", "sigmoid", "gaussian", "l2"):
        layer = Kervolution2D(filters, 3, kernel=kernel, padding="same")
        layer.build((n, side, side, channels))
        graph = tf.function(layer.call).get_concrete_function(tf.TensorSpec((n, side, side, channels))).graph
        made = [output.shape.num_elements() for operation in graph.get_operations() for output in operation.outputs]
        assert max(filter(None, made)) == largest, kernel


def test_swap_keeps_the_weights_of_a_resnet():
    """keras.applications' ResNet50 with every convolution exchanged for the linear kernel gives the same outputs."""
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=5)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    swapped = swap(model, {keras.layers.Conv2D: Kervolution2D.from_conv})
    exact = swap(model, {keras.layers.Conv2D: lambda layer: Kervolution2D.from_conv(layer, "linear")})
    convolutions = [layer for layer in model.layers if type(layer) is keras.layers.Conv2D]
    exchanged = [layer for layer in swapped.layers if isinstance(layer, Kervolution2D)]
    assert len(exchanged) == len(convolutions) == 53
    for old, new in zip(convolutions, exchanged, strict=True):
        assert new.name == old.name
        np.testing.assert_array_equal(new.kernel, old.kernel)
        assert new.kernel is not old.kernel
    np.testing.assert_allclose(exact(x), model(x), rtol=1e-5, atol=1e-6)
    assert not np.allclose(swapped(x), model(x), atol=1e-3)


class Own(keras.Model):
    """A subclassed model with convolutions in an attribute and in a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = keras.layers.Conv2D(4, 3, strides=2, padding="same")
        self.rest = [keras.layers.Conv2D(4, 3, dilation_rate=2, padding="same"), keras.layers.Flatten()]

    def build(self, input_shape):
        self.stem.build(input_shape)
        self.rest[0].build(self.stem.compute_output_shape(input_shape))

    def call(self, x):
        x = self.stem(x)
        for layer in self.rest:
            x = layer(x)
        return x


def test_swap_of_a_subclassed_model():
    model, x = Own(), inputs(2, {})
    before = model(x)
    same = swap(model, {keras.layers.Conv2D: lambda layer: Kervolution2D.from_conv(layer, "linear")})
    np.testing.assert_allclose(same(x), before, atol=1e-6)
    gaussian = swap(model, {keras.layers.Conv2D: lambda layer: Kervolution2D.from_conv(layer, "gaussian")})
    hidden = by_loops(gaussian.inner.stem, x, FUNCTIONS["gaussian"]).astype(np.float32)
    expected = by_loops(gaussian.inner.rest[0], hidden, FUNCTIONS["gaussian"]).reshape(len(x), -1)
    np.testing.assert_allclose(gaussian(x), expected, rtol=1e-4, atol=1e-4)


def test_an_unbuilt_convolution_gives_an_unbuilt_kervolution():
    layer = Kervolution2D.from_conv(keras.layers.Conv2D(4, 3, use_bias=False, name="here"), "l2")
    assert (layer.built, layer.name, layer.use_bias, layer.kernel_name) == (False, "here", False, "l2")
    with pytest.raises(ValueError, match="Conv2D"):
        Kervolution2D.from_conv(keras.layers.Conv1D(4, 3))


def test_the_command_line_offers_the_kernels_that_there_are():
    assert KERVOLUTIONS == KERNELS
    assert set(FUNCTIONS) == set(KERNELS)
    assert all(set(kernels) <= set(KERNELS) for kernels in OPTIONS.values())


# In float32 against float64, where patches and filters are large and near to each other.
NEAR = {"gaussian": {"gamma": 3.0}, "l2": {}, "l1": {}}
OF_NEAR = {**FUNCTIONS, "gaussian": lambda x, w, b: np.exp(-3 * ((x - w) ** 2).sum()) + b}


def near(rank, geometry, kernel, dtype="float32"):
    """A layer whose filters, and inputs whose patches, differ by about .1 from the same numbers of size 1,000."""
    small = 0.1 * inputs(rank, geometry)
    first = geometry.get("data_format") == "channels_first"
    large = 1000 * np.random.default_rng(4).standard_normal(4).astype(np.float32)
    x = small + (large.reshape(-1, *(1,) * rank) if first else large)
    layer = KERVOLUTIONS_OF[rank](6, WINDOWS[rank], kernel=kernel, dtype=dtype, **NEAR[kernel], **geometry)
    layer.build(x.shape)
    groups = layer.groups
    center = np.repeat(large.reshape(groups, -1), 6 // groups, axis=0).T  # (channels of a group, filters)
    small_filters = 0.1 * np.random.default_rng(5).standard_normal(layer.kernel.shape)
    layer.kernel.assign((small_filters + center).astype(np.float32))
    return layer, x.astype(np.float32)


NEAR_CASES = [(*case.values, kernel) for kernel, cases in (("l2", CASES), ("gaussian", CASES[::4]), ("l1", CASES[::9]))
              for case in cases]  # fmt: skip


@pytest.mark.parametrize("rank, geometry, kernel", NEAR_CASES)
def test_near_patches_and_filters_keep_their_digits(rank, geometry, kernel):
    layer, x = near(rank, geometry, kernel)
    expected = by_loops(layer, x, OF_NEAR[kernel])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", NEAR)
def test_filters_that_are_patches(kernel):
    """No constant per channel can be taken off here: every place of a patch has a size of its own."""
    x = 1000 * np.random.default_rng(0).standard_normal((2, 6, 5, 4)).astype(np.float32)
    layer = Kervolution2D(6, (3, 2), kernel=kernel, **NEAR[kernel])
    layer.build(x.shape)
    patches = np.stack([x[0, i : i + 3, j : j + 2] for i in range(3) for j in range(2)], axis=-1)
    layer.kernel.assign(patches + 0.05 * np.random.default_rng(1).standard_normal(patches.shape))
    np.testing.assert_allclose(layer(x), by_loops(layer, x, OF_NEAR[kernel]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", NEAR)
def test_derivatives_of_near_patches_are_those_of_float64(kernel):
    import tensorflow as tf

    derivatives = []
    for dtype in ("float32", "float64"):
        layer, x = near(2, {"padding": "same"}, kernel, dtype)
        x = tf.constant(x, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(layer(x) * np.random.default_rng(6).standard_normal((2, 7, 5, 6)).astype(dtype))
        derivatives.append([np.asarray(slope) for slope in tape.gradient(value, [x, layer.kernel.value])])
    for single, double in zip(*derivatives, strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-2, atol=5e-3 * np.abs(double).max())


def test_compiled_layers_choose_between_norms_and_differences_at_run_time():
    import tensorflow as tf

    layer, x = near(2, {"padding": "same"}, "l2")
    compiled = tf.function(layer.call, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(x)), by_loops(layer, x, FUNCTIONS["l2"]), rtol=1e-5)
    far = (x[..., ::-1] - 500).copy()
    np.testing.assert_allclose(compiled(tf.constant(far)), by_loops(layer, far, FUNCTIONS["l2"]), rtol=1e-5)


def test_sizes_unknown_to_a_graph():
    import tensorflow as tf

    layer, x = near(2, {"padding": "same", "strides": 2, "dilation_rate": 1}, "l2")
    graph = tf.function(layer.call, input_signature=[tf.TensorSpec((None, None, None, 4))])
    for part in (x, x[:, :4, :3]):
        np.testing.assert_allclose(graph(part), by_loops(layer, part, FUNCTIONS["l2"]), rtol=1e-5)
