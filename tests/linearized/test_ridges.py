import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.base.weights import tangent_layers
from linearized.experiments.grids import chosen_indices, grid, kernel_grid, listed_ridges, mean_diagonal
from linearized.models import declaration


@pytest.mark.parametrize("model, family, layers, low, high, size", [
    ("RF", "FMNIST", 1, -5, 3, 20), ("RF", "SYNTH", 1, -5, 2, 10), ("RF", "CIFAR2", 1, -4, 4, 20),
    ("NT", "FMNIST", 1, -5, 3, 20), ("NT", "SYNTH", 1, -4, 2, 10), ("NT", "CIFAR10", 1, -4, 4, 20),
    ("NN", "FMNIST", 1, -6, -2, 20), ("NN", "FMNIST", 2, -7, -5, 10), ("NN", "SYNTH", 1, -8, -2, 25),
    ("NN", "CIFAR10", 2, -6, -2, 20), ("SNNK_MLP", "FMNIST", 2, -7, -5, 10), ("CNN", "CIFAR10", 1, -5, -2, 10),
    ("KERV_CNN", "FMNIST", 1, -5, -2, 10), ("RESNET", "CIFAR10", 1, -5, -2, 10),
    ("LAMBDA_RESNET", "CIFAR10", 1, -5, -2, 10),
])  # fmt: skip
def test_grids_are_the_published_ones(model, family, layers, low, high, size):
    ridges = grid(declaration(model).ridges, family, num_layers=layers)
    assert len(ridges) == size
    np.testing.assert_allclose(np.log10(ridges[[0, -1]]), [low, high], atol=1e-12)
    assert (np.diff(ridges) > 0).all()


def test_a_model_may_declare_values_or_a_published_grid_and_nothing_else():
    np.testing.assert_array_equal(grid((10.0, 0.0, 1.0), "FMNIST"), [0.0, 1.0, 10.0])
    with pytest.raises(ValueError, match="Unknown ridge grid 'NN'"):
        grid("NN", "FMNIST")


@pytest.mark.parametrize("text, expected", [
    ("all", [0, 1, 2, 3, 4]), ("", [0]), ("3", [3]), ("3,0,3", [0, 3]), ("1:3", [1, 2]), (":2,4", [0, 1, 4]),
])  # fmt: skip
def test_indices_are_read(text, expected):
    assert chosen_indices(text, 5, default="0") == expected


@pytest.mark.parametrize("text", ["5", "-1", "2:7", "first", "1.5", "3:3"])
def test_bad_indices_are_refused_with_the_range(text):
    with pytest.raises(UserError, match=r"0\.\.4|takes all"):
        chosen_indices(text, 5, default="0")


@pytest.mark.parametrize("family, options, low, high, size", [
    ("FMNIST", {}, -1, 5, 20), ("FMNIST", {"kernel": "RF"}, -1, 5, 20), ("FMNIST", {"kernel": "POLYNOMIAL"}, -1, 5, 20),
    ("FMNIST", {"dense_layers": 3, "stax_scale": True}, -4, 3, 20),
    ("FMNIST", {"dense_layers": 4, "stax_scale": True}, -1, 5, 20),
    ("FMNIST", {"dense_layers": 9, "stax_scale": True}, -1, 5, 20),
    ("FMNIST", {"dense_layers": 4, "stax_scale": True, "name": "by_scale"}, -4, 3, 20),
    ("FMNIST", {"dense_layers": 2, "name": "by_scale"}, -1, 5, 20),
    ("FMNIST", {"kernel": "CNTK", "stax_scale": True}, -4, 3, 20),
    ("FMNIST", {"stax_scale": True, "own_scale": False}, -4, 3, 20),
    ("CIFAR10", {}, -6, 1, 20), ("CIFAR2", {}, -2, 10, 40), ("SYNTH", {"stax_scale": True}, 0, 6, 10),
], ids=str)  # fmt: skip
def test_kernel_grids_are_the_published_ones(family, options, low, high, size):
    grid = kernel_grid(family, **options)
    assert len(grid) == size and (np.diff(grid) > 0).all()
    np.testing.assert_allclose(grid[[0, -1]], [10.0**low, 10.0**high])


def test_listed_ridges_keep_their_order():
    np.testing.assert_array_equal(listed_ridges("10,0.1, 0"), [10, 0.1, 0])
    for text in ("1,", "a", "-1", "nan", "inf"):
        with pytest.raises(UserError, match="--ridges"):
            listed_ridges(text)


def test_mean_diagonal_is_that_of_the_features():
    x, units = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * 3, 20_000
    first, readout = tangent_layers(6, units, 1)
    hidden = np.maximum(x @ first, 0)
    random = 1 + np.square(hidden).sum(axis=1)
    tangent = random + ((hidden > 0) * readout**2).sum(axis=1) * np.square(x).sum(axis=1)
    assert mean_diagonal("features", units, x) == pytest.approx(random.mean(), rel=0.05)
    assert mean_diagonal("tangents", units, x) == pytest.approx(tangent.mean(), rel=0.05)
    assert mean_diagonal("dense", units, x) == 1.0


def test_ridges_of_unknown_data_are_shares_of_the_trace():
    np.testing.assert_allclose(kernel_grid("OWN", trace=50.0)[[0, -1]], [5e-7, 500.0])
    np.testing.assert_allclose(grid("features", "OWN")[[0, -1]], [1e-8, 10.0])
