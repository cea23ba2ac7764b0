"""The Hadamard transform, TensorSRHT and PolySketch against their definitions, and by their laws."""

import numpy as np
import pytest
import scipy.linalg

from kernel_gen.features.hadamard import LANES, load, transform
from kernel_gen.features.poly_sketch import PolySketch, as_real
from kernel_gen.features.tensor_srht import Srht, TensorSrht
from linearized.base.errors import UserError

SEEDS = 150


def draws(seed=0, rows=6, columns=5):
    """Columns of norm 1."""
    x = np.random.default_rng(seed).standard_normal((rows, columns))
    return x / np.linalg.norm(x, axis=0)


def within_errors(samples, expected, errors=5.0):
    """Whether the mean of samples (s, ...) is `expected` up to standard errors."""
    mean, spread = samples.mean(axis=0), samples.std(axis=0) / np.sqrt(len(samples))
    return (np.abs(mean - expected) <= errors * spread + 1e-12).all()


def hadamard_transform(x):
    """Return H x for x (d, columns), d a power of two, by blocks of LANES columns."""
    blocks = []
    for start in range(0, x.shape[1], LANES):
        block = np.empty((len(x), LANES), x.dtype)
        load(x, np.ones(len(x), x.dtype), start, block)
        transform(block)
        blocks.append(block)
    return np.concatenate(blocks, axis=1)[:, : x.shape[1]]


@pytest.mark.parametrize("dim", [1, 2, 4, 8, 32, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("columns", [1, 16, 37])
def test_the_transform_is_the_hadamard_matrix(dim, dtype, columns):
    random = np.random.default_rng(dim)
    x = random.standard_normal((dim, columns)).astype(dtype)
    if dtype == "complex128":
        x = x + 1j * random.standard_normal((dim, columns))
    before = x.copy()
    np.testing.assert_allclose(
        hadamard_transform(x), scipy.linalg.hadamard(dim) @ x, atol=1e-5 if dtype == "float32" else 1e-12
    )
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_tensor_srht_is_unbiased(dtype):
    x, y, x2, y2 = (draws(seed, rows) for seed, rows in ((0, 6), (1, 3), (2, 6), (3, 3)))
    found = []
    for seed in range(SEEDS):
        sketch = TensorSrht((6, 3), 8, np.random.RandomState(seed), dtype)
        found.append((sketch(x, y) * sketch(x2, y2).conj()).sum(axis=0).real)
    assert within_errors(np.array(found), (x * x2).sum(axis=0) * (y * y2).sum(axis=0))


@pytest.mark.parametrize("width", [3, 8, 13])
def test_srht_is_unbiased_and_keeps_all_it_has_room_for(width):
    x, z = draws(0), draws(1)
    found = np.array([
        (sketch(x) * sketch(z)).sum(axis=0)
        for sketch in (Srht(6, width, np.random.RandomState(seed), "float64") for seed in range(SEEDS))
    ])  # fmt: skip
    assert within_errors(found, (x * z).sum(axis=0))
    if width == 8:
        np.testing.assert_allclose(found, np.tile((x * z).sum(axis=0), (SEEDS, 1)), atol=1e-12)


@pytest.mark.parametrize("degree", range(8))
@pytest.mark.parametrize("field", ["real", "complex"])
def test_every_power_of_any_degree_is_unbiased(degree, field):
    """Degrees that are no power of two, 0 and 1 among them."""
    x, z = draws(4), draws(4) + 0.3 * draws(5)
    found = []
    for seed in range(SEEDS):
        sketch = PolySketch(6, degree, 16, np.random.RandomState(seed), field=field, dtype="float64")
        powers = [as_real(power) for power in sketch.powers(x)], [as_real(power) for power in sketch.powers(z)]
        found.append([(one * two).sum(axis=0) for one, two in zip(*powers, strict=True)])
    found = np.array(found)
    assert found.shape[1] == degree + 1
    assert within_errors(found, (x * z).sum(axis=0) ** np.arange(degree + 1)[:, None])


def test_real_output_has_the_kernel_of_the_complex_one():
    x, z = draws(0), draws(1)
    sketch = PolySketch(6, 3, 8, np.random.RandomState(0), field="complex", dtype="float64")
    one, two = sketch(x, real_output=False), sketch(z, real_output=False)
    assert one.dtype.kind == "c"
    assert sketch(x).dtype == np.float64 and sketch(x).shape == (16, 5)
    np.testing.assert_allclose((sketch(x) * sketch(z)).sum(axis=0), (one * two.conj()).sum(axis=0).real, atol=1e-12)


def test_complex_sketches_of_high_powers_vary_less():
    """At as many real numbers; the reason to have them."""
    x = draws(0, 8, 12)
    exact, errors = (x.T @ x) ** 6, {}
    for field, width in (("real", 64), ("complex", 32)):
        found = []
        for seed in range(200):
            features = PolySketch(8, 6, width, np.random.RandomState(seed), field=field, dtype="float64")(x)
            assert len(features) == 64
            found.append(np.linalg.norm(features.T @ features - exact))
        errors[field] = np.sqrt(np.mean(np.square(found)))
    assert errors["complex"] < errors["real"]


def test_the_error_falls_as_one_over_the_root_of_the_width():
    x, widths, errors = draws(0, 10, 20), (32, 128, 512, 2048), []
    exact = (x.T @ x) ** 3
    for width in widths:
        found = []
        for seed in range(24):
            features = PolySketch(10, 3, width, np.random.RandomState(seed), dtype="float64")(x)
            found.append(np.linalg.norm(features.T @ features - exact))
        errors.append(np.sqrt(np.mean(np.square(found))))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4


@pytest.mark.parametrize("arguments, words", [
    ((6, -1, 8), "degree >= 0"), ((6, 2, 0), "at least 1 entry"), ((0, 2, 8), "dimension 1"),
], ids=["degree", "width", "dim"])  # fmt: skip
def test_impossible_sketches_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        PolySketch(*arguments, np.random.RandomState(0))
    with pytest.raises(UserError, match="real or complex"):
        PolySketch(6, 2, 8, np.random.RandomState(0), field="quaternion")
