"""Kervolutions as Keras makes them by default: variances of order one, alone and stacked, and finite training."""

import warnings

import keras
import numpy as np
import pytest

from linearized.layers.kervolution import Kervolution1D, Kervolution2D, Kervolution3D
from linearized.layers.kervolution_start import deviation, moment
from linearized.layers.surgery.exchange import kervolved

LAYERS = {1: Kervolution1D, 2: Kervolution2D, 3: Kervolution3D}
SIZES = {1: (64,), 2: (10, 10), 3: (6, 6, 6)}
# Least and greatest variance of the outputs over images, places and filters, of independent N(0, 1) inputs.
VARIANCES = {
    "linear": (0.1, 3), "polynomial": (0.1, 3), "sigmoid": (0.2, 1), "l2": (0.3, 3), "gaussian": (0.001, 1),
}  # fmt: skip


def normal(rank, channels, rows=32, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, *SIZES[rank], channels)).astype(np.float32)


@pytest.mark.parametrize("kernel", VARIANCES)
@pytest.mark.parametrize("rank", LAYERS)
def test_outputs_have_a_variance_of_order_one(rank, kernel):
    keras.utils.set_random_seed(0)
    variance = np.var(LAYERS[rank](32, 3, kernel=kernel)(normal(rank, 6)))
    least, most = VARIANCES[kernel]
    assert least < variance < most


@pytest.mark.parametrize(("degree", "offset"), [(2, 1.0), (3, 1.0), (5, 1.0), (3, 0.5), (3, -2.0), (2, 0.0)])
def test_polynomials_have_the_variance_of_the_closed_form(degree, offset):
    """The variance of (c + s)^p, s ~ N(0, a²), by the moments that Monte Carlo gives."""
    keras.utils.set_random_seed(1)
    x = normal(2, 16, rows=64)
    layer = Kervolution2D(64, 3, degree=degree, offset=offset)
    measured = np.square(layer(x)).mean()
    spread = deviation("polynomial", 9 * 16, degree, offset)
    s = 12 * spread * np.random.default_rng(2).standard_normal(1_000_000)
    expected = ((offset + s) ** (2 * degree)).mean()
    assert moment(degree, offset, float((12 * spread) ** 2)) == pytest.approx(expected, rel=0.03)
    assert measured == pytest.approx(expected, rel=0.15)


