"""The fused CNTK against a slow recursion in NumPy written from the paper, and against neural-tangents."""

import jax
import numpy as np
import pytest

from kernel_gen.cntk import recursion_jax as cntk_jax
from kernel_gen.cntk.architecture import Architecture, AvgPool, Conv, Flatten, GlobalAvgPool, Relu, myrtle, plain
from kernel_gen.cntk.fused import Cntk
from kernel_gen.cntk.recursion_numba import P, Q
from kernel_gen.kernels import cntk
from kernel_gen.stax.network import parse
from linearized import data
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings

LONG = np.longdouble  # the oracle's: 1 - c at parallel patches is rounding, and its root is to be below 1e-9


def conv_sum(k):
    """Σ₉ of a covariance (y, x, y', x'): over the nine common shifts, zeros outside."""
    height, width = k.shape[:2]
    padded = np.pad(k, 1)
    return sum(
        padded[dy : dy + height, dx : dx + width, dy : dy + height, dx : dx + width]
        for dy in range(3)
        for dx in range(3)
    )


def correlation(k, product):
    """K/(s·s'), 0 where a patch is zero; 1 where only rounding keeps it below."""
    cos = np.clip(np.divide(k, product, out=np.zeros_like(k), where=product > 0), -1, 1)
    return np.where(cos > 1 - LONG(2) ** -58, 1, cos)


def layers(architecture, k, variances, weight, bias):
    """(K, Θ) at the readout's input, as the paper has it, all pixel pairs; `variances(k11, k22)` per layer."""
    theta = np.zeros_like(k)
    for step in architecture.steps:
        if isinstance(step, Conv):
            k = weight / 9 * conv_sum(k) + bias
            theta = k + weight / 9 * conv_sum(theta)
        elif isinstance(step, Relu):
            s, s2 = variances.pop(0)
            product = s[:, :, None, None] * s2[None, None]
            cos = correlation(k, product)
            pi = LONG("3.14159265358979323846264338327950288")
            k = product / (2 * pi) * (np.sqrt((1 - cos) * (1 + cos)) + cos * (pi - np.arccos(cos)))
            theta = theta * (pi - np.arccos(cos)) / (2 * pi)
        elif isinstance(step, AvgPool):
            k, theta = (pool(m, step.side) for m in (k, theta))
        elif isinstance(step, Flatten):
            k, theta = (np.einsum("yxyx->", m) / (m.shape[0] * m.shape[1]) for m in (k, theta))
        else:
            k, theta = k.mean(), theta.mean()
    return k, theta


def pool(m, side):
    high, wide = m.shape[0] // side, m.shape[1] // side
    return m.reshape(high, side, wide, side, high, side, wide, side).mean(axis=(1, 3, 5, 7))


def deviations(architecture, image, weight, bias):
    """The standard deviation of each pixel at each ReLU, from the whole covariance of the image with itself."""
    k, found = np.einsum("yxc,uvc->yxuv", image, image), []
    for step in architecture.steps:
        if isinstance(step, Conv):
            k = weight / 9 * conv_sum(k) + bias
        elif isinstance(step, Relu):
            s = np.sqrt(np.einsum("yxyx->yx", k))
            found.append(s)
            product = s[:, :, None, None] * s[None, None]
            cos = correlation(k, product)
            k = product / 2 * (cos + (np.sqrt(1 - cos**2) - cos * np.arccos(cos)) / np.arccos(LONG(-1)))
            np.einsum("yxyx->yx", k)[...] = s**2 / 2
        elif isinstance(step, AvgPool):
            k = pool(k, step.side)
    return found


def oracle(architecture, x1, x2, *, kind="ntk", weight_std=1.0, bias_std=0.0):
    """The Gram matrix of images (n, height, width, channels), in extended precision."""
    weight, bias = LONG(weight_std) ** 2, LONG(bias_std) ** 2
    x1, x2 = (x.astype(LONG) / np.sqrt(LONG(x.shape[-1])) for x in (x1, x2))
    s1, s2 = ([deviations(architecture, image, weight, bias) for image in x] for x in (x1, x2))
    out = np.empty((len(x1), len(x2)))
    for i, image in enumerate(x1):
        for j, other in enumerate(x2):
            variances = list(zip(s1[i], s2[j], strict=True))
            k, theta = layers(architecture, np.einsum("yxc,uvc->yxuv", image, other), variances, weight, bias)
            out[i, j] = weight * k + bias + (weight * theta if kind == "ntk" else 0)
    return out


