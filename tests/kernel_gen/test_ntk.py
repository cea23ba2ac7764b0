"""The fully connected kernels: against neural-tangents in float64, diagonals, scales, networks of finite width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.kernels import ntk
from kernel_gen.stax.network import neural_tangents
from linearized.base.errors import UserError
from linearized.settings.gram_settings import KernelSettings

stax = neural_tangents().stax


def oracle(x, z, num_layers, kind, weight_std=1.0, bias_std=None) -> np.ndarray:
    """neural-tangents in float64."""
    dense = {"W_std": weight_std, "b_std": bias_std}
    layers = [stax.Dense(1, **dense)]
    for _ in range(num_layers - 1):
        layers += [stax.Relu(), stax.Dense(1, **dense)]
    with jax.enable_x64(True):
        return np.asarray(stax.serial(*layers)[2](x, z, kind))


@pytest.mark.parametrize("weight_std, bias_std", [(1.0, None), (1.4, 0.3)])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("num_layers", [1, 2, 3, 6])
def test_entries_are_those_of_neural_tangents(rows, num_layers, kind, weight_std, bias_std):
    settings = {"dense_layers": num_layers, "kind": kind, "weight_std": weight_std, "bias_std": bias_std}
    expected = oracle(rows, rows, num_layers, kind, weight_std, bias_std)
    # Near correlation 1 rounding is all: ours in float32, neural-tangents' in float64 too. Tested below.
    norms = np.linalg.norm(rows, axis=1)
    apart = rows @ rows.T < 0.99 * np.outer(norms, norms)
    scale = np.abs(expected).max()
    for dtype, error, near in (("float32", 1e-5, 2e-4), ("float64", 1e-10, 1e-7)):
        for found in (gram("NTK", rows, dtype=dtype, **settings), gram("NTK", rows, rows, dtype=dtype, **settings)):
            assert found.dtype == dtype
            np.testing.assert_allclose(found[apart], expected[apart], rtol=error, atol=error * scale)
            distinct = ~np.eye(len(rows), dtype=bool)
            distinct[0, -1] = distinct[-1, 0] = False
            np.testing.assert_allclose(found[distinct], expected[distinct], rtol=near, atol=near * scale)


@pytest.mark.parametrize("dtype, error", [("float32", 3e-7), ("float64", 1e-15)])
def test_the_diagonal_is_exact(rows, dtype, error):
    squares = (rows**2).sum(axis=1) / rows.shape[1]
    for num_layers in (2, 3, 5):
        found = np.diag(gram("NTK", rows, dtype=dtype, dense_layers=num_layers))
        expected = num_layers * squares / 2 ** (num_layers - 1)  # each layer halves what each of the tangents gives
        np.testing.assert_allclose(found, expected, rtol=4 * error)


def test_near_duplicates_lose_no_more_than_a_float32_inner_product_must(rows):
    exact = np.diag(gram("NTK", rows, dtype="float64"))
    found = np.diag(gram("NTK", rows, rows))  # not told that both are the same
    np.testing.assert_allclose(found, exact, rtol=1e-3)
    found = np.diag(gram("NTK", rows, rows, dtype="float64"))
    np.testing.assert_allclose(found, exact, rtol=1e-7)


def test_published_scales(rows):
    z, dim = rows[::-1], rows.shape[1]
    two = gram("NTK", rows, z, dense_layers=2, scale="published", dtype="float64")
    np.testing.assert_allclose(two, dim * gram("NTK", rows, z, dense_layers=2, dtype="float64"), rtol=1e-7)
    norms, others = (np.linalg.norm(a, axis=1) for a in (rows[:5], rows[5:7]))
    cos = rows[:5] @ rows[5:7].T / norms[:, None] / others
    angle = np.arccos(cos)
    formula = norms[:, None] * others * ((1 - angle / np.pi) * cos + np.sqrt(1 - cos**2) / (2 * np.pi))
    found = gram("NTK", rows[:5], rows[5:7], scale="published", dtype="float64")
    np.testing.assert_allclose(found, formula, rtol=1e-12)
    three = gram("NTK", rows, z, dense_layers=3, scale="published")
    np.testing.assert_array_equal(three, gram("NTK", rows, z, dense_layers=3, scale="stax"))
    for layers, scale in ((2, "input"), (3, "stax")):
        assert ntk.build(KernelSettings(dense_layers=layers)).scale == scale


def test_the_scale_input_takes_raw_inputs_with_biases_too(rows):
    scaled = rows * np.sqrt(rows.shape[1])
    settings = {"dense_layers": 3, "bias_std": 0.5, "dtype": "float64"}
    apart = ~np.eye(len(rows), dtype=bool)
    found, expected = gram("NTK", rows, scale="input", **settings), gram("NTK", scaled, scale="stax", **settings)
    np.testing.assert_allclose(found[apart], expected[apart], rtol=1e-7)
    np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=1e-12)


def test_wide_networks_have_this_kernel(rows):
    """The mean over networks of width 512, within five standard errors of it and the 1/N of its bias."""
    x = jnp.asarray(rows[:4], jnp.float32)
    width = 512

    def tangent_kernel(key):
        keys = jax.random.split(key, 3)
        shapes = [(x.shape[1], width), (width, width), (width, 1)]
        weights = [jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]

        def output(weights):
            hidden = x
            for i, w in enumerate(weights):
                hidden = (jax.nn.relu(hidden) if i else hidden) @ w / jnp.sqrt(w.shape[0])
            return hidden[:, 0]

        return sum(jnp.einsum("i...,j...->ij", j, j) for j in jax.jacrev(output)(weights))

    samples = np.stack([jax.jit(tangent_kernel)(key) for key in jax.random.split(jax.random.key(0), 60)])
    errors = np.abs(samples.mean(axis=0) - gram("NTK", rows[:4], dense_layers=3))
    assert np.all(errors < 5 * samples.std(axis=0) / np.sqrt(len(samples)) + 2 * samples.mean(axis=0) / width)


def test_settings_of_other_kernels_are_refused(rows):
    with pytest.raises(UserError, match="--num_units is read by --kernel=RF"):
        gram("NTK", rows, num_units=10)


def test_widths_must_agree(rows):
    kernel = ntk.build(KernelSettings())
    with pytest.raises(UserError, match="same number of columns"):
        kernel.block(kernel.prepare(rows), kernel.prepare(rows[:, :5]))


def by_long_doubles(x, num_layers, kind):
    """The recursion of the module in extended precision, whose arccos is exact enough away from c = 1."""
    wide, pi = x.astype(np.longdouble), np.longdouble("3.14159265358979323846264338327950288")
    sigma = wide @ wide.T / x.shape[1]
    tangent, variances = sigma, np.diag(sigma)
    for _ in range(num_layers - 1):
        norm = np.sqrt(np.outer(variances, variances))
        c = np.clip(sigma / norm, -1, 1)
        angle = np.arccos(c)
        sigma = norm * (np.sqrt(1 - c * c) + c * (pi - angle)) / (2 * pi)
        tangent, variances = tangent * (1 - angle / pi) / 2 + sigma, variances / 2
    return tangent if kind == "ntk" else sigma


@pytest.mark.parametrize("num_layers", [2, 10])
@pytest.mark.parametrize("dtype, bound", [("float32", 6e-7), ("float64", 2e-15)])
def test_rows_that_are_apart_err_within_the_bound_of_the_docstring(num_layers, dtype, bound):
    random = np.random.default_rng(1)
    x = random.normal(size=(60, 20))
    x[30:] = x[:30] + np.geomspace(0.05, 2, 30)[:, None] * random.normal(size=(30, 20))
    x = x.astype(dtype)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    apart = np.abs(unit @ unit.T) < 0.999
    for kind in ("ntk", "nngp"):
        expected = by_long_doubles(x, num_layers, kind)
        found = gram("NTK", x, dense_layers=num_layers, kind=kind, dtype=dtype)
        assert np.abs(found - expected)[apart].max() < bound * (num_layers - 1) * expected.max()


@pytest.mark.parametrize("num_layers", [2, 4, 10])
@pytest.mark.parametrize("dim", [20, 784])
def test_equal_and_nearly_equal_rows_err_within_the_bound_of_the_docstring(num_layers, dim):
    random = np.random.default_rng(dim)
    x = random.normal(size=(60, dim)).astype(np.float32)
    far = [x + size * random.normal(size=x.shape) for size in (0, 1e-4, 5e-4, 1e-3, 3e-3)]
    z = np.concatenate(far).astype(np.float32)
    for kind, bound in (("ntk", 3e-4 * (num_layers - 1)), ("nngp", 1e-5)):
        found, expected = (
            gram("NTK", x, z, dense_layers=num_layers, kind=kind, dtype=t) for t in ("float32", "float64")
        )
        assert np.abs(found - expected).max() < bound * expected.max()
    own = gram("NTK", x, dense_layers=num_layers, dtype="float64")
    twice = gram("NTK", x, x, dense_layers=num_layers, dtype="float64")
    assert np.abs(np.diag(twice) - np.diag(own)).max() < 2e-8 * (num_layers - 1) * own.max()
