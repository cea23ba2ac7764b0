"""Embedded networks against neural_tangents.stax, which is given the same architecture as an expression."""

import numpy as np
import pytest

from kernel_gen import embedding, gram
from kernel_gen.activations import hermite
from kernel_gen.features.activation import Approximation
from kernel_gen.features.linear import AvgPoolStep, ConvStep, DenseStep, FlattenStep, GlobalAvgPoolStep
from kernel_gen.features.network import EmbeddingPlan, Features
from kernel_gen.features.nonlinearity import Nonlinearity, nonlinearity
from kernel_gen.stax.network import from_stax
from linearized.base.errors import UserError

RELU, GELU, ERF = nonlinearity("relu"), nonlinearity("gelu"), nonlinearity("erf")
EXP = nonlinearity("exp_normalized(gamma=1.5)")
EXP_STAX = "ExpNormalized(gamma=1.5, shift=-1)"
# Linear networks have features without any error: what convolutions and pools do is compared to the last digit.
LINEAR = {
    "odd filter, same": ("Conv(1, (3, 3), padding='SAME')", [ConvStep((3, 3))]),
    "odd filter, valid": ("Conv(1, (3, 5), padding='VALID')", [ConvStep((3, 5), padding="VALID")]),
    "even filter, same": ("Conv(1, (2, 4), padding='SAME')", [ConvStep((2, 4))]),
    "even filter, valid": ("Conv(1, (4, 2), padding='VALID')", [ConvStep((4, 2), padding="VALID")]),
    "strides, same": ("Conv(1, (3, 3), (2, 3), 'SAME')", [ConvStep((3, 3), (2, 3))]),
    "strides, even, valid": ("Conv(1, (2, 2), (3, 2), 'VALID')", [ConvStep((2, 2), (3, 2), "VALID")]),
    "strides, even, same": ("Conv(1, (4, 4), (2, 2), 'SAME', b_std=0.3)", [ConvStep((4, 4), (2, 2), bias_std=0.3)]),
    "pool, default strides": (
        "AvgPool((2, 2)), Conv(1, (3, 3))", [AvgPoolStep((2, 2)), ConvStep((3, 3), padding="VALID")]
    ),
    "pool": ("Conv(1, (1, 1)), AvgPool((2, 3), (2, 3))", [ConvStep((1, 1)), AvgPoolStep((2, 3), (2, 3))]),
    "pool, same": (
        "Conv(1, (1, 1)), AvgPool((3, 3), (2, 2), 'SAME')", [ConvStep((1, 1)), AvgPoolStep((3, 3), (2, 2), "SAME")]
    ),
}  # fmt: skip
NETWORKS = {
    "strides, even filter, default pool": (
        "serial(Conv(1, (2, 4), (2, 1), 'SAME'), Relu(), AvgPool((2, 2)), Conv(1, (3, 2)), Relu(), GlobalAvgPool(), "
        "Dense(1))",
        [ConvStep((2, 4), (2, 1)), RELU, AvgPoolStep((2, 2)), ConvStep((3, 2), padding="VALID"), RELU,
         GlobalAvgPoolStep(), DenseStep()],
    ),
    "biases, pool, flatten": (
        "serial(Conv(1, (3, 3), padding='SAME', b_std=0.3), Gelu(), AvgPool((2, 2), (2, 2)), Flatten(), "
        "Dense(1, 1.4, 0.2))",
        [ConvStep(bias_std=0.3), GELU, AvgPoolStep((2, 2), (2, 2)), FlattenStep(), DenseStep(1.4, 0.2)],
    ),
    "three dense layers": (
        "serial(Flatten(), Dense(1), Erf(), Dense(1, 1.2, 0.1), Relu(), Dense(1))",
        [FlattenStep(), DenseStep(), ERF, DenseStep(1.2, 0.1), RELU, DenseStep()],
    ),
    "ExpNormalized": (
        f"serial(Flatten(), Dense(1), {EXP_STAX}, Dense(1))", [FlattenStep(), DenseStep(), EXP, DenseStep()]
    ),
}  # fmt: skip


def features(layers, images, dim, *, kind="ntk", seed=0, method="random", terms=30, width=0):
    how = Approximation(method, terms, "real", "float64")
    made = Features(layers, images[0].size, images.shape[1:], kind, EmbeddingPlan(dim, width, how, seed))
    return made(images.reshape(len(images), -1))


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("case", LINEAR)
@pytest.mark.parametrize(
    "head", [("GlobalAvgPool()", GlobalAvgPoolStep()), ("Flatten()", FlattenStep())], ids=["gap", "flat"]
)
def test_linear_layers_are_exact(case, head, kind, images):
    text, layers = LINEAR[case]
    kernel = from_stax(f"serial({text}, {head[0]}, Dense(1))", kind=kind, dtype="float64", image_shape=(8, 8, 3))
    found = features([*layers, head[1], DenseStep()], images, 10**5, kind=kind)
    np.testing.assert_allclose(found @ found.T, gram(kernel, images), atol=1e-10)


