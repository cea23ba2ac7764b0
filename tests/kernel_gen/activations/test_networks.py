"""Networks of any activation: against ReLU's fused kernels, neural-tangents, and networks of finite width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.cntk.architecture import Architecture, AvgPool, Conv, GlobalAvgPool, Relu, plain
from kernel_gen.cntk.general_jax import GeneralCntk
from kernel_gen.features import linear
from kernel_gen.features.activation import Approximation
from kernel_gen.features.network import EmbeddingPlan, Features
from kernel_gen.features.nonlinearity import nonlinearity
from kernel_gen.kernels.dense import DenseKernel
from kernel_gen.stax.network import from_stax
from linearized.base.activations import parse
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings

SHIFTS = [(dy, dx) for dy in range(3) for dx in range(3)]


@pytest.fixture(scope="module")
def rows():
    x = np.random.default_rng(0).normal(size=(12, 7))
    x[5], x[6], x[7] = x[3], 0, -2 * x[3]
    return x


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_the_general_path_gives_the_fused_relu(rows, kind):
    settings = {"kind": kind, "weight_std": 1.4, "bias_std": 0.2}
    for dtype, error in (("float64", 1e-7), ("float32", 2e-4)):  # of near-duplicates
        found = gram(DenseKernel("relu", dtype=dtype, num_layers=3, **settings), rows)
        expected = gram("NTK", rows, dtype=dtype, dense_layers=3, **settings)
        np.testing.assert_allclose(found, expected, rtol=error, atol=error * expected.max())
        np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=1e-6)


@pytest.mark.parametrize("text", ["gelu", "tanh", "elu", "hard_tanh", "leaky_relu(0.1)"])
def test_wide_networks_have_this_kernel(rows, text):
    """Means over networks of width 256, within five standard errors and the 1/N of their bias."""
    x, width, function = jnp.asarray(rows[:4], jnp.float32), 256, parse(text)

    def kernels(key):
        shapes = [(x.shape[1], width), (width, width), (width, 1)]
        weights = [jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 3), shapes, strict=True)]

        def hidden(weights):
            h = x
            for w in weights[:-1]:
                h = function(h @ w / jnp.sqrt(w.shape[0]), jnp)
            return h

        def output(weights):
            return (hidden(weights) @ weights[-1])[:, 0] / jnp.sqrt(width)

        h = hidden(weights)
        ntk = sum(jnp.einsum("i...,j...->ij", j, j) for j in jax.jacrev(output)(weights))
        return ntk, h @ h.T / width

    samples = [jax.jit(kernels)(key) for key in jax.random.split(jax.random.key(0), 30)]
    for kind, part in (("ntk", 0), ("nngp", 1)):
        found = np.stack([sample[part] for sample in samples])
        exact = gram("NTK", rows[:4], dense_layers=3, activation=text, kind=kind)
        room = 5 * found.std(axis=0) / np.sqrt(len(found)) + 2 * np.abs(exact).max() / width
        assert np.all(np.abs(found.mean(axis=0) - exact) < room)


def conv(std=1.3, bias=0.2):
    return f"Conv(1, (3, 3), padding='SAME', W_std={std}, b_std={bias})"


@pytest.fixture(scope="module")
def images():
    x = np.random.default_rng(0).normal(size=(4, 4, 6, 2))
    x[2], x[3, :2] = 0.7, 0
    return x


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("text, layer", [("gelu", "Gelu()"), ("leaky_relu(0.1)", "LeakyRelu(0.1)")])
def test_convolutional_networks_are_those_of_neural_tangents(images, kind, text, layer):
    settings = {"depth": 2, "head": "gap", "activation": text, "kind": kind, "weight_std": 1.3, "bias_std": 0.2}
    found = gram("CNTK", images, dtype="float64", **settings)
    layers = f"{conv()}, {layer}, {conv()}, {layer}, GlobalAvgPool(), Dense(1, W_std=1.3, b_std=0.2)"
    network = from_stax(f"serial({layers})", kind=kind, dtype="float64", image_shape=images.shape[1:])
    np.testing.assert_allclose(found, gram(network, images), rtol=1e-8)
    np.testing.assert_allclose(gram("CNTK", images, **settings), found, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_the_general_cntk_gives_the_fused_relu(images, kind):
    made = GeneralCntk(plain(2, "flatten"), images.shape[1:], KernelSettings(kernel="CNTK", kind=kind, dtype="float64"))
    expected = gram("CNTK", images, depth=2, head="flatten", kind=kind, dtype="float64")
    np.testing.assert_allclose(gram(made, images), expected, rtol=1e-10)


def test_sign_after_a_pool_is_the_arcsine_of_correlations(images):
    """Variances after a pool are neither 1 nor alike from pixel to pixel: NNGP against loops over the recursion."""

    def convolved(k):
        padded = np.pad(k, ((0, 0), (0, 0), *((1, 1),) * 4))
        cuts = ([slice(s, s + side) for s, side in zip((dy, dx) * 2, k.shape[2:], strict=True)] for dy, dx in SHIFTS)
        return sum(padded[(slice(None), slice(None), *cut)] for cut in cuts) / 9

    def sign(k):
        deviations = np.sqrt(np.einsum("iiyxyx->iyx", k))
        product = np.einsum("iyx,juv->ijyxuv", deviations, deviations)
        c = np.divide(k, product, out=np.zeros_like(k), where=product > 0)
        return 2 / np.pi * np.arcsin(np.clip(c, -1, 1))

    def pool(k):
        n, height, width = len(k), k.shape[2] // 2, k.shape[3] // 2
        return k.reshape(n, n, height, 2, width, 2, height, 2, width, 2).mean(axis=(3, 5, 7, 9))

    k = np.einsum("iyxc,juvc->ijyxuv", images, images) / images.shape[-1]
    pooled = pool(sign(convolved(k)))
    variances = np.einsum("iiyxyx->iyx", pooled)
    assert variances.max() < 0.95 and np.ptp(variances) > 0.05
    text = Architecture("pooled", (Conv(), Relu(), AvgPool(2), Conv(), Relu(), GlobalAvgPool()))
    made = GeneralCntk(text, images.shape[1:], KernelSettings(kernel="CNTK", activation="sign", kind="nngp"))
    np.testing.assert_allclose(
        gram(made, images), sign(convolved(pooled)).mean(axis=(2, 3, 4, 5)), rtol=1e-4, atol=1e-6
    )
    network = [linear.ConvStep(), nonlinearity("sign"), linear.AvgPoolStep((2, 2), (2, 2)), nonlinearity("sign")]
    features = Features([*network, linear.GlobalAvgPoolStep(), linear.DenseStep()], images[0].size,
                        images.shape[1:], "nngp",
                        EmbeddingPlan(20_000, how=Approximation(dtype="float64")))  # fmt: skip
    f, exact = features(images.reshape(len(images), -1)), sign(pooled).mean(axis=(2, 3, 4, 5))
    assert np.linalg.norm(f @ f.T - exact) < 0.05 * np.linalg.norm(exact)


def test_a_series_of_few_terms_and_one_of_many_meet():
    """Blocks of a small and a large input, prepared apart, are those prepared at once."""
    x = np.random.default_rng(0).normal(size=(6, 5))
    x[3:] *= 3
    kernel = DenseKernel("tanh", num_layers=3, dtype="float64")
    apart = kernel.prepare(x[:3]), kernel.prepare(x[3:])
    assert apart[0].terms[0] < apart[1].terms[0]
    whole = kernel.prepare(x)
    np.testing.assert_allclose(kernel.block(*apart), kernel.block(whole, whole)[:3, 3:], rtol=1e-11, atol=1e-13)


def test_other_kernels_and_overflowing_ones_refuse():
    x = np.ones((3, 4))
    with pytest.raises(UserError, match="--activation is read by"):
        gram("POLYNOMIAL", x, activation="gelu")
    with pytest.raises(UserError, match="overflows float32"):
        gram("NTK", 20 * x, activation="exp")
    with pytest.raises(UserError, match="There are:"):
        gram("NTK", x, activation="gelo")
    with pytest.raises(UserError, match="finds no such device"):
        gram("CNTK", np.ones((1, 4, 4, 1)), head="gap", activation="erf", device="gpu")


def test_the_activation_names_the_run():
    one, two = KernelSettings(activation="gelu"), KernelSettings(activation="sin(1,2)")
    assert len({one.key(), two.key(), KernelSettings().key()}) == 3
    assert KernelSettings(activation="GELU").key() == one.key()
    assert (one.label(), two.label(), KernelSettings().label()) == ("NTK2_gelu_ntk", "NTK2_sin_ntk", "NTK2_ntk")
