"""What is true of every entry of the table of features, against the exact kernel of the same name and settings."""

import functools

import numpy as np
import pytest

from kernel_gen import gram
from linearized.base.errors import UserError
from linearized.settings.embedding_settings import FEATURES, EmbeddedRows

SHAPE = (6, 6, 3)
CASES = {
    "NTK": [
        {"dense_layers": 2},
        {"dense_layers": 3, "weight_std": 1.4, "bias_std": 0.3},
        {"dense_layers": 2, "kind": "nngp", "method": "sketch", "terms": 30},
        {"dense_layers": 2, "activation": "gelu", "method": "sketch", "terms": 24, "field": "complex"},
        {"dense_layers": 2, "activation": "gelu", "bias_std": 0.2},
        {"dense_layers": 2, "method": "landmarks"},
        {"dense_layers": 3, "activation": "gelu", "bias_std": 0.2, "method": "landmarks"},
    ],
    "RF": [{}, {"method": "landmarks"}],
    "POLYNOMIAL": [{"degree": 1}, {"degree": 3, "offset": 0.5}, {"degree": 5, "offset": 0.0, "field": "complex"}],
    "CNTK": [{"head": "flatten", "depth": 1, "kind": "nngp"}],
}
EACH = [pytest.param(name, case, id=f"{name}-{i}") for name in FEATURES for i, case in enumerate(CASES[name])]
DRAWN = [case for case in EACH if case.values[1].get("method") != "landmarks"]  # those have laws of their own
SHALLOW = [case for case in DRAWN if case.values[1].get("dense_layers", 2) == 2]
EMBEDDING = ("method", "terms", "field")


@functools.cache
def inputs(name):
    """Rows of all norms and correlations, some alike, one of zeros; for convolutions, images."""
    random = np.random.default_rng(0)
    x = random.standard_normal((12, 108 if name == "CNTK" else 10)) * np.geomspace(0.5, 2, 12)[:, None]
    x[5] = x[4] + 0.1 * x[6]
    return np.concatenate([x, 0 * x[:1]])


@functools.cache
def train_rows(name):
    """More rows of the same kind, from which landmarks are drawn."""
    return np.concatenate([inputs(name), np.random.default_rng(1).standard_normal((200, inputs(name).shape[1]))])


def embed(name, case, dim, seed=0, x=None, **more):
    settings = EmbeddedRows(
        features=name, embedding_dim=dim, embedding_seed=seed, **{"dtype": "float64", **case, **more}
    )
    x = inputs(name) if x is None else x
    return FEATURES.load(name).build(settings, SHAPE, x.shape[1]).on(train_rows(name))(x)


@functools.cache
def _exact(name, case):
    settings = {key: value for key, value in case if key not in EMBEDDING}
    return gram(
        name,
        inputs(name),
        image_shape=SHAPE if name == "CNTK" else None,
        scale="published",
        dtype="float64",
        **settings,
    )


def exact(name, case):
    return _exact(name, tuple(case.items()))


def errors_of(name, case, dim, seeds):
    """Relative Frobenius errors."""
    expected = exact(name, case)
    found = (embed(name, case, dim, seed) for seed in range(seeds))
    return np.array([np.linalg.norm(f @ f.T - expected) / np.linalg.norm(expected) for f in found])


@pytest.mark.parametrize("name, case", DRAWN)
def test_the_error_falls_as_one_over_the_root_of_the_dimension(name, case):
    """Over a 64-fold range, the bias of a cut series or of several layers included."""
    dims, seeds = (128, 512, 2048, 8192), (16, 12, 8, 4)
    errors = [np.sqrt(np.mean(errors_of(name, case, dim, count) ** 2)) for dim, count in zip(dims, seeds, strict=True)]
    if case.get("degree") == 1:
        np.testing.assert_allclose(errors, 0, atol=1e-12)  # a linear kernel has features of its own
        return
    slope = np.polyfit(np.log(dims), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4, errors


@pytest.mark.parametrize("name, case", SHALLOW)
def test_one_hidden_layer_is_unbiased(name, case):
    """The mean over draws is the kernel, entry by entry, within standard errors and what a cut series leaves out."""
    chosen = [0, 4, 5, 11, 12]
    x = inputs(name)[chosen]
    products = []
    for seed in range(100):
        features = embed(name, case, 96, seed, x)
        products.append(features @ features.T)
    mean, spread = np.mean(products, axis=0), np.std(products, axis=0) / np.sqrt(len(products))
    expected = exact(name, case)[np.ix_(chosen, chosen)]
    cut = 0.06 if case.get("method") == "sketch" else 1e-9  # of √(k(x,x) k(z,z)): the tail of κ₀ beyond 24 terms
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.abs(mean - expected) <= 5 * spread + cut * scale + 1e-8).all()


