"""Residual and lambda residual networks: exact sizes, images of any size, penalty, and what each setting changes."""

import keras
import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.experiments.train import TrainSettings as Config
from linearized.layers.kervolution import Kervolution2D
from linearized.layers.lambda_layer import LambdaLayer, PositionEmbedding
from linearized.models import lambda_resnet, resnet


def images(tiny, side=32, channels=3, classes=10):
    return tiny("classes", n=4, side=side, channels=channels, classes=classes)


def trained(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def lambda_parameters(filters, stages, keys=16, heads=4):
    """Of the lambda layers with norms of channels, and of one relative embedding for each size and stride."""
    count = 0
    for stage, blocks in enumerate(stages):
        p = filters * 2**stage
        projections = p * keys * heads + p * keys + p * p // heads
        count += blocks * (projections + 2 * keys * heads + 2 * p // heads)
    sides = [8, 8, 4, 4, 2, 2, 1]  # queries of stride 1 and 2 at the first three sizes, of stride 1 at the last
    return count + sum((2 * side - 1) ** 2 * keys for side in sides)


def test_sizes_are_the_published_ones(tiny):
    """ResNet-18, 50 and 101 as in torchvision (ten classes for 1000), and the reproduction's lambda ResNet-50."""
    data = images(tiny)
    networks = {(18, 1): 11_689_512, (50, 1): 25_557_032, (101, 1): 44_549_160, (50, 2): 68_883_240}
    for (depth, width), parameters in networks.items():
        readout = (512 if depth == 18 else 2048) + 1
        model = resnet.build(Config(model="RESNET", resnet_depth=depth, resnet_width=width), data)
        assert trained(model) == parameters - readout * 990
        if (depth, width) == (50, 1):
            assert trained(model) == 23_528_522
    published = lambda_resnet.build(Config(model="LAMBDA_RESNET", lambda_variant="published"), data)
    assert trained(published) == 12_898_830
    embeddings = [tuple(w.shape) for w in published.weights if w.name == "embedding"]
    assert sorted(embeddings, reverse=True) == [(64, 64, 16, 1), (16, 16, 16, 1), (4, 4, 16, 1), (1, 1, 16, 1)]


def test_the_corrected_network_has_the_parameters_of_its_parts(tiny):
    model = lambda_resnet.build(Config(model="LAMBDA_RESNET"), images(tiny))
    convolutions = sum(blocks * 9 * (64 * 2**stage) ** 2 for stage, blocks in enumerate((3, 4, 6, 3)))
    assert trained(model) == 23_528_522 - convolutions + lambda_parameters(64, (3, 4, 6, 3)) == 12_840_730


def test_a_wide_lambda_network_has_twice_the_inner_channels(tiny):
    """Torchvision's wide ResNet-50 with lambda layers in the place of its 3x3 convolutions."""
    model = lambda_resnet.build(Config(model="LAMBDA_RESNET", resnet_width=2), images(tiny))
    convolutions = sum(blocks * 9 * (128 * 2**stage) ** 2 for stage, blocks in enumerate((3, 4, 6, 3)))
    plain = 68_883_240 - 2049 * 990
    assert trained(model) == plain - convolutions + lambda_parameters(128, (3, 4, 6, 3))


@pytest.mark.parametrize("side, channels", [(32, 3), (8, 1), (28, 1), (17, 2), (1, 1)])
@pytest.mark.parametrize("variant", ["corrected", "published"])
def test_images_of_any_size(tiny, side, channels, variant):
    data = images(tiny, side, channels, classes=3)
    for stem in ("pooled", "small") if side < 28 else ("pooled",):
        config = Config(
            model="LAMBDA_RESNET", num_units=4, resnet_depth=18, resnet_stem=stem, lambda_variant=variant, lambda_keys=2
        )
        model = lambda_resnet.build(config, data)
        assert np.isfinite(model(data.test.x[:2])).all()


def test_stages_are_mixed_as_asked(tiny):
    data = images(tiny, 8, 1, 3)
    for stages in ("CCCC", "CCLL", "LCLC", "LLLL"):
        config = Config(model="LAMBDA_RESNET", num_units=4, resnet_depth=50, lambda_stages=stages)
        model = lambda_resnet.build(config, data)
        mixing = {layer.name[:7] for layer in model.layers if isinstance(layer, LambdaLayer)}
        assert mixing == {f"stage_{place + 1}" for place, kind in enumerate(stages) if kind == "L"}
    plain = resnet.build(Config(model="RESNET", num_units=4), data)
    mixed = lambda_resnet.build(Config(model="LAMBDA_RESNET", num_units=4, lambda_stages="CCCC"), data)
    assert [w.shape for w in plain.weights] == [w.shape for w in mixed.weights]
    for ours, theirs in zip(plain.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_local_scope_needs_no_embedding(tiny):
    config = Config(model="LAMBDA_RESNET", num_units=4, resnet_depth=18, lambda_scope=3, lambda_intra=2, lambda_heads=2)
    model = lambda_resnet.build(config, images(tiny, 16, 1, 3))
    assert not any(isinstance(layer, PositionEmbedding) for layer in model.layers)
    [layer] = {layer.scope: layer for layer in model.layers if isinstance(layer, LambdaLayer)}.values()
    assert (layer.scope, layer.intra_depth, layer.heads) == (3, 2, 2)


def test_the_penalty_is_that_of_kernels_and_projections(tiny):
    data = images(tiny, 8, 1, 3)
    model = lambda_resnet.build(
        Config(model="LAMBDA_RESNET", num_units=4, resnet_depth=18, lambda_stages="CLCL"), data, 0.5
    )
    penalised = ("kernel", "queries", "keys", "values")
    weights = [w for w in model.trainable_variables if w.name in penalised and "readout" not in w.path]
    expected = 0.5 * sum(np.square(np.asarray(weight)).sum() for weight in weights)
    assert sum(map(float, model.losses)) == pytest.approx(expected, rel=1e-5)


def test_statistics_are_running_ones_in_inference(tiny):
    """Outputs of a row do not depend on the other rows, as they would in training mode."""
    data = images(tiny, 8, 1, 3)
    for name, module in (("RESNET", resnet), ("LAMBDA_RESNET", lambda_resnet)):
        model = module.build(Config(model=name, num_units=4, resnet_depth=18), data)
        together = model.predict(data.test.x, verbose=0)
        np.testing.assert_allclose(model.predict(data.test.x[:1], verbose=0), together[:1], rtol=1e-4, atol=1e-5)
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert norms and all(layer.momentum == 0.9 for layer in norms)


@pytest.mark.parametrize("settings, word", [
    ({"resnet_depth": 34}, "18, 50 or 101"), ({"lambda_stages": "CL"}, "four letters"),
    ({"resnet_width": 2, "resnet_depth": 18}, "bottlenecks"),
    ({"lambda_stages": "CCXL"}, "four letters"), ({"lambda_scope": 4}, "odd"), ({"resnet_stem": "big"}, "pooled"),
])  # fmt: skip
def test_bad_settings_are_refused_at_once(settings, word):
    with pytest.raises(UserError, match=word):
        Config(model="LAMBDA_RESNET", **settings)


def test_heads_must_divide_the_channels(tiny):
    with pytest.raises(UserError, match="lambda_heads"):
        lambda_resnet.build(Config(model="LAMBDA_RESNET", num_units=6), images(tiny, 8, 1, 3))
    with pytest.raises(UserError, match="images"):
        resnet.build(Config(model="RESNET", num_units=4), tiny("classes", images=False))


def test_the_published_block_of_stride_two_pools_as_pytorch_does(tiny):
    """3x3 windows of stride 2 over a border of zeros, which count in the mean."""
    config = Config(model="LAMBDA_RESNET", num_units=4, resnet_depth=18, lambda_variant="published", lambda_keys=2)
    model = lambda_resnet.build(config, images(tiny, 32, 3, 3))
    layer, norm = model.get_layer("stage_2_1_mix_1"), model.get_layer("stage_2_1_norm_1")
    before, after = keras.Model(model.inputs, [layer.output, norm.input])(
        np.random.default_rng(0).standard_normal((2, 3072)).astype(np.float32)
    )
    padded = np.pad(np.asarray(before, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    pooled = sum(padded[:, i : i + 8 : 2, j : j + 8 : 2] for i in range(3) for j in range(3)) / 9
    assert after.shape == (2, 4, 4, 8)
    np.testing.assert_allclose(after, pooled, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_152_layers_have_the_published_size(tiny):
    model = resnet.build(Config(model="RESNET", resnet_depth=152), images(tiny))
    assert trained(model) == 60_192_808 - 2049 * 990


@pytest.mark.parametrize("places", ["all", "inner"])
def test_kervolutions_take_the_places_of_convolutions_and_their_weights(tiny, places):
    """The weights of a trained plain network fit, one by one; the linear kernel gives its outputs."""
    data = images(tiny, 16, 3, 3)
    base = {"model": "RESNET", "num_units": 4, "resnet_depth": 50, "resnet_zero_start": False}
    plain = resnet.build(Config(**base), data)
    gaussian, linear = (
        resnet.build(Config(**base, kervolution_kernel=kernel, kervolution_places=places), data)
        for kernel in ("gaussian", "linear")
    )
    sizes = {layer.name: layer.kernel_size for layer in plain.layers if isinstance(layer, keras.layers.Conv2D)}
    exchanged = {layer.name for layer in gaussian.layers if isinstance(layer, Kervolution2D)}
    expected = {name for name, size in sizes.items() if places == "all" or (size != (1, 1) and name != "stem")}
    assert exchanged == expected and len(sizes) == 53
    for network in (gaussian, linear):
        network.set_weights(plain.get_weights())
    rows = data.test.x[:2]
    np.testing.assert_allclose(linear(rows), plain(rows), rtol=1e-3, atol=1e-4)
    assert not np.allclose(gaussian(rows), plain(rows), atol=1e-3)


def test_strided_windows_are_those_of_pytorch(tiny):
    """Padding of 3 around the stem and of 1 around the pool and the 3x3 convolutions; Keras' own is one-sided."""
    data = images(tiny, 32, 3, 3)
    model = resnet.build(Config(model="RESNET", num_units=4, resnet_depth=18, resnet_zero_start=False), data)
    image = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    stem, pool, strided = (model.get_layer(name) for name in ("stem", "stem_pool", "stage_2_1_mix_1"))
    taps = keras.Model(model.inputs, [stem.output, model.get_layer("stem_relu").output, pool.output,
                                      model.get_layer("stage_1_2_out").output, strided.output])  # fmt: skip
    first, active, pooled, before, after = (np.asarray(value, np.float64) for value in taps([image.reshape(1, -1)]))
    np.testing.assert_allclose(first, windows(image, 7, 3, stem.kernel), rtol=1e-3, atol=1e-4)
    padded = np.pad(active, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    largest = np.max([padded[:, i : i + 16 : 2, j : j + 16 : 2] for i in range(3) for j in range(3)], axis=0)
    np.testing.assert_allclose(pooled, largest, rtol=1e-6)
    np.testing.assert_allclose(after, windows(before, 3, 1, strided.kernel), rtol=1e-3, atol=1e-4)
    same = resnet.build(Config(model="RESNET", num_units=4, resnet_depth=18, resnet_padding="same"), data)
    assert same.get_layer("stem").padding == "same"
    assert not np.allclose(keras.Model(same.inputs, same.get_layer("stem").output)([image.reshape(1, -1)]), first)


def windows(x, size, edge, kernel):
    """A convolution of stride 2 with a border of zeros, in NumPy."""
    x, kernel = np.pad(np.asarray(x, np.float64), ((0, 0), (edge, edge), (edge, edge), (0, 0))), np.asarray(kernel)
    count = (x.shape[1] - size) // 2 + 1
    return sum(
        x[:, i : i + 2 * count : 2, j : j + 2 * count : 2][:, :count, :count] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def test_blocks_start_as_identities_or_not(tiny):
    data = images(tiny, 8, 1, 3)
    for start in (True, False):
        config = Config(model="LAMBDA_RESNET", num_units=4, resnet_depth=18, resnet_zero_start=start)
        norms = [layer for layer in lambda_resnet.build(config, data).layers if layer.name.endswith("_norm_2")]
        assert len(norms) == 8 and all(np.all(np.asarray(norm.gamma) == (not start)) for norm in norms)
