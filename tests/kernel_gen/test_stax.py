"""STAX: expressions are read as what they say and nothing else; kernels are neural-tangents' own, in bounded blocks."""

import inspect
import types

import jax
import numpy as np
import pytest

from kernel_gen import gram
from kernel_gen.stax.network import from_stax, neural_tangents, parse
from linearized.base.errors import UserError
from linearized.settings.stax_expression import PARAMETERS, check_expression, signature

stax = neural_tangents().stax
CONV = "serial(Conv(1, (3, 3), padding='SAME'), Relu(), AvgPool((2, 2), (2, 2)), Flatten(), Dense(1, W_std=1.5))"


def conv_oracle(x, z, kind) -> np.ndarray:
    conv, pool = stax.Conv(1, (3, 3), padding="SAME"), stax.AvgPool((2, 2), (2, 2))
    layers = (conv, stax.Relu(), pool, stax.Flatten(), stax.Dense(1, W_std=1.5))
    with jax.enable_x64(True):
        return np.asarray(stax.serial(*layers)[2](x, z, kind))


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("dtype, error", [("float32", 1e-4), ("float64", 1e-10)])
def test_an_expression_gives_the_kernel_of_neural_tangents(images, kind, dtype, error):
    found = gram("STAX", images[:5], images[5:9], architecture=CONV, kind=kind, dtype=dtype)
    assert found.dtype == dtype
    expected = conv_oracle(images[:5], images[5:9], kind)
    np.testing.assert_allclose(found, expected, rtol=error, atol=error * expected.max())


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_the_diagonal_is_that_of_float64(images, kind):
    expected = np.diag(conv_oracle(images, images, kind))
    for dtype, error in (("float32", 1e-6), ("float64", 1e-7)):
        found = np.diag(gram("STAX", images, architecture=CONV, kind=kind, dtype=dtype))
        np.testing.assert_allclose(found, expected, rtol=error, atol=1e-12)


def test_images_may_come_as_rows(images, rows):
    found = gram("STAX", rows, architecture=CONV, image_shape=(8, 8, 3))
    np.testing.assert_array_equal(found, gram("STAX", images, architecture=CONV))


def test_dense_layers_before_flatten_see_channels_of_images(images):
    text = "serial(Dense(1), Relu(), Flatten(), Dense(1))"
    with jax.enable_x64(True):
        layers = (stax.Dense(1), stax.Relu(), stax.Flatten(), stax.Dense(1))
        expected = np.asarray(stax.serial(*layers)[2](images[:4], images[4:7], "nngp"))
    found = gram("STAX", images[:4], images[4:7], architecture=text, kind="nngp", dtype="float64")
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_blocks_smaller_than_the_inputs_give_the_same_matrix(images):
    kernel, whole = from_stax(CONV, image_shape=(8, 8, 3), dtype="float64"), None
    for tile in (16, 4, 3):
        kernel.tile = tile
        found = gram(kernel, images)
        whole = found if whole is None else whole
        np.testing.assert_allclose(found, whole, rtol=1e-7, atol=1e-15)
        np.testing.assert_array_equal(found, found.T)


def test_tiles_shrink_as_the_arrays_of_a_pair_grow():
    flat = "serial(Conv(1, (3, 3), padding='SAME'), Relu(), Flatten(), Dense(1))"
    pooled = "serial(Conv(1, (3, 3), padding='SAME'), Relu(), GlobalAvgPool(), Dense(1))"
    tiles = [from_stax(text, image_shape=shape).tile for text, shape in
             ((flat, (8, 8, 3)), (pooled, (8, 8, 3)), (pooled, (16, 16, 3)))]  # fmt: skip
    assert 1024 >= tiles[0] > tiles[1] > tiles[2] >= 1
    # The couplings of all pixels of one pair, 4 bytes each, fit the budget over a tile.
    assert 4 * tiles[2] ** 2 * 16**4 <= 2**30


def test_functions_layers_and_expressions_are_one(rows):
    layer = stax.serial(stax.Dense(1), stax.Erf(), stax.Dense(1))
    expected = gram(from_stax("nt.stax.serial(stax.Dense(1), Erf(), Dense(1))"), rows)
    for architecture in (layer, layer[2]):
        np.testing.assert_array_equal(gram(from_stax(architecture), rows), expected)


