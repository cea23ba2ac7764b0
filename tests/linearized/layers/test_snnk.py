"""SNNK against the functions that it estimates: laws of error and projections, and fitting from a dense layer."""

import keras
import numpy as np
import pytest
from scipy import stats

from linearized.layers.snnk.expansions import ACTIVATIONS, FUNCTIONS, Fourier, Power, error, expand, fourier, power
from linearized.layers.snnk.exponentials import Exponentials
from linearized.layers.snnk.features import allocate, draw
from linearized.layers.snnk.layer import SNNK, activation_of
from linearized.layers.snnk.universal import UniversalFeatures
from linearized.settings.model_settings import SNNK_ACTIVATIONS

DIM, UNITS = 12, 6
SEEDS = 100


def arc_cosine(x, kernel, bias=None):
    """The exact layer of the ReLU's features, from angles; without a bias that of `x` and `kernel` alone."""
    x, w = (x, kernel) if bias is None else (np.c_[x, np.ones(len(x))], np.r_[kernel, bias[None]])
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0)
    cos = np.clip(x @ w / norms, -1, 1)
    return norms * (np.sqrt(1 - cos**2) + (np.pi - np.arccos(cos)) * cos) / np.pi


def problem(seed=0, rows=40):
    random = np.random.default_rng(seed)
    x, kernel = random.standard_normal((rows, DIM)), random.standard_normal((DIM, UNITS))
    x, kernel = x / np.linalg.norm(x, axis=1, keepdims=True), kernel / np.linalg.norm(kernel, axis=0)
    return x, kernel, 0.3 * random.standard_normal(UNITS)


def exact(activation, x, kernel, bias, **options):
    """The expansion itself: what the features estimate without bias."""
    if activation == "relu":
        return arc_cosine(x, kernel, bias if options.get("biased", True) else None)
    series = expand(activation, options.get("expansion", "power"), degree=options.get("degree", 8))
    return series(x @ kernel + bias)


def estimate(activation, m, seed, x, kernel, bias, **options):
    layer = UniversalFeatures(m, activation, seed=seed, **options)
    layer.build((None, DIM))
    arrays = (array.astype(np.float32) for array in (x, kernel, bias))
    x, kernel, bias = arrays
    phi, psi = keras.ops.convert_to_numpy(layer(x)), keras.ops.convert_to_numpy(layer.of_weights(kernel, bias))
    assert phi.shape == (len(x), layer.count) and psi.shape == (layer.count, kernel.shape[1])
    assert m - 1 <= layer.count <= m
    return phi.astype(np.float64) @ psi.astype(np.float64)


def errors(activation, sizes, seeds, **options):
    """Root mean square error at each number of features, over draws."""
    x, kernel, bias = problem()
    bias = bias if options.get("biased", True) else 0 * bias
    goal = exact(activation, x, kernel, bias, **options)
    return [
        np.sqrt(np.mean([np.mean((estimate(activation, m, s, x, kernel, bias, **options) - goal) ** 2) for s in seeds]))
        for m in sizes
    ]


XI = np.array([-1.0, 1.0]) / (2 * np.pi)  # the published adapters' measure
CASES = [
    ("relu", {"biased": False}), (Exponentials.of(XI, np.sin, np.sin), {}),
    (Exponentials([1.0], [1.0]), {"shift": 0.02}), (Exponentials([1.0, 1j], [0.5j, 0.7], [2.0, 1.0], [1.0, 0.3j]), {}),
    ("relu", {}), ("sin", {}), ("cos", {}), ("sin", {"shift": 0.04}), ("cos", {"scale": 0.8}),
    ("sin", {"features": "symmetric"}), ("cos", {"features": "symmetric", "shift": 0.04}),
    ("tanh", {"degree": 5}), ("gelu", {"degree": 4}), ("softplus", {"degree": 2}), ("sigmoid", {"degree": 3}),
    ("sigmoid", {"expansion": "fourier", "degree": 2}), ("gelu", {"expansion": "fourier", "degree": 2}),
    ("tanh", {"degree": 5, "biased": False}),
    (Power([0.2, -1.0, 0.0, 0.5]), {}), (Fourier([0.0, 0.7], [1.0, 0.5], [0.0, -1.0]), {}),
]  # fmt: skip


