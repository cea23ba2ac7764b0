"""Products with the kernel between new rows and train rows, in tiles, against those with the whole matrix."""

import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.kernels import stretched
from kernel_gen.kernels.laplace import LaplaceKernel
from kernel_gen.kernels.stretched import StretchedKernel
from linearized.base.errors import UserError
from linearized.kernel_ridge.cross_kernel import CrossKernel


@pytest.mark.parametrize("own_threads", [False, True])
@pytest.mark.parametrize("tile", [1, 7, 64])
def test_products_in_tiles_are_those_with_the_whole_matrix(own_threads, tile):
    draws = np.random.default_rng(0)
    train, new, v = draws.normal(size=(20, 5)), draws.normal(size=(33, 5)), draws.normal(size=(20, 3))
    kernel = StretchedKernel(LaplaceKernel(1.3, "float64"), draws.uniform(size=5))
    whole = gram(kernel, new, train)
    kernel.tile, kernel.own_threads, shapes, block = tile, own_threads, [], kernel.block
    kernel.block = lambda one, two: shapes.append((len(one), len(two))) or block(one, two)
    found = CrossKernel(kernel, new, kernel.prepare(train))
    assert found.shape == (33, 20)
    np.testing.assert_allclose(found @ v, whole @ v, rtol=1e-12, atol=1e-12)
    assert max(map(max, shapes)) <= tile and sum(one * two for one, two in shapes) == 33 * 20


def test_an_entry_that_is_not_finite_is_named():
    kernel = LaplaceKernel(1.0, "float64")
    kernel.profile = lambda distances: np.where(distances > 5, np.nan, distances)
    train = np.zeros((4, 2))
    new = np.zeros((3, 2))
    new[2] = 10
    with pytest.raises(UserError, match="row 2 of the new rows and row 0 of the train rows is nan"):
        CrossKernel(kernel, new, kernel.prepare(train)) @ np.ones((4, 1))


@pytest.mark.parametrize("diagonal", [False, True])
def test_outer_products_of_few_points_at_a_time_are_those_of_all(diagonal, monkeypatch):
    draws = np.random.default_rng(0)
    rows, alpha = draws.normal(size=(20, 5)), draws.normal(size=(20, 2))
    kernel = StretchedKernel(LaplaceKernel(1.3, "float64"), np.ones(5) if diagonal else np.eye(5))
    prepared = kernel.prepare(rows)
    whole = kernel.average_outer_product(rows, prepared, alpha, diagonal=diagonal, centred=True)
    sizes, gradients = [], kernel.base.gradients
    kernel.base.gradients = lambda points, *given: sizes.append(len(points)) or gradients(points, *given)
    monkeypatch.setattr(stretched, "BLOCK_BYTES", 3 * 8 * 20)
    found = kernel.average_outer_product(rows, prepared, alpha, diagonal=diagonal, centred=True)
    np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-12)
    assert sizes == [3] * 6 + [2]
