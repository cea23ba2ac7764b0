"""What is true of every activation in the table: a new one is tested by being listed."""

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import linearized.base.activations
from kernel_gen import gram
from kernel_gen.activations import ACTIVATIONS, activation
from kernel_gen.stax.network import from_stax
from linearized.base.activations import parse
from linearized.base.errors import UserError

spec = importlib.util.spec_from_file_location("gaussian_oracle", Path(__file__).with_name("gaussian_oracle.py"))
gaussian_oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gaussian_oracle)

# Arguments that are not the defaults, so that every one of them reaches the dual; other names stand for themselves.
TEXTS = {
    "sin": "sin(a=0.7,b=1.5,c=0.4)", "cos": "cos(a=0.7,b=1.5,c=0.4)", "rbf": "rbf(0.6)", "erf": "erf(0.8,1.2,0.3)",
    "exp": "exp(a=0.5,b=0.7)", "gaussian": "gaussian(a=1.3,b=-0.4)", "exp_normalized": "exp_normalized(0.8,-0.6)",
    "hermite": "hermite(3)", "unit_hermite": "unit_hermite(3)", "monomial": "monomial(3)",
    "polynomial": "polynomial(0.5,1,-0.3,0.2)",
    "rectified_monomial": "rectified_monomial(2)", "leaky_relu": "leaky_relu(0.1)", "elu": "elu(0.7)",
    "celu": "celu(1.5)",
}  # fmt: skip
KINKS = {"relu6": (0.0, 6.0), "hard_sigmoid": (-3.0, 3.0), "hard_silu": (-3.0, 3.0), "hard_tanh": (-1.0, 1.0)}
# (std of u, std of v, correlation): the ends, both sides of the branches, norms apart, near and far.
POINTS = [(1, 1, 1), (1, 1, -1), (1, 1, 0.3), (0.5, 1.3, -0.95), (2, 0.7, 0.9), (2, 2.02, 0.999), (2, 2, 1)]
# neural-tangents' layers, where it has them; it has no Hermite of other norms and its rectified monomials are NaN.
STAX = {
    "sin": "Sin(0.7,1.5,0.4)", "cos": "Cos(0.7,1.5,0.4)", "rbf": "Rbf(0.6)", "erf": "Erf(0.8,1.2,0.3)",
    "sigmoid_like": "Sigmoid_like()", "gelu": "Gelu()", "exp": "Exp(0.5,0.7)", "gaussian": "Gaussian(1.3,-0.4)",
    "gabor": "Gabor()", "exp_normalized": "ExpNormalized(0.8,-0.6)", "monomial": "Monomial(3)",
    "unit_hermite": "Hermite(3)", "polynomial": "Polynomial((0.5,1.0,-0.3,0.2))",
    "sign": "Sign()", "abs": "Abs()", "relu": "Relu()",
    "leaky_relu": "LeakyRelu(0.1)",
}  # fmt: skip
UNIT = ("exp_normalized", "unit_hermite")  # whose duals are means of their functions on unit variances alone
EACH = pytest.mark.parametrize("name", ACTIVATIONS)
# Those with several kinks compile for ten seconds and more in each test: one of them stands for the others.
QUICK = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in KINKS and name != "hard_tanh" else ())
        for name in ACTIVATIONS
    ],
)


@functools.cache
def made(name):
    return activation(TEXTS.get(name, name))


def slope_of(name, x):
    """f' by autodiff of f."""
    with jax.enable_x64(True):
        x = jnp.asarray(x)
        return np.asarray(jax.jvp(lambda x: made(name).function(x, jnp), (x,), (jnp.ones_like(x),))[1])


def points(name):
    """Return the arrays of a block whose diagonal entries are the points."""
    chosen = [point for point in POINTS if name not in UNIT or point[:2] == (1, 1)]
    std1, std2, c = np.array(chosen, float).T
    return chosen, c * std1 * std2, std1**2, std2**2


def at_points(name):
    """Dual and slope at each point."""
    _, *blocks = points(name)
    found = [made(name).both(k12[None, None], k11[None], k22[None]) for k12, k11, k22 in zip(*blocks, strict=True)]
    return np.array(found)[..., 0, 0].T


@EACH
def test_dual_and_slope_are_their_integrals(name):
    functions = (lambda x: made(name).function(x, np)), (lambda x: slope_of(name, x))
    kinks = KINKS.get(name, (0.0,))
    for found, f in zip(at_points(name), functions, strict=True):
        expected = [gaussian_oracle.mean(f, f, *point, kinks) for point in points(name)[0]]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@QUICK