@pytest.mark.parametrize("name, case", DRAWN)
def test_the_mean_of_draws_is_nearer_than_one(name, case):
    """Whatever is not the chance of a draw, is less than most of it: 1/√24 of it is to be expected."""
    expected = exact(name, case)
    products = [(f := embed(name, case, 1024, seed)) @ f.T for seed in range(24)]
    one = np.sqrt(np.mean([np.linalg.norm(product - expected) ** 2 for product in products]))
    assert np.linalg.norm(np.mean(products, axis=0) - expected) <= 0.7 * one + 1e-9


@pytest.mark.parametrize("name, case", EACH)
def test_a_row_is_embedded_alike_in_any_company(name, case):
    """The draws depend on the seed alone: shards and machines agree."""
    x = inputs(name)
    whole = embed(name, case, 64)
    parts = np.concatenate([embed(name, case, 64, x=x[:3]), embed(name, case, 64, x=x[3:])])
    np.testing.assert_allclose(parts, whole, atol=1e-10 * np.abs(whole).max())
    if case.get("degree") != 1:
        assert np.abs(embed(name, case, 64, seed=1) - whole).max() > 0.01 * np.abs(whole).max()


@pytest.mark.parametrize("name, case", EACH)
def test_float32_is_float64_rounded(name, case):
    one, two = embed(name, case, 256), embed(name, case, 256, dtype="float32")
    assert two.dtype == np.float32
    np.testing.assert_allclose(two @ two.T, one @ one.T, atol=2e-4 * np.abs(one @ one.T).max())


@pytest.mark.parametrize("name, case", EACH)
def test_features_have_at_most_the_dimension_asked_for_and_are_finite(name, case):
    for dim in (64, 150):
        features = embed(name, case, dim)
        assert features.shape[0] == len(inputs(name)) and features.shape[1] <= dim
        assert np.isfinite(features).all()


@pytest.mark.parametrize("name, case", [pytest.param("NTK", {"method": "sketch", "terms": 9}, id="sketch"),
                                        pytest.param("NTK", {}, id="random")])  # fmt: skip
def test_below_the_least_dimension_the_error_says_it(name, case):
    with pytest.raises(UserError, match="at least") as caught:
        embed(name, case, 1)
    least = int(str(caught.value).split("at least ")[1].split(".")[0])
    assert least == (11 if case else 3)
    assert embed(name, case, least).shape[1] <= least
    with pytest.raises(UserError, match=f"at least {least}"):
        embed(name, case, least - 1)


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="10 numbers"):
        FEATURES.load("NTK").build(EmbeddedRows(features="NTK"), None, 10)(np.ones((2, 7)))
    with pytest.raises(UserError, match="finite"):
        FEATURES.load("NTK").build(EmbeddedRows(features="NTK"), None, 3)(np.full((2, 3), np.nan))
    with pytest.raises(UserError, match="images"):
        FEATURES.load("CNTK").build(EmbeddedRows(features="CNTK"), None, 108)
    with pytest.raises(UserError, match="c of at least 0"):
        FEATURES.load("POLYNOMIAL").build(EmbeddedRows(features="POLYNOMIAL", offset=-1.0), None, 3)
    with pytest.raises(UserError, match="NTK and RF"):
        FEATURES.load("CNTK").build(
            EmbeddedRows(features="CNTK", method="landmarks", head="flatten", depth=1), SHAPE, 108
        )
    with pytest.raises(UserError, match="--method"):
        EmbeddedRows(features="POLYNOMIAL", method="landmarks")
    with pytest.raises(UserError, match="embedding_width"):
        EmbeddedRows(features="NTK", method="landmarks", embedding_width=64)
    with pytest.raises(UserError, match="--method=sketch"):
        FEATURES.load("NTK").build(EmbeddedRows(features="NTK", terms=3), None, 3)
