"""Random features: infinite against its formula and neural-tangents, finite against ΦΦᵀ and the infinite one."""

import tracemalloc

import jax
import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.kernels import rf
from kernel_gen.stax.network import neural_tangents
from linearized.base.errors import UserError
from linearized.base.weights import first_layer
from linearized.settings.gram_settings import KernelSettings


def test_infinite_is_the_published_formula(rows):
    x, z = rows[:5], rows[5:7]
    norms, others = (np.linalg.norm(a, axis=1) for a in (x, z))
    u = x @ z.T / norms[:, None] / others
    formula = 0.5 * norms[:, None] * others * (u * np.arcsin(u) / np.pi + u / 2 + np.sqrt(1 - u**2) / np.pi)
    np.testing.assert_allclose(gram("RF", x, z, scale="published", dtype="float64"), formula, rtol=1e-12)
    np.testing.assert_allclose(gram("RF", x, z, scale="input"), formula, rtol=1e-5)
    assert rf.build(KernelSettings(kernel="RF")).scale == "input"


def test_infinite_is_the_gaussian_process_of_neural_tangents(rows):
    stax = neural_tangents().stax
    with jax.enable_x64(True):
        kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))[2]
        expected = np.asarray(kernel_fn(rows, None, "nngp"))
    np.testing.assert_allclose(gram("RF", rows, dtype="float64"), expected, rtol=1e-10, atol=1e-14)
    with pytest.raises(UserError, match="--kind is read by --kernel=NTK"):  # both kinds are this kernel
        gram("RF", rows, kind="nngp")


@pytest.mark.parametrize("law", ["gaussian", "sphere"])
@pytest.mark.parametrize("units, block", [(3000, 3000), (5000, 2100), (7, 50000), (2049, 2048)])
def test_finite_is_the_product_of_the_models_features(rows, law, units, block):
    weights = first_layer(rows.shape[1], units, law=law, block=block)
    features = np.maximum(rows @ weights.astype(np.float64), 0)
    expected = features @ features.T + 1
    settings = {"num_units": units, "law": law, "block": block}
    np.testing.assert_allclose(gram("RF", rows, **settings), expected, rtol=1e-5)
    np.testing.assert_allclose(gram("RF", rows[:3], rows, **settings), expected[:3], rtol=1e-5)
    np.testing.assert_allclose(gram("RF", rows, dtype="float64", **settings), expected, rtol=1e-5)


def test_finite_in_float64_has_float64_weights_and_sums(rows):
    random = np.random.RandomState(1990)
    draws = [random.normal(size=(rows.shape[1], size)) / np.sqrt(rows.shape[1]) for size in (400, 400, 200)]
    features = np.maximum(rows @ np.concatenate(draws, axis=1), 0)
    found = gram("RF", rows, num_units=1000, block=400, dtype="float64")
    np.testing.assert_allclose(found, features @ features.T + 1, rtol=1e-13)


@pytest.mark.parametrize("entries, side, blocks", [(0, 3, 10), (16, 4, 6), (100, 10, 1)])
def test_finite_matrix_in_memory_has_as_few_tiles_as_fit(rows, monkeypatch, entries, side, blocks):
    """A tile has all rows if they fit; otherwise tiles have equal sides, at least that of `FiniteFeatures.tile`."""
    x, calls = np.tile(rows, (10, 1))[:10], []
    kernel, block = rf.FiniteFeatures(500), rf.FiniteFeatures.block
    prepared = kernel.prepare(x)
    expected = block(kernel, prepared, prepared, same=True)
    monkeypatch.setattr(rf.FiniteFeatures, "tile", 3)
    monkeypatch.setattr(rf, "SCRATCH", 12 * entries)
    monkeypatch.setattr(rf.FiniteFeatures, "block", lambda *a, **k: calls.append(k) or block(*a, **k))
    assert kernel.side(10) == side and kernel.side(0) == 1
    found = gram("RF", x, num_units=500)
    assert len(calls) == blocks
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("dtype, largest", [("float32", 9459), ("float64", 8192)])
def test_tiles_in_memory_are_bounded_in_bytes(dtype, largest):
    kernel = rf.FiniteFeatures(8, dtype=dtype)
    assert kernel.side(5000) == 5000 and kernel.side(largest) == largest
    assert kernel.side(largest + 1) == -(-(largest + 1) // 2)
    assert (8 + kernel.dtype.itemsize) * kernel.side(20_000) ** 2 <= 2**30


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parts", [1, 3])
def test_memory_beside_the_matrix_is_at_most_the_bound(dtype, parts, monkeypatch):
    n, itemsize = 1200, np.dtype(dtype).itemsize
    x = np.random.default_rng(0).standard_normal((n, 4)).astype(dtype)
    monkeypatch.setattr(rf, "SCRATCH", (8 + itemsize) * (n // parts) ** 2)
    monkeypatch.setattr(rf, "CHUNK", 8)
    monkeypatch.setattr(rf.FiniteFeatures, "tile", 1)
    gram("RF", x[:8], num_units=8, dtype=dtype)  # what is imported and drawn once
    tracemalloc.start()
    try:
        found = gram("RF", x, num_units=8, dtype=dtype)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    least = 8 * (n // parts) ** 2  # the sum in float64
    assert least < peak - found.nbytes < rf.SCRATCH + 2**18  # the features, rows and weights are a few 10 kB


@pytest.mark.parametrize("law", ["gaussian", "sphere"])
def test_finite_tends_to_infinite(rows, law):
    exact = gram("RF", rows, dtype="float64")
    units = 40_000
    found = (gram("RF", rows, num_units=units, law=law, weight_seed=3) - 1) / units
    # A product of two ReLUs has a variance of at most E[u⁴]/2 - (mean)² <= 1.5 k(x,x) k(z,z) · 4.
    deviations = np.sqrt(6 / units) * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert np.all(np.abs(found - exact) <= 5 * deviations)
    assert np.any(found != exact)


def test_what_does_not_fit_is_refused(rows):
    with pytest.raises(UserError, match="--scale is read by --kernel=RF with --num_units=0"):
        gram("RF", rows, num_units=10, scale="input")
    with pytest.raises(UserError, match="--bias_std is read by"):
        gram("RF", rows, bias_std=0.1)


def test_an_error_in_the_drawing_thread_reaches_the_caller():
    def broken():
        yield np.ones(1)
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        list(rf._ahead(broken()))
