"""The polynomial kernel: entry by entry, and as the inner product of its features."""

import numpy as np
import pytest

from kernel_gen import gram
from linearized.base.errors import UserError


@pytest.mark.parametrize("dtype, error", [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("degree", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, 0.125, 8.0])
def test_entries(rows, degree, offset, dtype, error):
    expected = [[(offset + sum(x * z) / np.sqrt(len(x))) ** degree for z in rows] for x in rows]
    settings = {"degree": degree, "offset": offset, "dtype": dtype}
    scale = error * np.abs(expected).max()
    np.testing.assert_allclose(gram("POLYNOMIAL", rows, **settings), expected, rtol=error, atol=scale)
    np.testing.assert_allclose(gram("POLYNOMIAL", rows, rows[:2], **settings), np.array(expected)[:, :2], atol=scale)


def test_degree_two_is_the_product_of_its_features():
    x = np.random.default_rng(0).normal(size=(6, 4))
    pairs = np.einsum("na,nb->nab", x, x).reshape(6, 16) / 2
    features = np.concatenate([np.full((6, 1), 3.0), np.sqrt(3.0) * x, pairs], axis=1)  # √d = 2, c = 3
    found = gram("POLYNOMIAL", x, offset=3.0, dtype="float64")
    np.testing.assert_allclose(found, features @ features.T, rtol=1e-12)


def test_it_has_one_scale_and_no_layers(rows):
    np.testing.assert_array_equal(gram("POLYNOMIAL", rows), gram("POLYNOMIAL", rows, scale="published"))
    with pytest.raises(UserError, match="--scale is read by --kernel=NTK, RF, CNTK"):
        gram("POLYNOMIAL", rows, scale="input")
    with pytest.raises(UserError, match="--num_layers is read by"):
        gram("POLYNOMIAL", rows, num_layers=3)