@pytest.mark.parametrize("orthogonal", [True, False], ids=["orthogonal", "independent"])
@pytest.mark.parametrize("activation, options", CASES, ids=lambda value: str(value)[:40].split(" object")[0])
def test_the_error_falls_as_one_over_the_root_of_m(activation, options, orthogonal):
    """Over a factor 64 of m the error falls by 8; a floor (a bias) would flatten the slope, a wrong factor ½ too."""
    sizes = [64, 4096]
    found = errors(activation, sizes, range(6), orthogonal=orthogonal, **options)
    slope = np.polyfit(np.log(sizes), np.log(found), 1)[0]
    assert -0.65 < slope < -0.38, found


def test_relu_without_a_bias_is_the_published_kernel_of_x_and_w():
    """Twice E relu(g·x)relu(g·w), whatever the norms; a bias coordinate would put √(‖x‖² + 1) in the place of ‖x‖."""
    x, kernel, _ = problem()
    x, kernel = 2 * x, 0.5 * kernel
    layer = SNNK(UNITS, 4096, use_bias=False)
    layer.build((None, DIM))
    layer.psi.assign(layer.features.of_weights(kernel.astype(np.float32), np.zeros(UNITS, np.float32)))
    found, goal = keras.ops.convert_to_numpy(layer(x.astype(np.float32))), arc_cosine(x, kernel)
    assert np.linalg.norm(found - goal) < 0.06 * np.linalg.norm(goal)
    assert not np.any(layer.features.offset)
    g = np.random.default_rng(0).standard_normal((DIM, 200_000))
    published = np.maximum(x[:5] @ g, 0) @ np.maximum(kernel.T @ g, 0).T / g.shape[1]
    np.testing.assert_allclose(goal[:5], 2 * published, atol=0.03)


@pytest.mark.parametrize("constant", [-5.0, 0.1])
def test_features_with_a_floor_give_the_kernel_of_the_floor(constant):
    """Against quadrature over the two projections g·x and g·w, which are jointly normal."""
    x, kernel, _ = problem(rows=6)
    nodes = np.linspace(-8, 8, 321)
    u, v = np.meshgrid(nodes, nodes, indexing="ij")
    mass = stats.norm.pdf(u) * stats.norm.pdf(v) * (nodes[1] - nodes[0]) ** 2
    cos = x @ kernel
    second = cos[..., None, None] * u + np.sqrt(1 - cos**2)[..., None, None] * v
    goal = 2 * (mass * np.maximum(u, constant) * np.maximum(second, constant)).sum(axis=(-2, -1))
    found = [estimate("relu", 512, seed, x, kernel, 0 * kernel[0], biased=False, constant=constant)
             for seed in range(20)]  # fmt: skip
    wrong = (np.mean(found, axis=0) - goal) / (np.std(found, axis=0) / np.sqrt(20))
    assert np.sqrt(np.mean(wrong**2)) < 2
    if constant == -5.0:  # nearly linear features: the kernel is nearly 2 w·x
        np.testing.assert_allclose(goal, 2 * cos, atol=0.01)


def test_published_pairs_are_expanded_and_measured():
    """A = a = sin at ±1/2π: f(z) = sin(ξ)² exp(sin(ξ)² z), and the same with a complex pair for cos."""
    square = np.sin(XI[0]) ** 2
    z = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(Exponentials.of(XI, np.sin, np.sin)(z), square * np.exp(square * z), rtol=1e-12)
    cosine = Exponentials.of(XI, np.ones_like, lambda xi: 2j * np.pi * xi, np.ones_like, np.ones_like)
    np.testing.assert_allclose(cosine(z), np.cos(z), atol=1e-12)
    assert Exponentials.from_config(cosine.get_config()) == cosine
    layer = UniversalFeatures(9, cosine)
    assert layer.count == 8  # two real features for each of four projections
    with pytest.raises(ValueError, match="too small"):
        UniversalFeatures(3, cosine)