CASES = [(case, method) for case in NETWORKS for method in ("random", "sketch")]
CASES.remove(("ExpNormalized", "random"))  # refused: see test_heavy_tails_are_refused_at_random_and_sketched


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(("case", "method"), CASES)
def test_networks_have_the_kernel_of_stax(case, kind, method, images):
    text, layers = NETWORKS[case]
    x = images - images.mean(axis=(1, 2, 3), keepdims=True)
    exact = gram(from_stax(text, kind=kind, dtype="float64", image_shape=(8, 8, 3)), x)
    errors = [
        np.mean([
            np.linalg.norm((f := features(layers, x, dim, kind=kind, seed=seed, method=method, width=dim // 4)) @ f.T
                           - exact)
            for seed in range(3)
        ]) / np.linalg.norm(exact)
        for dim in (256, 4096)
    ]  # fmt: skip
    assert errors[1] < 0.12
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_exp_normalized_comes_first_and_is_whole(kind):
    """‖x‖‖z‖ exp(γ(cos - 1))/d of the inputs themselves; both kinds, for a dense readout alone has weights."""
    x = np.random.default_rng(0).standard_normal((12, 6)) * np.geomspace(0.2, 5, 12)[:, None]
    norms = np.linalg.norm(x, axis=1)
    exact = np.outer(norms, norms) * np.exp(1.5 * (x @ x.T / np.outer(norms, norms) - 1)) / 6
    how = Approximation("sketch", 16, "real", "float64")
    f = Features([EXP, DenseStep()], 6, None, kind, EmbeddingPlan(20_000, how=how))(x)
    np.testing.assert_allclose(f @ f.T, exact, atol=0.03 * exact.max())
    np.testing.assert_allclose((f @ f.T).trace(), exact.trace(), rtol=0.03)


def test_what_is_equal_in_both_kernels_is_stored_once():
    """The linear term of Σ and the constant term of Θ's factor, after one layer: rows that are left for the rest."""
    x = np.random.default_rng(0).standard_normal((9, 20))
    for layers in ([DenseStep(), GELU, DenseStep()], [DenseStep(1.2, 0.3), RELU, DenseStep(0.7, 0.2)]):
        exact = [Features(layers, 20, None, "ntk", EmbeddingPlan(60_000, how=Approximation(dtype="float64")))(x)]
        exact = exact[0] @ exact[0].T
        found = Features(layers, 20, None, "ntk", EmbeddingPlan(200, how=Approximation(dtype="float64")))(x)
        assert np.linalg.matrix_rank(Features(layers, 20, None, "ntk", EmbeddingPlan(200))(
            np.random.default_rng(1).standard_normal((400, 20)))) > 195  # fmt: skip
        assert np.linalg.norm(found @ found.T - exact) < 0.15 * np.linalg.norm(exact)


def test_a_cut_series_is_the_kernel_of_its_terms(images):
    """What a sketch converges to: Σ a_j² c^j up to the degree, for two layers of gelu, at any norm of the inputs."""
    x = images.reshape(len(images), -1)
    x = x[np.linalg.norm(x, axis=1) > 0] * np.geomspace(0.3, 3, 9)[:, None]
    scales = np.linalg.norm(x, axis=1) / np.sqrt(x.shape[1])
    for terms in (0, 1, 3):
        series = GELU.series(scales, terms)
        c = (x @ x.T) / x.shape[1] / np.outer(scales, scales)
        value, slope = (
            sum(np.outer(a, a) * c**j for j, a in enumerate(coefficients))
            for coefficients in (series.value, series.slope)
        )
        exact = value + np.outer(scales, scales) * c * slope
        how = Approximation("sketch", terms, "real", "float64")
        products = []
        for seed in range(60):
            f = Features(
                [DenseStep(), GELU, DenseStep()], x.shape[1], None, "ntk", EmbeddingPlan(300, how=how, seed=seed)
            )(x)
            products.append(f @ f.T)
        mean, spread = np.mean(products, axis=0), np.std(products, axis=0) / np.sqrt(60)
        assert (np.abs(mean - exact) <= 5 * spread + 1e-9).all()


@pytest.mark.parametrize("text", ["gelu", "erf", "softplus", "cos", "relu", "relu6", "abs", "polynomial(1,2,3)"])
def test_series_are_integrals_at_every_scale(text):
    """Against sums over a fine grid."""
    scales, one = np.array([0.01, 0.4, 1.0, 7.3, 30.0]), nonlinearity(text)
    series = one.series(scales, 6)
    z = np.linspace(-12, 12, 240_001)
    weights = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    tops = np.polynomial.hermite_e.hermevander(z, 6) / np.sqrt([1, 1, 2, 6, 24, 120, 720])
    for i, s in enumerate(scales):
        values, slopes = (part[:, 0] for part in one(z[:, None], np.array([s])))
        for terms, square, numbers in (
            (series.value, series.square, values), (series.slope, series.slope_square, slopes)
        ):  # fmt: skip
            size = np.sqrt(weights @ numbers**2)
            np.testing.assert_allclose(square[i], size**2, rtol=1e-3 if text == "relu6" else 5e-5)  # jumps on the grid
            np.testing.assert_allclose(
                terms[:, i], (weights * numbers) @ tops, atol=(1e-3 if text == "relu6" else 5e-5) * size
            )


@pytest.mark.parametrize("text, scale, square, value", [
    ("gelu", 2.017, 1e-7, 1e-8), ("monomial(2)", 2.017, 1e-6, 1e-6), ("monomial(3)", 2.017, 5e-6, 1e-6),
    ("sin", 4.05, 1e-7, 2e-6), ("sin", 8.09, 1e-7, 1e-4),
])  # fmt: skip
def test_interpolated_series_err_as_the_docstring_says(text, scale, square, value):
    one = nonlinearity(text)
    series = one.series(np.array([scale]), 80)
    functions = [lambda t, power=power: one._function(t, np) ** power for power in (1, 2)]
    expected, energy = (hermite.coefficients(f, degree, scale) for f, degree in zip(functions, (80, 0), strict=True))
    assert abs(series.square[0] / energy[0] - 1) < square
    assert np.abs(series.value[:, 0] - expected).max() < value * np.sqrt(energy[0])


def test_the_slope_of_a_jump_is_its_derivative_almost_everywhere():
    assert (nonlinearity("sign").series(np.array([1.0]), 5).slope == 0).all()


def test_any_python_function_is_an_activation(images):
    x = images.reshape(len(images), -1)
    own = Nonlinearity(lambda x, xp: xp.maximum(x, 0))
    one = Features([DenseStep(), own, DenseStep()], 192, None, "ntk", EmbeddingPlan(2048))(x)
    two = Features([DenseStep(), RELU, DenseStep()], 192, None, "ntk", EmbeddingPlan(2048))(x)
    np.testing.assert_allclose(one @ one.T, two @ two.T, atol=1e-3 * np.abs(two @ two.T).max())


@pytest.mark.parametrize("layers, words", [
    ([ConvStep(), RELU, DenseStep()], "ends with images"), ([RELU], "is 0"),
    ([ConvStep((9, 9), padding="VALID"), FlattenStep()], "fit"),
    ([FlattenStep(), ConvStep()], "takes images"), ([ConvStep((0, 3)), FlattenStep()], "at least 1"),
    ([ConvStep((3, 3), padding="CIRCULAR"), FlattenStep()], "SAME or VALID"),
], ids=["head", "constant", "large", "flat", "size", "padding"])  # fmt: skip
def test_networks_that_make_no_sense_are_refused(layers, words, images):
    with pytest.raises(UserError, match=words):
        features(layers, images, 64)


def test_heavy_tails_are_refused_at_random_and_sketched():
    """E σ⁴/(E σ²)² of exp(√γ z) is e^4γ; ReLU's is 6."""
    with pytest.raises(UserError, match=r"heavy tails .*sketch") as refused:
        Features([EXP, DenseStep()], 6, None, "nngp", EmbeddingPlan(2000, how=Approximation("random")))
    assert f"{np.exp(6):.3g}" in str(refused.value)
    Features([EXP, DenseStep()], 6, None, "nngp", EmbeddingPlan(2000, how=Approximation("sketch")))
    Features([nonlinearity("relu"), DenseStep()], 6, None, "nngp", EmbeddingPlan(40, how=Approximation("random")))


def test_features_of_very_deep_networks_are_built():
    """Below variances of 1e-154 the squares of σ underflow in float64, which ended in a division by zero."""
    features = embedding("NTK", 16, num_layers=600, embedding_dim=32)
    assert np.isfinite(features(np.ones((3, 16), np.float32))).all()