def images(size, channels, seed=0):
    """Noise; smooth; constant (two of them parallel); zero borders: (6, height, width, channels), float64."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((6, *size, channels))
    x[1] = np.cumsum(np.cumsum(x[1], axis=0), axis=1) / 10 + 1
    x[2], x[3] = 0.7, 0.3
    x[4, : size[0] // 4], x[4, :, -(size[1] // 4) :] = 0, 0
    x[5] = x[0] + 0.1 * x[5]
    return x.astype(np.float32).astype(np.float64)


def computed(x, size, channels, two=None, **settings):
    kernel = cntk.build(KernelSettings(kernel="CNTK", **settings), (*size, channels))
    one = kernel.prepare(x.reshape(len(x), -1))
    if two is None:
        return kernel.block(one, one, same=True)
    return kernel.block(one, kernel.prepare(two.reshape(len(two), -1)))


def worst(actual, expected):
    return np.abs(actual / expected - 1).max()


# (layers of each pooled group, head) on small images: every rule of the description, in extended precision
def network(groups, head, pool_side=2):
    steps = []
    for convs in groups:
        steps += [Conv(), Relu()] * convs + [AvgPool(pool_side)]
    return Architecture(f"{groups}", (*steps, head))


SMALL = [
    (network((2, 1, 1), Flatten()), (8, 8), 3, {}),
    (network((1, 2), GlobalAvgPool()), (8, 4), 2, {"weight_std": 1.3, "bias_std": 0.2}),
    (network((2, 1), Flatten()), (8, 12), 1, {}),
    (network((1, 1), Flatten(), 3), (9, 9), 2, {"bias_std": 0.5}),
    (plain(3, "gap"), (7, 9), 2, {}),
    (plain(2, "flatten"), (6, 5), 4, {"weight_std": 1.5}),
]


# Each case compiles kernels of its own, for seconds: the NNGP, a part of the NTK's, is left to two of them.
CASES = [(kind, *case) for kind in ("ntk", "nngp") for case in SMALL]
QUICK = [case for case in CASES if case[0] == "ntk" or case[1:] in (SMALL[0], SMALL[3])]


@pytest.mark.parametrize(
    ("kind", "architecture", "size", "channels", "stds"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_equals_the_recursion(architecture, size, channels, stds, kind):
    x = images(size, channels)
    expected = oracle(architecture, x, x, kind=kind, **stds)
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-5)):
        kernel = Cntk(architecture, (*size, channels), KernelSettings(kernel="CNTK", kind=kind, dtype=dtype, **stds))
        one = kernel.prepare(x.reshape(len(x), -1))
        actual = kernel.block(one, one, same=True)
        assert actual.dtype == dtype
        assert worst(actual, expected) < tolerance, dtype
        np.testing.assert_allclose(kernel.block(one[:2], one[2:]), actual[:2, 2:], rtol=1e-6)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_jax_version_agrees(kind):
    architecture, size, channels, stds = SMALL[1]
    x = images(size, channels)
    kernel = Cntk(architecture, (*size, channels), KernelSettings(kernel="CNTK", kind=kind, **stds))
    one = kernel.prepare(x.reshape(len(x), -1))
    heads = cntk_jax.block(one, one, kernel.stages, q=kernel.q, bias=kernel.bias, same=True)
    readout = kernel.readout(heads if kind == "ntk" else heads[..., :1])
    assert worst(readout, oracle(architecture, x, x, kind=kind, **stds)) < 1e-5


def hard_images():
    """Photos, noise, constants (some parallel) and zero borders at 32x32x3, float32, three each."""
    photos = data.load("PATCHES").train.x[:3]
    random = np.random.default_rng(3)
    colours = random.standard_normal((3, 1, 1, 3)).astype(np.float32)
    colours[1] = 0.37 * colours[0]
    flat = np.broadcast_to(colours, (3, 32, 32, 3)).reshape(3, -1)
    borders = photos.reshape(3, 32, 32, 3).copy()
    borders[:, :5], borders[:, :, 27:], borders[2, :, :9] = 0, 0, 0
    return np.concatenate([photos, random.standard_normal((3, 3072)).astype(np.float32), flat, borders.reshape(3, -1)])


@pytest.mark.parametrize("kind", ["ntk", pytest.param("nngp", marks=pytest.mark.slow)])
def test_float32_equals_float64_on_whole_images(kind, directories):
    x = hard_images()
    grams = []
    for dtype in ("float32", "float64"):
        kernel = cntk.build(KernelSettings(kernel="CNTK", kind=kind, dtype=dtype), (32, 32, 3))
        one = kernel.prepare(x)
        grams.append(kernel.block(one, one, same=True))
    assert worst(*grams) < 1e-5
    assert np.linalg.eigvalsh(grams[1]).min() > -1e-12  # parallel constants make it singular
    np.testing.assert_array_equal(grams[0], grams[0].T)


def neural_tangents_gram(architecture, x, kind, weight_std=1.0, bias_std=None):
    """The same network said in stax, in float64, pair by pair; not compiled, which costs its diagonal digits."""
    spoken = {Conv: f"Conv(1, (3, 3), padding='SAME', W_std={weight_std}, b_std={bias_std})", Relu: "Relu()"}
    spoken |= {Flatten: "Flatten()", GlobalAvgPool: "GlobalAvgPool()"}
    layers = []
    for step in architecture.steps:
        side = getattr(step, "side", 0)
        layers.append(f"AvgPool(({side}, {side}), strides=({side}, {side}))" if side else spoken[type(step)])
    expression = f"serial({', '.join(layers)}, Dense(1, W_std={weight_std}, b_std={bias_std}))"
    kernel, x = parse(expression)[0][2], np.asarray(x, np.float64)[:, None]
    with jax.enable_x64(True):
        return np.block([[np.asarray(kernel(one, two, kind)) for two in x] for one in x])


@pytest.mark.parametrize(("architecture", "size", "channels", "stds"), SMALL[1::2])
@pytest.mark.parametrize("kind", ["ntk", pytest.param("nngp", marks=pytest.mark.slow)])
def test_equals_neural_tangents_on_small_images(architecture, size, channels, stds, kind):
    x = np.delete(images(size, channels), 3, axis=0)  # of parallel constants its own κ₀ has an error of 1e-8
    expected = neural_tangents_gram(architecture, x, kind, **stds)
    kernel = Cntk(
        architecture, (*size, channels), KernelSettings(kernel="CNTK", kind=kind, dtype="float64", **stds)
    )  # fmt: skip
    one = kernel.prepare(x.reshape(len(x), -1))
    assert worst(kernel.block(one, one, same=True), expected) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("depth", [5, 7, 10])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_equals_neural_tangents_on_whole_images(depth, kind):
    x = hard_images()[::3]
    expected = neural_tangents_gram(myrtle(depth), x.reshape(-1, 32, 32, 3), kind)
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
        kernel = cntk.build(KernelSettings(kernel="CNTK", kind=kind, depth=depth, dtype=dtype), (32, 32, 3))
        one = kernel.prepare(x)
        assert worst(kernel.block(one, one, same=True), expected) < tolerance


def test_scale_input_leaves_out_the_channels():
    x = images((4, 4), 3)
    stax, raw = (
        computed(x, (4, 4), 3, depth=2, head="gap", dtype="float64", scale=scale) for scale in ("published", "input")
    )
    np.testing.assert_allclose(raw, 3 * stax, rtol=1e-12)


def test_polynomials_of_float32():
    c = np.concatenate([np.linspace(-1, 1, 100_001), 1 - np.geomspace(1e-12, 1e-3, 1000)])
    t = 1 - np.abs(c)
    arc = np.arccos(np.abs(c))
    kappa0 = np.sqrt(t) * np.polyval(P[::-1], t)
    assert np.abs(kappa0 - arc / np.pi).max() < 3.1e-8
    kappa1 = t**1.5 * np.polyval(Q[::-1], t)
    assert np.abs(kappa1 - (np.sqrt(1 - c**2) - np.abs(c) * arc) / np.pi).max() < 7.5e-8


def test_bad_images_are_refused():
    kernel = cntk.build(KernelSettings(kernel="CNTK"), (32, 32, 3))
    with pytest.raises(UserError, match="32x32x3"):
        kernel.prepare(np.zeros((2, 784), np.float32))
    x = np.zeros((3, 3072), np.float32)
    x[1, 5] = np.nan
    with pytest.raises(UserError, match="Image 1"):
        kernel.prepare(x)
    with pytest.raises(UserError, match="real numbers"):
        kernel.prepare(x.astype(complex))
    for shape in (None, (32, 32), (32, 0, 3)):
        with pytest.raises(UserError, match="height, width, channels"):
            cntk.build(KernelSettings(kernel="CNTK"), shape)
    with pytest.raises(UserError, match="28x28"):
        cntk.build(KernelSettings(kernel="CNTK"), (28, 28, 1))
    with pytest.raises(UserError, match="weight_std"):
        cntk.build(KernelSettings(kernel="CNTK", weight_std=0.0), (32, 32, 3))


def test_black_images_have_a_zero_kernel():
    x = np.zeros((2, 3072), np.float32)
    x[1] = 1
    gram = computed(x.reshape(2, 32, 32, 3), (32, 32), 3, depth=5)
    assert gram[0, 0] == gram[0, 1] == 0 and gram[1, 1] > 0