@pytest.mark.parametrize("values", [
    ([1.0], [0.0]), ([0.0], [1.0]), ([1.0], [1.0, 2.0]), ([np.inf], [1.0]), ([], []),
], ids=str)  # fmt: skip
def test_exponentials_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match="Received"):
        Exponentials(*values)


def test_fixed_lengths_are_those_of_the_root_and_lose_their_variance():
    blocks = draw(DIM, 3 * DIM, [0], True, "fixed")
    np.testing.assert_allclose(np.linalg.norm(blocks, axis=0), np.sqrt(DIM), rtol=1e-5)
    x, kernel, bias = problem()
    goal = arc_cosine(x, kernel, bias)
    chi, fixed = (
        np.array([estimate("relu", 52, seed, x, kernel, bias, lengths=lengths) for seed in range(200)])
        for lengths in ("chi", "fixed")
    )
    assert np.abs(fixed.mean(axis=0) - goal).max() < 5 * fixed.std(axis=0).max() / np.sqrt(200)
    assert np.mean(fixed.std(axis=0)) < 0.9 * np.mean(chi.std(axis=0))


@pytest.mark.parametrize(
    "activation, options", [("relu", {}), ("sin", {}), ("cos", {}), ("sigmoid", {"degree": 3})], ids=str
)
def test_orthogonal_is_no_worse_than_independent_at_any_m(activation, options):
    sizes = [24, 96, 384]
    one = errors(activation, sizes, range(20), orthogonal=True, **options)
    other = errors(activation, sizes, range(20), orthogonal=False, **options)
    assert all(a < 1.1 * b for a, b in zip(one, other, strict=True)), (one, other)
    assert sum(one) < sum(other)


@pytest.mark.parametrize("activation, options", CASES, ids=lambda value: str(value)[:40].split(" object")[0])
def test_the_mean_over_draws_is_the_function(activation, options):
    """Unbiased, orthogonal blocks and all: the mean of many small estimates lies within their standard errors."""
    x, kernel, bias = problem(rows=4)
    bias = bias if options.get("biased", True) else 0 * bias
    found = np.array([estimate(activation, 40, seed, x, kernel, bias, **options) for seed in range(SEEDS)])
    wrong = (found.mean(axis=0) - exact(activation, x, kernel, bias, **options)) / (found.std(axis=0) / np.sqrt(SEEDS))
    assert np.abs(wrong).max() < 5
    assert np.sqrt(np.mean(wrong**2)) < 2


def test_blocks_are_haar():
    """Without the sign fix of QR the diagonal has a mean below 0; lengths are χ(d), so a column is N(0, I)."""
    dim = 5
    blocks = np.array([draw(dim, 2 * dim, [seed], True) for seed in range(2000)])
    first = blocks[:, :, :dim]
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    gram = np.einsum("sij,sik->sjk", first / lengths, first / lengths)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(dim), gram.shape), atol=1e-5)
    for entry in ((0, 0), (1, 1), (4, 4), (2, 0), (0, 3)):
        assert stats.kstest(blocks[:, *entry], "norm").pvalue > 1e-4
    assert stats.kstest(np.square(lengths[:, 0, 1]), stats.chi2(dim).cdf).pvalue > 1e-4
    across = np.corrcoef(blocks[:, 0, 0], blocks[:, 0, dim])[0, 1]  # the second block is independent of the first
    assert abs(across) < 5 / np.sqrt(2000)


