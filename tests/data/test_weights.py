"""Fixed random weights: the published draws bit for bit, and their laws."""

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.base.weights import first_layer, tangent_layers, weight_blocks


@pytest.fixture
def published():
    np.random.seed(1990)
    return np.random.normal(size=(7, 50))


def test_sphere_is_the_published_draw_with_columns_scaled(published):
    columns = np.stack([column / np.sqrt((column**2).sum()) for column in published.T], axis=1)
    ours = first_layer(7, 50)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, columns, rtol=1e-7)
    (drawn,) = weight_blocks(7, 50)
    np.testing.assert_array_equal(drawn, published / np.linalg.norm(published, axis=0, keepdims=True))


def test_gaussian_is_the_published_draw_over_root_d(published):
    np.testing.assert_array_equal(first_layer(7, 50, law="gaussian"), (published / np.sqrt(7)).astype(np.float32))


@pytest.mark.parametrize("law", ["sphere", "gaussian"])
def test_blocks_are_draws_of_their_own_and_the_last_is_the_remainder(law):
    np.random.seed(1990)
    expected = [np.random.normal(size=(5, width)) for width in (8, 8, 4)]
    expected = [w / (np.linalg.norm(w, axis=0) if law == "sphere" else np.sqrt(5)) for w in expected]
    blocks = list(weight_blocks(5, 20, law=law, block=8))
    assert [block.shape for block in blocks] == [(5, 8), (5, 8), (5, 4)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), np.concatenate(expected, axis=1))
    np.testing.assert_array_equal(
        first_layer(5, 20, law=law, block=8), np.concatenate(blocks, axis=1).astype(np.float32)
    )
    assert not np.array_equal(first_layer(5, 20, law=law), first_layer(5, 20, law=law, block=8))


def test_readout_is_drawn_after_the_first_layer(published):
    np.random.seed(1990)
    np.random.normal(size=(7, 50))
    readout = np.random.normal(size=(3, 50))
    first, a0 = tangent_layers(7, 50, 3)
    np.testing.assert_array_equal(first, first_layer(7, 50))
    np.testing.assert_array_equal(a0, readout.astype(np.float32))


def test_laws():
    dim, units = 20, 40_000
    gaussian, sphere = (first_layer(dim, units, law=law, seed=3).astype(float) for law in ("gaussian", "sphere"))
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=0), 1, rtol=1e-6)
    for weights in (gaussian, sphere):  # E w wᵀ = I/d; five standard errors of a mean of `units` products
        room = 5 * np.sqrt(2 / units) / dim
        np.testing.assert_allclose(weights @ weights.T / units, np.eye(dim) / dim, atol=room)


def test_another_seed_is_another_draw():
    assert not np.array_equal(first_layer(4, 4, seed=0), first_layer(4, 4, seed=1))


@pytest.mark.parametrize("bad", [{"dim": 0}, {"units": 0}, {"block": -1}, {"law": "uniform"}])
def test_bad_input(bad):
    with pytest.raises(UserError):
        first_layer(**{"dim": 3, "units": 3, **bad})