def test_slope_is_the_derivative_of_the_dual(name):
    c, step, one = np.array([[-0.9, -0.3, 0.0, 0.5, 0.94]]), 1e-5, np.array([1.3])
    k22, k12 = np.full(5, 0.8), c * np.sqrt(1.3 * 0.8)
    slope, above, below = (made(name).both(k12 + shift, one, k22) for shift in (0, step, -step))
    slope, difference = slope[1], above[0] - below[0]
    if name == "sign":  # its derivative almost everywhere is 0, as for training, whatever the dual does
        assert np.all(slope == 0) and np.all(difference > 0)
        return
    np.testing.assert_allclose(slope, difference / (2 * step), rtol=1e-6, atol=1e-7)


@EACH
def test_dual_is_the_mean_over_samples(name):
    u, w = np.random.default_rng(0).normal(size=(2, 200_000))
    c = -0.6
    products = made(name).function(u, np) * made(name).function(c * u + np.sqrt(1 - c * c) * w, np)
    found = made(name).dual(np.array([[c]]), np.ones(1), np.ones(1)).item()
    assert abs(found - products.mean()) < 5 * products.std() / np.sqrt(len(products))


@QUICK
@pytest.mark.parametrize("dtype, error", [(np.float32, 2e-5), (np.float64, 1e-11)])
def test_the_diagonal_is_finite_positive_and_exact(name, dtype, error):
    variance = np.array([0.0, 1e-4, 0.3, 1.0, 2.5], dtype)
    expected = made(name).diagonal(variance.astype(np.float64))
    blocks = made(name).both(np.diag(variance), variance, variance)
    for word, block, exact in zip(("dual", "slope"), blocks, expected, strict=True):
        found = np.diag(block)
        assert found.dtype == dtype and np.isfinite(block).all()
        assert np.all(found[1:] > 0) or (name == "sign" and word == "slope")
        np.testing.assert_allclose(found, exact, rtol=error, atol=error)


@QUICK
def test_matrices_of_duals_are_positive_semidefinite(name):
    x = np.random.default_rng(0).normal(size=(30, 4))
    x[5], x[6], x[7] = x[4], -2 * x[4], 0
    k12 = x @ x.T / 4
    variances = np.diag(k12).copy()
    for matrix in made(name).both(k12, variances, variances):
        np.testing.assert_allclose(matrix, matrix.T, rtol=1e-9, atol=1e-12)
        assert np.linalg.eigvalsh(matrix).min() > -1e-9 * max(np.trace(matrix), 1e-12)


@QUICK
@pytest.mark.parametrize("kind", ["ntk", pytest.param("nngp", marks=pytest.mark.slow)])
def test_three_layer_networks_are_those_of_neural_tangents(name, kind):
    x = np.random.default_rng(1).normal(size=(6, 5))
    settings = {"dense_layers": 3, "weight_std": 1.2, "bias_std": 0.3, "kind": kind, "activation": made(name).text}
    found = gram("NTK", x, dtype="float64", **settings)
    assert np.isfinite(found).all()
    assert np.linalg.eigvalsh(found).min() > 0
    np.testing.assert_allclose(gram("NTK", x, **settings), found, rtol=1e-4, atol=1e-5 * np.abs(found).max())
    if name not in STAX:
        return
    dense = "Dense(1, W_std=1.2, b_std=0.3)"
    network = from_stax(f"serial({dense}, {STAX[name]}, {dense}, {STAX[name]}, {dense})", kind=kind, dtype="float64")
    expected, apart = gram(network, x), ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(found[apart], expected[apart], rtol=1e-10, atol=1e-10)
    # Its diagonal is at the mercy of rounding: by the root of it, and by the root of that after a jump.
    np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=1e-4 if name == "sign" else 1e-6)


@EACH
def test_the_function_is_the_same_in_all_namespaces(name):
    x = np.array([-5.0, -1.2, -0.3, 0.0, 0.4, 1.0, 2.5, 7.0], np.float32)
    expected = made(name).function(x.astype(np.float64), np)
    for found in (
        made(name).function(x, np),
        np.asarray(made(name).function(jnp.asarray(x), jnp)),
        keras.ops.convert_to_numpy(made(name).function(keras.ops.convert_to_tensor(x), keras.ops)),
    ):
        assert found.shape == x.shape
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_both_sides_know_the_same_names():
    assert set(ACTIVATIONS) == set(linearized.base.activations.ACTIVATIONS)
    for name in ACTIVATIONS:
        assert parse(made(name).text) == made(name).scalar  # what is saved reads back
    for mapping in (TEXTS, KINKS, STAX):
        assert set(mapping) <= set(ACTIVATIONS)


# What Keras calls so: a name must not stand for another function.
KERAS = ["relu", "leaky_relu", "relu6", "softplus", "softsign", "log_sigmoid", "silu", "tanh", "sigmoid",
         "hard_sigmoid", "hard_silu", "hard_tanh", "elu", "celu", "selu"]  # fmt: skip