def test_the_seed_decides_the_projections_and_they_are_kept_with_the_weights(tmp_path):
    def layer(seed):
        new = SNNK(4, 16, seed=seed)
        new.build((None, DIM))
        return new

    one, twin, other = layer(1), layer(1), layer(2)
    for ours, same, different in zip(one.get_weights(), twin.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, same)
        assert np.abs(ours - different).max() > 0.1
    assert [weight.shape for weight in one.non_trainable_weights] == [(DIM, 16), (16,)]
    # Weights that no seed would draw come back from a file, and into a layer of another seed.
    model = keras.Sequential([keras.Input((DIM,)), one])
    one.features.projection.assign(one.features.projection * 2 + 1)
    x = np.random.default_rng(0).standard_normal((3, DIM)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    model.save_weights(tmp_path / "model.weights.h5")
    other_model = keras.Sequential([keras.Input((DIM,)), layer(3)])
    other_model.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other_model.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("options", [
    {}, {"activation": "sin"}, {"activation": "cos", "features": "symmetric"}, {"activation": "tanh"},
    {"normalize": 2.0}, {"activation": "sin", "normalize": 0.5},
], ids=str)  # fmt: skip
def test_axes_before_the_last_are_rows(options):
    layer = SNNK(4, 32, **options)
    x = 0.5 * np.random.default_rng(0).standard_normal((2, 3, 5, DIM)).astype(np.float32)
    flat = keras.ops.convert_to_numpy(layer(x.reshape(-1, DIM)))
    for shape in ((6, 5), (2, 3, 5)):
        deep = keras.ops.convert_to_numpy(layer(x.reshape(*shape, DIM)))
        np.testing.assert_allclose(deep, flat.reshape(*shape, 4), rtol=1e-5, atol=1e-6)


def test_normalising_scales_each_row_and_not_each_column():
    layer = UniversalFeatures(64, normalize=2.0)
    x = np.random.default_rng(0).standard_normal((3, 4, DIM)).astype(np.float32)
    scaled = keras.ops.convert_to_numpy(layer(x * np.arange(1, 5, dtype=np.float32)[:, None]))
    np.testing.assert_allclose(scaled, keras.ops.convert_to_numpy(layer(x)), rtol=1e-4, atol=1e-6)
    plain = UniversalFeatures(64)
    rows = 2 * x / np.linalg.norm(x, axis=-1, keepdims=True)
    expected = keras.ops.convert_to_numpy(plain(rows))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)


def dense(activation, dim=DIM, units=UNITS, scale=1.0):
    layer = keras.layers.Dense(units, activation=activation)
    layer.build((None, dim))
    random = np.random.default_rng(1)
    layer.set_weights(
        [scale / np.sqrt(dim) * random.standard_normal((dim, units)), 0.3 * random.standard_normal(units)]
    )
    return layer