def stack(kernel, layers, **options):
    keras.utils.set_random_seed(0)
    kervolutions = [Kervolution2D(16, 3, kernel=kernel, padding="same", **options) for _ in range(layers)]
    return keras.Sequential(
        [keras.Input((8, 8, 3)), *kervolutions, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    )


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_the_mean_square_of_a_deep_stack_stays_bounded(degree):
    """Each layer maps the mean square of its inputs to that of its outputs; errors of it shrink by a half."""
    model = stack("polynomial", 8, degree=degree)
    x = np.random.default_rng(0).standard_normal((64, 8, 8, 3)).astype(np.float32)
    for layer in model.layers[:-2]:
        x = np.asarray(layer(x))
        assert 0.2 < np.square(x).mean() < 10


@pytest.mark.parametrize(("kernel", "optimizer", "rate"), [
    ("polynomial", "adam", 1e-3), ("polynomial", "sgd", 1e-4), ("sigmoid", "sgd", 1e-2), ("gaussian", "adam", 1e-3),
])  # fmt: skip
def test_four_stacked_layers_train(kernel, optimizer, rate):
    """With Glorot's filters the first loss of four polynomial layers was 2.5e25, the second NaN."""
    model = stack(kernel, 4)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((256, 8, 8, 3)).astype(np.float32), random.standard_normal((256, 2))
    model.compile(keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": rate}}), "mse")
    losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[0] < 20
    assert np.isfinite(losses).all() and losses[-1] <= losses[0]


def test_the_mean_square_of_stacked_distances_grows_by_the_patch():
    """Filters N(0, 1) and inputs of mean square m: E‖x - w‖² = P (m + 1), and (E‖x - w‖₁)² = 2 P² (m + 1) / π."""
    keras.utils.set_random_seed(0)
    x = normal(2, 16)
    for kernel, expected in (("l2", 144 * 2), ("l1", 144**2 * 4 / np.pi + 144 * 2 * (1 - 2 / np.pi))):
        assert np.square(Kervolution2D(16, 3, kernel=kernel)(x)).mean() == pytest.approx(expected, rel=0.1)


def chained(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])


def of(kernel, **options):
    return Kervolution2D(4, 3, kernel=kernel, padding="same", **options)


@pytest.mark.parametrize(("kernel", "count"), [("polynomial", 3), ("l1", 2), ("l2", 2)])
def test_stacks_without_a_normalisation_are_warned_of_once(kernel, count):
    with pytest.warns(UserWarning, match=f"number {count} with the {kernel} kernel") as given:
        chained(*(of(kernel) for _ in range(count)), of(kernel, name="further"))
    assert not [one for one in given if "further" in str(one.message)]
    inert = (keras.layers.ReLU, lambda: keras.layers.Activation("relu"), keras.layers.MaxPooling2D)
    with pytest.warns(UserWarning, match="BatchNormalization"):  # neither normalises
        chained(*(part for _ in range(count) for part in (of(kernel), *(make() for make in inert))))


@pytest.mark.parametrize("first, second", [("l1", "l2"), ("l2", "l1")])
def test_distances_of_both_kinds_are_warned_of_as_one_stack(first, second):
    """A further distance makes the mean square P or P² times as large, whichever distance its inputs come from."""
    with pytest.warns(UserWarning, match=f"number 2 with the {second} kernel"):
        model = chained(of(first), of(second))
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    inner = np.square(model.layers[0](x)).mean()
    assert np.square(model(x)).mean() > 9 * inner  # P = 36 inside, less at the border


def test_an_exchange_without_a_normalisation_is_warned_of():
    plain = chained(*(keras.layers.Conv2D(4, 3, padding="same", activation="relu") for _ in range(2)))
    with pytest.warns(UserWarning, match="kervolution number 2 with the l2 kernel"):
        kervolved(plain, "l2", "all")


@pytest.mark.parametrize("layers", [
    lambda: [of("polynomial"), of("polynomial")], lambda: [of("l2"), of("polynomial")],
    lambda: [of("polynomial", degree=1) for _ in range(4)],
    lambda: [part for _ in range(3) for part in (of("l2"), keras.layers.Activation("tanh"))],
    lambda: [part for _ in range(4) for part in (of("polynomial"), keras.layers.BatchNormalization())],
    lambda: [of("l2", activation="tanh"), of("l2", activation="tanh")],
    lambda: [of("gaussian"), of("gaussian"), of("sigmoid"), of("sigmoid"), of("sigmoid")],
])  # fmt: skip
def test_networks_that_keep_their_size_are_not_warned_of(layers):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".* is kervolution number")
        chained(*layers())


def test_the_start_is_the_layers_own_until_another_is_given():
    """The configuration keeps the rule and not its numbers, so that a copy may have other channels."""
    layer = Kervolution2D(4, 3)
    layer.build((None, 5, 5, 2))
    assert layer.get_config()["kernel_initializer"] is None
    wide = Kervolution2D.from_config(layer.get_config())
    wide.build((None, 5, 5, 400))
    assert np.std(wide.kernel) == pytest.approx(deviation("polynomial", 3600), rel=0.05)
    given = Kervolution2D(64, 3, kernel_initializer="he_normal")
    given.build((None, 5, 5, 16))
    assert np.std(given.kernel) == pytest.approx((2 / 144) ** 0.5, rel=0.05)
    assert Kervolution2D.from_config(given.get_config()).kernel_initializer.__class__ is keras.initializers.HeNormal
    unbuilt = Kervolution2D.from_conv(keras.layers.Conv2D(64, 3))
    unbuilt.build((None, 5, 5, 16))
    assert np.std(unbuilt.kernel) == pytest.approx(deviation("polynomial", 144), rel=0.05)