def test_the_readers_numbers_reach_the_layers(rows):
    branches = "FanOut(2), parallel(Dense(1), serial(Erf(), Dense(1))), FanInSum()"
    text = f"serial(Dense(1, W_std=2.0, b_std=0.5), ABRelu(-0.25, 1), Dense(1), {branches})"
    with jax.enable_x64(True):
        layers = (stax.Dense(1, W_std=2.0, b_std=0.5), stax.ABRelu(-0.25, 1), stax.Dense(1), stax.FanOut(2))
        layers += (stax.parallel(stax.Dense(1), stax.serial(stax.Erf(), stax.Dense(1))), stax.FanInSum())
        expected = np.asarray(stax.serial(*layers)[2](rows[:5], rows[5:8], "ntk"))
    found = gram("STAX", rows[:5], rows[5:8], architecture=text, dtype="float64")
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "text, words",
    [
        ("__import__('os').system('true')", "Cannot read|no layer"),
        ("serial(Dense(1", "Cannot read"),
        ("Dense(1).__class__", "Cannot read"),
        ("Dense.__globals__", "Cannot read"),
        ("serial(Dence(1))", "^stax has no layer 'Dence'"),
        ("Padding('SAME')", "no layer"),
        ("requires(1)", "no layer"),
        ("os.Dense(1)", "no layer"),
        ("Dense(1, W_std=(lambda: 2)())", "no layer|Cannot read"),
        ("serial(*[Dense(1)])", "Cannot read"),
        ("serial(**{})", "Cannot read"),
        ("Dense(2 ** 99999)", "Cannot read"),
        ("3", "one layer"),
        ("(Dense(1), Relu(), Dense(1))", "one layer"),
        ("Dense()", "refuses the arguments of Dense"),
        ("Dense(1, width=3)", "refuses the arguments of Dense"),
        ("-" * 5000 + "1", "Cannot read|holds"),
        ("", "Cannot read"),
        ("Dense(Relu())", "number of at least 1 for out_dim. Received: a layer"),
        ("Dense(0)", "number of at least 1 for out_dim"),
        ("serial(Dense(1), 3)", "serial takes layers"),
        ("Conv(1, 3)", "Conv takes sizes"),
        ("Conv(1, (3, 99999))", "Conv takes sizes"),
        ("Conv(1, (3, 3), padding='FULL')", "'VALID', 'SAME', 'CIRCULAR' for padding"),
        ("Dense(1, W_std='2')", "Dense takes a number for W_std"),
        ("Dense(1, parameterization='mup')", "'ntk', 'standard'"),
        ("repeat(Dense(1), 1000000000)", "n of at most 1000"),
        ("repeat(repeat(Relu(), 1000), 1000)", "at most 1000 layers. Received: 1,000,000"),
        ("serial(repeat(Relu(), 600), repeat(Relu(), n=600))", "at most 1000 layers. Received: 1,200"),
        ("Elementwise('silly')", "silly"),
        ("Hermite(-1)", "Hermite takes a whole number"),
    ],
)
def test_anything_but_layers_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        parse(text)


def test_what_does_not_fit_the_inputs_is_refused(images, rows):
    with pytest.raises(UserError, match="needs an architecture"):
        gram("STAX", rows)
    with pytest.raises(UserError, match="takes images"):
        gram("STAX", rows, architecture=CONV)
    with pytest.raises(UserError, match="End it with Flatten"):
        gram("STAX", images, architecture="serial(Conv(1, (3, 3)), Relu())")
    with pytest.raises(UserError, match="no kernel of this architecture"):
        gram("STAX", rows, architecture="serial(Relu(), Dense(1))")
    with pytest.raises(UserError, match="no kernel of this architecture"):
        gram("STAX", rows, architecture="serial(Dense(1), FanOut(2), parallel(Relu(), Identity()), FanInSum())")
    with pytest.raises(UserError, match="--scale is read by --kernel=NTK, RF, CNTK"):
        gram("STAX", rows, architecture="Dense(1)", scale="input")
    with pytest.raises(UserError, match="takes an expression"):
        from_stax(3)
    with pytest.raises(UserError, match="10 columns are not images of shape"):
        from_stax(CONV, image_shape=(8, 8, 3)).prepare(rows[:, :10])


def test_the_table_of_layers_is_that_of_the_library():
    stax = neural_tangents().stax
    functions = {name for name in dir(stax) if isinstance(getattr(stax, name), types.FunctionType)}
    assert {name for name in functions if name[0].isupper() or name in ("serial", "parallel", "repeat")} == set(
        PARAMETERS
    )
    for name in PARAMETERS:
        ours, theirs = signature(name).parameters, inspect.signature(getattr(stax, name)).parameters
        assert [(one.name, one.kind) for one in ours.values()] == [(one.name, one.kind) for one in theirs.values()]
        for argument in ours:
            default = theirs[argument].default
            if isinstance(default, bool | int | float | str | tuple | types.NoneType):
                assert ours[argument].default == default, (name, argument)


@pytest.mark.parametrize("text", [
    "serial(Conv(1, (3, 3), padding='SAME', b_std=0.1), Relu(), AvgPool((2, 2), (2, 2)), Flatten(), Dense(1))",
    "nt.stax.serial(stax.Dense(1, W_std=2, b_std=None), stax.Erf(1, 1.5, -.5))",
    "serial(FanOut(2), parallel(Dense(1), Identity()), FanInSum(), repeat(serial(Relu(), Dense(1)), 3))",
    "serial(Dense(1), ElementwiseNumerical('gelu', deg=25), LayerNorm(), Polynomial([0, 1.5, -2]), Dense(1))",
    "serial(Conv(1, [3, 3]), GlobalSelfAttention(1, 1, 1, 1), GlobalAvgPool(), Dense(1, s=(1, 1)))",
])  # fmt: skip
def test_the_check_of_an_expression_takes_what_the_library_takes(text):
    assert "Dense" in check_expression(text)
    assert len(parse(text)[0]) == 3