@pytest.mark.parametrize("activation", ["sin", "cos", "tanh", "gelu", "softplus", "sigmoid"])
def test_from_dense_starts_at_the_layer(activation):
    x = np.random.default_rng(0).standard_normal((50, DIM)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    layer = dense(getattr(keras.ops, activation) if activation in ("sin", "cos") else activation)
    assert activation_of(layer) == activation
    goal = keras.ops.convert_to_numpy(layer(x))
    new = SNNK.from_dense(layer, 8192)
    assert new.name == layer.name
    wrong = np.sqrt(np.mean((keras.ops.convert_to_numpy(new(x)) - goal) ** 2)) / goal.std()
    assert wrong < 0.15
    tower = SNNK.from_dense(layer, 8192, trained="weights")
    np.testing.assert_allclose(tower(x), new(x), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(tower.kernel, layer.kernel)


@pytest.mark.parametrize("activation", ["relu", "gelu", "elu"])
def test_from_dense_with_inputs_fits_large_norms_that_no_estimate_reaches(activation):
    layer = dense(activation, scale=2.0)
    x = np.random.default_rng(0).standard_normal((3000, 4, DIM)).astype(np.float32)
    fresh = np.random.default_rng(1).standard_normal((100, DIM)).astype(np.float32)
    goal = keras.ops.convert_to_numpy(layer(fresh))
    new = SNNK.from_dense(layer, 1024, inputs=x, activation="relu")
    assert np.sqrt(np.mean((keras.ops.convert_to_numpy(new(fresh)) - goal) ** 2)) < 0.2 * goal.std()


def test_a_function_of_ones_own_is_expanded():
    layer = dense(keras.activations.softsign)
    series = activation_of(layer)
    assert error(power(series, 1.5, 12), lambda z: z / (1 + np.abs(z)), 1.5) < 0.05
    x = problem()[0].astype(np.float32)
    new = SNNK.from_dense(layer, 4096, reach=1.5)
    goal = keras.ops.convert_to_numpy(layer(x))
    assert np.sqrt(np.mean((keras.ops.convert_to_numpy(new(x)) - goal) ** 2)) < 0.35 * goal.std()
    twin = SNNK.from_config(new.get_config())
    assert twin.features.activation == new.features.activation


@pytest.mark.parametrize("arguments, word", [
    ({"layer": keras.layers.Dense(3)}, "built"), ({"layer": keras.layers.Flatten()}, "Dense"),
    ({"layer": dense("linear")}, "linear"), ({"layer": dense(keras.ops.sin, scale=40.0)}, "too large"),
    ({"layer": dense("relu"), "inputs": np.ones((8, DIM))}, "more rows"),
    ({"layer": dense("relu"), "inputs": np.ones((800, DIM)), "trained": "weights"}, "both"),
], ids=["not built", "not dense", "linear", "large", "few rows", "tower"])  # fmt: skip
def test_what_from_dense_cannot_do_is_told(arguments, word):
    with pytest.raises(ValueError, match=word):
        SNNK.from_dense(num_features=64, **arguments)


@pytest.mark.parametrize("trained", ["psi", "weights"])
def test_both_towers_can_be_trained(trained):
    random = np.random.default_rng(0)
    x = random.standard_normal((256, DIM)).astype(np.float32)
    y = np.maximum(x @ random.standard_normal((DIM, 2)), 0).astype(np.float32)
    model = keras.Sequential([keras.Input((DIM,)), SNNK(2, 128, trained=trained)])
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == (
        128 * 2 if trained == "psi" else (DIM + 1) * 2
    )
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=True)
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=40, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.5 * before


def test_gelu_has_its_own_taylor_series():
    """x/2 + x²/√(2π) - x⁴/(6√(2π)) + x⁶/(40√(2π)) - ..., as ½x(1 + erf(x/√2)) has it."""
    root = np.sqrt(2 * np.pi)
    expected = [0, 1 / 2, 1 / root, 0, -1 / (6 * root), 0, 1 / (40 * root), 0, -1 / (336 * root)]
    np.testing.assert_allclose(power(FUNCTIONS["gelu"], 0.2, 10).coefficients[:9], expected, atol=1e-3)
    np.testing.assert_allclose(power(FUNCTIONS["gelu"], 0.2, 10).coefficients[:4], expected[:4], atol=1e-9)


def test_expansions_converge_and_odd_functions_have_odd_powers():
    for name, function in FUNCTIONS.items():
        reference = {"tanh": keras.ops.tanh, "gelu": lambda z: keras.ops.gelu(z, approximate=False)}.get(
            name, getattr(keras.ops, name)
        )
        z = np.linspace(-3, 3, 50)
        np.testing.assert_allclose(function(z), keras.ops.convert_to_numpy(reference(z.astype(np.float32))), atol=1e-5)
        for make, base in ((power, 0.72), (fourier, 0.4)):
            found = [error(make(function, 3.0, degree), function, 3.0) for degree in (4, 6, 8)]
            assert found[2] < base**2 * found[1] / base and found[1] < found[0], (name, found)
    assert not power(np.tanh, 3.0, 9).coefficients[::2].any()
    assert error(expand("sin"), np.sin, 50.0) < 1e-12
    assert expand("relu") is None
    assert SNNK_ACTIVATIONS == ACTIVATIONS or set(SNNK_ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("make", [
    lambda: Power([1.0]), lambda: Power([np.nan, 1.0]), lambda: Fourier([0.0], [1.0], [0.0]),
    lambda: Fourier([1.0, 1.0], [1.0, 1.0], [0.0, 0.0]), lambda: Fourier([-1.0], [1.0], [1.0]),
    lambda: Fourier([1.0], [1.0, 2.0], [1.0]),
])  # fmt: skip
def test_coefficients_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match="Received"):
        make()


def test_allocation_keeps_the_sum_and_serves_everyone():
    for total in (5, 17, 100):
        counts = allocate(total, np.array([0.7, 0.0, 1e-9, 0.2, 0.1]))
        assert counts.sum() == total and counts[1] == 0 and (counts[[0, 2, 3, 4]] >= 1).all()
    np.testing.assert_array_equal(allocate(10, np.array([1.0, 1.0])), [5, 5])
