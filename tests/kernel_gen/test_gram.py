"""`kernel_gen.gram`: tiles and mirroring, shapes and dtypes, and what it refuses."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import kernel_gen
from kernel_gen import gram
from kernel_gen.kernels.ntk import FullyConnected
from kernel_gen.kernels.polynomial import PolynomialKernel
from linearized.base.errors import UserError


def test_the_package_is_imported_without_frameworks():
    code = (
        "import sys, kernel_gen; print([n for n in ('jax', 'numba', 'scipy') if n in sys.modules]);"
        "kernel_gen.gram; kernel_gen.gram_in_memory; print(callable(kernel_gen.gram), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True False"]
    with pytest.raises(AttributeError, match="no attribute 'grams'"):
        _ = kernel_gen.grams


@pytest.mark.parametrize("tile", [1, 7, 50, 64])
@pytest.mark.parametrize("rows2", [None, 1, 33])
def test_tiles_make_up_the_matrix(tile, rows2):
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 6))
    z = None if rows2 is None else random.normal(size=(rows2, 6))
    kernel = PolynomialKernel(3, 0.5, "float64")
    kernel.tile = tile
    expected = (0.5 + x @ (x if z is None else z).T / np.sqrt(6)) ** 3
    found = gram(kernel, x, z)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    if z is None:
        np.testing.assert_array_equal(found, found.T)


def test_a_matrix_of_many_tiles_is_symmetric_with_an_exact_diagonal():
    x = np.random.default_rng(0).normal(size=(70, 20))
    kernel = FullyConnected(2)
    kernel.tile = 16
    found = gram(kernel, x)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(np.diag(found), (x**2).sum(axis=1) / 20, rtol=1e-6)


def test_images_are_rows_to_kernels_of_rows(images, rows):
    np.testing.assert_array_equal(gram("NTK", images), gram("NTK", rows))


def test_inputs_of_any_real_dtype_and_layout(rows):
    pixels = np.round(100 * np.abs(rows)).astype(np.uint8)
    for x in (pixels, pixels.astype(np.int64), pixels.astype(np.float16), np.asfortranarray(pixels), pixels.tolist()):
        np.testing.assert_array_equal(gram("NTK", x, dtype=np.float64), gram("NTK", pixels, dtype="float64"))
    wide = np.repeat(pixels, 2, axis=1)
    np.testing.assert_array_equal(gram("NTK", wide[:, ::2]), gram("NTK", pixels))


def test_inputs_are_not_changed(rows):
    x = rows.astype(np.float32)
    before = x.copy()
    gram("NTK", x, x)
    gram("RF", x, num_units=100)
    np.testing.assert_array_equal(x, before)


def test_no_rows_give_an_empty_matrix(rows):
    assert gram("NTK", rows, rows[:0]).shape == (len(rows), 0)
    assert gram("NTK", rows[:0]).shape == (0, 0)
    assert gram("RF", rows[:0], rows, num_units=10).shape == (0, len(rows))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name, settings", [("NTK", {}), ("RF", {"num_units": 5}), ("POLYNOMIAL", {})])
def test_entries_that_are_not_finite_are_refused(rows, bad, name, settings):
    broken = rows.copy()
    broken[3, 5] = bad
    for inputs in ((broken,), (rows, broken)):
        with pytest.raises(UserError, match="1 rows with NaN or infinity, the first is row 3"):
            gram(name, *inputs, **settings)


def test_numbers_that_float32_cannot_hold_are_refused(rows):
    with pytest.raises(UserError, match="finite numbers of float32"), np.errstate(over="ignore"):
        gram("NTK", rows * 1e300)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name, settings",
    [
        ("NTK", {"dense_layers": 40, "weight_std": 16}),
        ("NTK", {"dense_layers": 60, "weight_std": 16, "kind": "nngp"}),
        ("POLYNOMIAL", {"degree": 40, "offset": 100.0}), ("CNTK", {"depth": 40, "head": "gap", "weight_std": 16.0}),
        ("STAX", {"architecture": "serial(Flatten(), Dense(1, 1e30), Relu(), Dense(1, 1e30))"}),
        ("NTK", {"dense_layers": 40, "weight_std": 16.0, "activation": "gelu"}),
    ],
)  # fmt: skip
def test_entries_that_overflow_are_refused_without_a_warning(images, name, settings):
    with pytest.raises(UserError, match=r"beyond the range of float32|overflows float32"):
        gram(name, images[:3], **settings)


def test_an_overflow_names_its_inputs_and_float64_holds_it(rows):
    x = np.ones((5, 4))
    x[3] = 1e3
    with pytest.raises(UserError, match=r"row 3 of x1 and row 3 of x1 is inf.*dtype='float64'"):
        gram("POLYNOMIAL", x, degree=7, offset=0.0)
    found = gram("POLYNOMIAL", x, degree=7, offset=0.0, dtype="float64")
    np.testing.assert_allclose(found, (x @ x.T / 2) ** 7, rtol=1e-12)
    deep = gram("NTK", rows, dense_layers=40, weight_std=16, dtype="float64", kind="nngp")
    np.testing.assert_allclose(np.diag(deep), 128.0**39 * 256 * (rows**2).mean(axis=1), rtol=1e-10)


def test_weights_that_are_nearly_0_give_a_kernel_of_nearly_0(rows):
    with pytest.warns(UserWarning, match="Raise weight_std"):
        assert np.all(gram("NTK", rows, dense_layers=400, weight_std=1e-3) == 0)
    with pytest.warns(UserWarning, match="scale the inputs"):
        assert np.all(np.abs(gram("NTK", 1e-25 * rows, dense_layers=3)) < 1e-40)


def test_inputs_that_do_not_fit_are_refused(images, rows):
    for inputs in (
        (rows, rows[:, :3]),
        (images, images[:, :4]),
        (images, rows),
        (images.reshape(10, 4, 16, 3), images),
    ):
        with pytest.raises(UserError, match="one shape"):
            gram("NTK", *inputs)
    for x in (rows[0], rows.astype(complex), rows.astype(str), np.float64(3), images[..., 0]):
        with pytest.raises(UserError, match=r"must hold real rows|must be an array of real numbers"):
            gram("NTK", x)
    with pytest.raises(UserError, match="NumPy cannot read it"):
        gram("NTK", [[1.0, 2.0], [3.0]])
    for shape in ((4, 4), "abc", 48, (4, 4, 0), (4, 4.0, 3)):
        with pytest.raises(UserError, match="image_shape must be"):
            gram("CNTK", rows, image_shape=shape)
    with pytest.raises(UserError, match="not images of shape"):
        gram("CNTK", rows, image_shape=(5, 5, 3))
    with pytest.raises(UserError, match="A kernel is a name"):
        gram(3, rows)
    with pytest.raises(UserError, match="d at least 1"):
        gram("NTK", rows[:, :0])
    with pytest.raises(UserError, match="image_shape is"):
        gram("NTK", images, image_shape=(4, 16, 3))


def test_settings_that_do_not_fit_are_refused(rows):
    with pytest.raises(UserError, match="Unknown settings: num_layer"):
        gram("NTK", rows, num_layer=3)
    with pytest.raises(UserError, match="Did you mean NTK"):
        gram("NTKK", rows)
    with pytest.raises(UserError, match="--dtype"):
        gram("NTK", rows, dtype="float16")
    with pytest.raises(UserError, match="--kind"):
        gram("NTK", rows, kind="both")
    with pytest.raises(UserError, match="--dense_layers must be at least 1"):
        gram("NTK", rows, dense_layers=0)
    with pytest.raises(UserError, match="has its settings already"):
        gram(FullyConnected(2), rows, kind="ntk")


@pytest.mark.parametrize("settings", [{}, {"activation": "gelu"}], ids=str)
def test_a_matrix_of_zeros_by_underflow_is_warned_of(settings):
    """Each ReLU layer halves the variance: 200 of them leave 1e-60 of it, which float32 stores as 0."""
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    x[2] = 0
    with pytest.warns(UserWarning, match=r"below 1\.2e-38, .* Raise weight_std") as caught:
        assert not gram("NTK", x, num_layers=200, **settings).any()
    assert len(caught) == 1


def test_what_does_not_underflow_gives_no_warning():
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    x[2] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 < np.diagonal(gram("NTK", x, num_layers=200, dtype="float64"))[0] < 1e-38
        assert np.diagonal(gram("NTK", x, num_layers=200, weight_std=2**0.5))[0] > 1
        assert not gram("NTK", np.zeros((3, 8))).any()
        assert gram("NTK", np.concatenate([x, 1e-30 * x]), num_layers=2)[5, 5] == 0  # that of others is not