@pytest.mark.parametrize("name", KERAS)
def test_names_that_keras_has_mean_the_same(name):
    x = np.linspace(-8, 8, 41).astype(np.float32)
    theirs = keras.ops.convert_to_numpy(getattr(keras.activations, name)(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(parse(name)(x, np), theirs, rtol=1e-5, atol=1e-6)


def test_unknown_names_are_told_all_that_there_are():
    with pytest.raises(UserError) as told:
        activation("gelo")
    assert len(str(told.value).splitlines()) == 1 + len(ACTIVATIONS)
    assert all(name in str(told.value) for name in ACTIVATIONS)
    done = subprocess.run([sys.executable, "-m", "kernel_gen", "--activation=gelo"], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 + len(ACTIVATIONS)


@pytest.mark.parametrize(
    "text", ["sin(d=1)", "gelu(1)", "__import__('os')", "hermite(2.5)", "hermite(-1)", "celu(0)", "sin(*a)", "a.b(1)",
             "sin(1e999)", "polynomial()", "sin('1')", "sin(True)", "rbf(-1)", "", "-" * 9000 + "1",
             "rectified_monomial(13)"],
)  # fmt: skip
def test_texts_that_are_no_activation_are_refused(text):
    with pytest.raises(UserError):
        activation(text)


@pytest.mark.parametrize("text", ["glu", "GLU(2)", "softmax"])
def test_what_is_not_elementwise_is_refused_as_such(text):
    with pytest.raises(UserError, match="is not elementwise: each of its outputs depends on several inputs"):
        activation(text)


@pytest.mark.parametrize("text, std", [("gaussian(a=1.1,b=0.2)", 1.0), ("gaussian(b=0.03)", 2.5), ("celu(-1.5)", 1.4)])
@pytest.mark.parametrize("c", [1.0, -0.8, 0.3])
def test_functions_that_grow_have_duals_below_their_largest_variance(text, std, c):
    made = activation(text)
    expected = gaussian_oracle.mean(lambda x: made.function(x, np), lambda x: made.function(x, np), std, 0.7, c)
    variances = np.array([std**2]), np.array([0.49])
    np.testing.assert_allclose(made.dual(np.array([[c * std * 0.7]]), *variances), expected, rtol=1e-9)


@pytest.mark.parametrize("text, bound", [("gaussian(b=0.2)", 1.25), ("celu(-1.5)", 2.25)])
def test_variances_beyond_the_largest_are_refused_by_their_bound(text, bound):
    k12, k22 = np.zeros((1, 1)), np.ones(1)
    assert np.isfinite(activation(text).both(k12, np.array([0.99 * bound]), k22)).all()
    with pytest.raises(UserError, match="Lower --weight_std"):
        activation(text).both(k12, np.array([1.01 * bound]), k22)
    with pytest.raises(UserError, match="Lower --weight_std"):
        gram("NTK", np.eye(3), activation=text, weight_std=3.0)


def test_a_small_factor_keeps_the_dual_of_exp_finite():
    """a² exp(2 v) at v = 596, of which the exponential alone is beyond float64 and a² below it."""
    found = activation("exp(a=1e-259)").both(np.array([[596.0]]), np.array([596.0]), np.array([596.0]))
    expected = np.exp(2 * np.log(1e-259) + 2 * 596)
    np.testing.assert_allclose(found, np.full((2, 1, 1), expected), rtol=1e-10)


@pytest.mark.parametrize("name", ["erf", "sigmoid_like", "gelu", "gaussian", "gabor", "relu", "exp_normalized", "rbf"])
def test_duals_at_huge_variances_are_finite_in_float32(name):
    """Products of two variances are beyond float32 from 1e19 on; the duals are not. float64 holds both."""
    variances = np.array([1e24, 1e28])
    k12 = np.outer(np.sqrt(variances), np.sqrt(variances)) * np.array([[1, 0.5], [0.5, 1]])
    expected = activation(name).both(k12, variances, variances)
    found = activation(name).both(*(part.astype(np.float32) for part in (k12, variances, variances)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-30)


def test_unit_hermite_is_the_published_kernel_and_hermite_the_exact_one():
    """They agree on variances of 1 alone; for others the exact one has the constant of E[He₂(σz)]² as well."""
    k12, variances = np.array([[0.6]]), np.array([2.0])
    published, slope = activation("unit_hermite(2)").both(k12, variances, variances)
    assert published.item() == pytest.approx(0.6**2) and slope.item() == pytest.approx(2 * 0.6)
    exact = activation("hermite(2)").dual(k12, variances, variances)
    assert exact.item() == pytest.approx(0.6**2 + (2.0 - 1) ** 2 / 2)
    ones = np.ones(1)
    for one, other in zip(
        *(activation(t).both(k12, ones, ones) for t in ("hermite(4)", "unit_hermite(4)")), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_one_function_has_one_spelling():
    assert activation("SIN(1, 2)") is activation("sin(b=2.0)")
    assert activation("swish") is activation("silu")
    assert activation("soft_sign") is activation("softsign")
    assert parse("leaky_relu(0.2)").text == "leaky_relu"
