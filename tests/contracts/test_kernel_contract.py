"""What is true of every kernel in the table that has a Gram matrix without labels."""

import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from skimage import data as photos

from kernel_gen import KERNELS, gram
from linearized.base.errors import UserError
from linearized.settings.gram_settings import GramSettings, KernelSettings

SHAPE = (8, 8, 3)
CASES = {
    "NTK": [
        {"dense_layers": 2},
        {"dense_layers": 4, "weight_std": 1.4, "bias_std": 0.2},
        {"dense_layers": 3, "activation": "gelu"},
        {"dense_layers": 3, "activation": "tanh", "bias_std": 0.2},
    ],
    "RF": [{}, {"num_units": 500, "block": 300}],
    "CNTK": [
        {"head": "gap", "depth": 2},
        {"head": "flatten", "depth": 1},
        {"head": "gap", "depth": 2, "activation": "erf"},
    ],
    "POLYNOMIAL": [{"degree": 3, "offset": 0.5}],
    "STAX": [{"architecture": "serial(Conv(1, (3, 3), padding='SAME'), Relu(), Flatten(), Dense(1))"}],
    "LAPLACE": [{"bandwidth": 5.0}],
    "GAUSSIAN": [{"bandwidth": 5.0}],
    "MATERN": [{"bandwidth": 5.0}, {"bandwidth": 5.0, "smoothness": "1.5"}],
    "PATCH": [{"bandwidth": 2.0, "patch_size": 3}, {"bandwidth": 2.0, "patch_whitening": 0.0, "patch_cells": 1}],
    "EMPIRICAL": [{"model": "FILE"}],  # for which `_made` saves a network
}
FIXED = [name for name in KERNELS if not hasattr(KERNELS.load(name), "fit_level")]  # that need no labels
EACH = [
    pytest.param(name, settings | kind | {"dtype": dtype}, id=f"{name}-{i}-{kind.get('kind', '')}-{dtype}")
    for name in FIXED
    for i, settings in enumerate(CASES[name])
    for kind in ([{"kind": "ntk"}, {"kind": "nngp"}] if "kind" in KERNELS.load(name).READS else [{}])
    for dtype in ("float32", "float64")
]
ERROR = {"float32": 1e-4, "float64": 1e-7}  # at correlation 1 the rounding of an inner product counts by its root


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Twelve photo crops, noise images, a constant and a black one; one twice."""
    random = np.random.default_rng(0)
    photo = photos.astronaut() / 255.0
    crops = [photo[i : i + 8, i + 150 : i + 158] for i in range(20, 320, 60)]
    return np.stack([*crops, *random.normal(size=(4, *SHAPE)), np.full(SHAPE, 0.3), np.zeros(SHAPE), crops[1]])


@pytest.fixture(scope="module")
def rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def make(name, settings):
    return _made(name, tuple(settings.items()))


@functools.cache
def _made(name, settings):
    """Kernels are kept, for some compile at their first block."""
    settings = dict(settings)
    with tempfile.TemporaryDirectory() as folder:
        if "model" in settings:
            settings["model"] = saved_network(folder)
        return KERNELS.load(name).build(KernelSettings(kernel=name, **settings), SHAPE)


def saved_network(folder):
    """Return the path of a saved network of the images."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    hidden = [layers.Conv2D(6, 3, activation="gelu"), layers.Flatten(), layers.Dense(8, "tanh")]
    model = keras.Sequential([keras.Input(SHAPE), *hidden, layers.Dense(3)])
    model.save(path := Path(folder) / "model.keras")
    return str(path)


@pytest.mark.parametrize("name, settings", EACH)
def test_gram_is_symmetric_positive_semidefinite_and_finite(name, settings, images):
    matrix = gram(make(name, settings), images)
    assert matrix.shape == (12, 12)
    assert matrix.dtype == settings["dtype"]
    np.testing.assert_array_equal(matrix, matrix.T)
    least = np.linalg.eigvalsh(matrix.astype(np.float64)).min()  # NaN, if there is one, fails this too
    assert least > -ERROR[settings["dtype"]] * np.trace(matrix)


@pytest.mark.parametrize("name, settings", EACH)
def test_blocks_are_parts_of_the_whole(name, settings, rows):
    kernel = make(name, settings).on(rows)
    prepared = kernel.prepare(rows)
    assert len(prepared) == len(rows)
    whole = kernel.block(prepared, prepared, same=True)
    tolerance = ERROR[settings["dtype"]] * np.abs(whole).max()
    for one, two in ((slice(0, 5), slice(5, 12)), (slice(3, 4), slice(0, 12)), (slice(2, 9), slice(2, 9))):
        part = kernel.block(prepared[one], prepared[two], same=one == two)
        assert part.dtype == settings["dtype"]
        np.testing.assert_allclose(part, whole[one, two], atol=tolerance)


@pytest.mark.parametrize("name, settings", EACH)
def test_the_diagonal_does_not_depend_on_the_partner(name, settings, rows):
    """Entry (x, x) is the same in a block with itself and, up to rounding, beside an equal input."""
    kernel = make(name, settings).on(rows)
    prepared = kernel.prepare(rows)
    whole = kernel.block(prepared, prepared, same=True)
    np.testing.assert_allclose(whole[1, 1], whole[-1, -1], rtol=1e-6)
    np.testing.assert_allclose(whole[1, -1], whole[1, 1], rtol=20 * ERROR[settings["dtype"]])


@pytest.mark.parametrize("name, settings", EACH)
def test_the_diagonal_is_that_of_the_whole(name, settings, rows, monkeypatch):
    monkeypatch.setattr("kernel_gen.kernel.DIAGONAL", 5)  # several blocks, the last one smaller
    kernel = make(name, settings).on(rows)
    prepared = kernel.prepare(rows)
    whole = np.diagonal(kernel.block(prepared, prepared, same=True))
    np.testing.assert_allclose(kernel.diagonal(prepared), whole, atol=ERROR[settings["dtype"]] * whole.max())
    assert kernel.diagonal(prepared[:0]).shape == (0,)


@pytest.mark.parametrize("name, settings", [case for case in EACH if case.values[1]["dtype"] == "float32"])
def test_float32_is_float64_rounded(name, settings, images):
    exact = gram(make(name, settings | {"dtype": "float64"}), images)
    found = gram(make(name, settings), images)
    np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("name", FIXED)
def test_the_kernel_says_what_it_is(name):
    kernel = make(name, CASES[name][0])
    assert kernel.scale in ("input", "stax")
    assert kernel.dtype == np.float32
    assert kernel.tile >= 1
    if "scale" in KERNELS.load(name).READS:
        assert make(name, CASES[name][0] | {"scale": "stax"}).scale == "stax"


@pytest.mark.parametrize("name", sorted(set(KERNELS) - set(FIXED)))
def test_a_kernel_of_labels_has_no_matrix_without_them(name, rows):
    for make_it in (lambda: gram(name, rows), lambda: GramSettings(kernel=name)):
        with pytest.raises(UserError, match=f"{name} is learned .*linearized krr --kernel={name}"):
            make_it()
