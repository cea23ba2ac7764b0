"""Functions and `Activation` objects wherever names of activations go: kernels, features, stax expressions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kernel_gen
from kernel_gen import Elementwise, embedding, gram
from kernel_gen.activations import activation
from kernel_gen.stax.activation import _lengths, _pair, activation_layer
from kernel_gen.stax.network import from_stax, neural_tangents
from linearized.base.errors import UserError
from linearized.settings.gram_settings import GramSettings


def silu(x):
    return x * jax.nn.sigmoid(x)


def squared_exponential(k12, k11, k22):
    """The dual of rbf(0.5)."""
    return jnp.exp(k12 - (k11 + k22) / 2)


OWN = {
    "function": (silu, "silu"), "elementwise": (Elementwise(silu), "silu"),
    "dual": (Elementwise(dual=squared_exponential), "rbf(0.5)"), "named object": (activation("gelu"), "gelu"),
}  # fmt: skip
EACH = pytest.mark.parametrize("given, name", OWN.values(), ids=OWN)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(6, 5))


@EACH
def test_ntk(x, given, name):
    found = gram("NTK", x, activation=given, dense_layers=3, dtype="float64")
    np.testing.assert_allclose(found, gram("NTK", x, activation=name, dense_layers=3, dtype="float64"), rtol=1e-8)


@pytest.mark.parametrize("given, name", [OWN["dual"], pytest.param(*OWN["function"], marks=pytest.mark.slow)])
def test_cntk(given, name):
    images = np.random.default_rng(1).normal(size=(2, 3, 3, 2))
    images[1, :2] = 0  # whose convolutions have pixels of variance 0
    settings = {"head": "gap", "depth": 2, "dtype": "float64"}
    found = gram("CNTK", images, activation=given, **settings)
    np.testing.assert_allclose(found, gram("CNTK", images, activation=name, **settings), rtol=1e-8)


def test_a_dual_that_divides_by_a_variance_takes_black_images():
    def arc_cosine(k12, k11, k22):
        norm = jnp.sqrt(k11 * k22)
        c = k12 / norm
        return norm * (jnp.sqrt(1 - c**2) + c * (jnp.pi - jnp.arccos(c))) / (2 * jnp.pi)

    images = np.random.default_rng(1).normal(size=(2, 4, 4, 1))
    images[1] = 0
    found = gram("CNTK", images, activation=Elementwise(dual=arc_cosine), head="gap", depth=1, dtype="float64")
    np.testing.assert_allclose(found, gram("CNTK", images, head="gap", depth=1, dtype="float64"), rtol=1e-7, atol=1e-9)


def test_stax_expressions(x):
    dense = "Dense(1, 1.2, 0.3)"
    expression = f"serial({dense}, Elementwise(), {dense}, Elementwise('gelu'), {dense})"
    found = gram("STAX", x, architecture=expression, activation=OWN["dual"][0], dtype="float64")
    theirs = f"serial({dense}, Rbf(0.5), {dense}, Gelu(), {dense})"
    np.testing.assert_allclose(found, gram("STAX", x, architecture=theirs, dtype="float64"), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_series_in_stax_take_the_length_that_the_variances_want(x, dtype):
    expression = "serial(Dense(1), Elementwise('silu'), Dense(1))"
    for scale in (0.1, 1.0, 5.0):
        found = gram("STAX", scale * x, architecture=expression, dtype=dtype)
        expected = gram("NTK", scale * x, activation="silu", dtype=dtype)
        np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype == "float32" else 1e-9)


def test_layers_of_ones_own_stax_network(x):
    stax = neural_tangents().stax
    layer = stax.serial(stax.Dense(1), activation_layer("gelu"), stax.Dense(1))
    found = gram(from_stax(layer, dtype="float64"), x)
    np.testing.assert_allclose(found, gram("NTK", x, activation="gelu", dtype="float64"), rtol=1e-8)
    weights = layer[0](jax.random.PRNGKey(0), (-1, 5))[1]
    assert np.isfinite(layer[1](weights, x)).all()  # the network of finite width


@pytest.mark.parametrize("method", ["random", "sketch"])
def test_features(x, method):
    settings = {"embedding_dim": 4000, "method": method, "dtype": "float64"}
    ours, theirs = (embedding("NTK", 5, activation=given, **settings)(x) for given in (silu, "silu"))
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())
    expected = gram("NTK", x, activation="silu", dtype="float64")
    assert np.abs(ours @ ours.T - expected).max() < 0.05 * expected.max()


def test_features_of_the_published_hermite_are_its_kernel(x):
    settings = {"activation": "unit_hermite(2)", "weight_std": 1.3, "dtype": "float64"}
    features = embedding("NTK", 5, embedding_dim=8000, method="sketch", terms=3, **settings)(x)
    expected = gram("NTK", x, **settings)
    assert np.abs(features @ features.T - expected).max() < 0.1 * expected.max()


def test_what_features_cannot_take_is_refused(x):
    for given, words in (
        (Elementwise(dual=squared_exponential), "no function of its own"),
        (lambda x: np.tanh(np.asarray(x)), "Write it in jax.numpy"), (3, "a function or an object"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            embedding("NTK", 5, activation=given)
    with pytest.raises(UserError, match="Unknown settings: dataset"):
        embedding("NTK", 5, dataset="FMNIST")
    with pytest.raises(UserError, match="number of columns"):
        embedding("NTK", 0)
    with pytest.raises(UserError, match="take variances up to"):
        embedding("NTK", 5, activation="gaussian(b=0.5)", embedding_dim=2000)(x)
    phi = embedding("CNTK", (4, 4, 1), head="gap", depth=1, embedding_dim=64)
    assert phi(np.ones((2, 16))).shape == (2, phi.dim)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name, settings",
    [("NTK", {"dense_layers": 20, "weight_std": 500.0}), ("POLYNOMIAL", {"degree": 60, "offset": 1e4})],
)
def test_features_that_overflow_are_refused(x, name, settings):
    with pytest.raises(UserError, match="Features, from row 0 on, must be finite"):
        embedding(name, 5, embedding_dim=64, **settings)(x)


def test_jobs_and_other_settings_refuse_what_has_no_name(x):
    for given in (lambda x: x, Elementwise(silu)):
        with pytest.raises(UserError, match="Results are kept under the text of --activation"):
            GramSettings(activation=given)
    with pytest.raises(UserError, match="a function or an object"):
        gram("NTK", x, activation=3)
    with pytest.raises(UserError, match="--activation is read by"):
        gram("POLYNOMIAL", x, activation=silu)
    with pytest.raises(UserError, match="has no Elementwise"):
        gram("STAX", x, architecture="Dense(1)", activation=silu)
    with pytest.raises(UserError, match="takes the name of an activation"):
        gram("STAX", x, architecture="serial(Dense(1), Elementwise(3), Dense(1))")
    with pytest.raises(UserError, match="not elementwise"):
        gram("NTK", x, activation=lambda x: x - jnp.mean(x))
    assert kernel_gen.Elementwise is Elementwise


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_series_is_compiled_in_few_lengths_each_long_enough(dtype):
    """Compilation took most of the time: eight lengths of silu took a minute and more in each precision."""
    made = activation("silu")
    lengths = _lengths(made, dtype)
    assert [terms for _, terms in lengths] == [64, 512, 2048]
    for largest, terms in lengths:
        assert made.terms(largest, dtype) <= terms < made.terms(4 * largest, dtype) if terms < 2048 else terms == 2048


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("space", [False, True])
def test_covariances_of_every_layout_equal_a_loop_over_their_entries(batch, space):
    """neural-tangents holds (n1[, n2]) and (x, y) or (x, x, y, y): each entry against the dual of that pair."""
    neural_tangents()
    made, random = activation("silu"), np.random.default_rng(0)
    n, x, y = 2, 2, 2
    points = random.standard_normal((2, n, x, y, 5)) / 3
    one, two = np.einsum("snxyf,snxyf->snxy", points, points)
    left, right = points[0], points[0] if batch else points[1]
    letters = ("n" if batch else "nm") + ("xy" if space else "xXyY")
    cov = np.einsum(f"nxyf,{letters[0] if batch else 'm'}{'xy' if space else 'XY'}f->{letters}", left, right)
    with jax.enable_x64(True):
        arrays = jnp.asarray(one), None if batch else jnp.asarray(two)
        found = _pair(made, jnp.asarray(cov), *arrays, (batch, space), 512)
    for index in np.ndindex(cov.shape):
        at = dict(zip(letters, index, strict=True))
        i, j = at["n"], at.get("m", at["n"])
        k11, k22 = one[i, at["x"], at["y"]], (one if batch else two)[j, at.get("X", at["x"]), at.get("Y", at["y"])]
        expected = made.both(cov[index].reshape(1, 1), k11.reshape(1), k22.reshape(1))
        for part, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(part[index], value.item(), rtol=1e-10, atol=1e-12)


def test_a_series_is_traced_once_however_many_terms_it_has():
    """Tracing each term took most of the 25 seconds of CPU of a first block."""
    made = activation("silu")
    sides = tuple(made.rows(jnp.ones(3), 512) for _ in range(2))
    assert str(jax.make_jaxpr(lambda k: made.pair(k, *sides, 512))(jnp.ones(3))).count("\n") < 60


def test_programs_hold_the_constants_of_a_series_once():
    """A program of two activations took 126 MB as text when each use had a copy of the basis."""
    kernel = from_stax("serial(Dense(1), Elementwise('silu'), Dense(1), Elementwise('silu'), Dense(1))")
    x = np.ones((2, 3), np.float32)
    assert len(kernel._compiled.lower(x, x).as_text()) < 3e7
