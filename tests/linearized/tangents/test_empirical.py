"""The empirical NTK of any Keras model against the contraction of Jacobians in float64, laws, paths and refusals."""

import io
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import linearized
from linearized.base.errors import UserError
from linearized.tangents.tangent_kernel import TangentKernel
from linearized.tangents.taps import tapped

from .architectures import ARCHITECTURES, SLOW, L, made, sequential, vectors

FOLDER = Path(__file__).parent


def jacobian(model, x):
    """Return the Jacobian (n, k, p) by automatic differentiation, one row and one output at a time."""
    found = []
    for row in x:
        with tf.GradientTape(persistent=True) as tape:
            outputs = tf.unstack(tf.reshape(model(row[None], training=False), (-1,)))
        values = [one.value for one in model.trainable_variables]
        rows = [tape.gradient(one, values, unconnected_gradients="zero") for one in outputs]
        found.append([np.concatenate([tf.convert_to_tensor(part).numpy().ravel() for part in row]) for row in rows])
    return np.array(found, np.float64)


def in_float64(model, name):
    """Return the architecture in float64, with the same weights."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        twin, _ = made(name)
    finally:
        keras.config.set_dtype_policy(before)
    twin.set_weights(model.get_weights())
    return twin


def relative(ours, truth):
    return np.abs(ours - truth).max() / np.abs(truth).max()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in ARCHITECTURES]
)
def test_the_kernel_is_the_contraction_of_jacobians(name):
    model, x = made(name)
    jacobians = jacobian(in_float64(model, name), x)
    full = np.einsum("nkp,mlp->nmkl", jacobians, jacobians)
    before = keras.ops.convert_to_numpy(model(x, training=False))
    assert relative(linearized.empirical_ntk(model, x), np.einsum("nmkk->nm", full)) < 2e-6
    assert relative(linearized.empirical_ntk(model, x, outputs="full"), full) < 2e-6
    assert relative(linearized.empirical_ntk(model, x[:1], x[1:], outputs="sum"), full.sum((2, 3))[:1, 1:]) < 1e-5
    np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(model(x, training=False)))


@pytest.mark.parametrize("name, path, variable", [
    ("mlp", "factors", "dense"), ("transformer", "gradients", "query"), ("cnn", "gradients", "conv2d"),
    ("group norm", "jacobian", "gamma"), ("transposed", "jacobian", "transpose"),
])  # fmt: skip
def test_explain_names_the_path_of_each_variable(name, path, variable):
    model, x = made(name)
    table = linearized.empirical_ntk(model, x, explain=True)
    assert len(table) == len(model.trainable_variables) and (table["operations per pair"] > 0).all()
    assert path in table[table["variable"].str.contains(variable)]["path"].tolist(), table


def test_a_weight_that_is_read_past_its_layer_is_found_by_the_check():
    model, x = made("reused")
    table = linearized.empirical_ntk(model, x, explain=True).set_index("variable")["path"]
    [kernel] = [path for name, path in table.items() if model.last.kernel.path == name]
    assert kernel == "jacobian" and table[model.first.kernel.path] == "factors"


def test_chosen_variables_add_up_to_the_kernel():
    model, x = made("residual")
    of = {kind: linearized.empirical_ntk(model, x, variables=lambda one, kind=kind: ("conv" in one.path) == kind)
          for kind in (True, False)}  # fmt: skip
    np.testing.assert_allclose(of[True] + of[False], linearized.empirical_ntk(model, x), rtol=1e-5)
    with pytest.raises(UserError, match="no trainable variable that was chosen"):
        linearized.empirical_ntk(model, x, variables=lambda one: False)


def test_many_rows_and_outputs_are_computed_in_blocks(monkeypatch):
    model, x = sequential(vectors(rows=23), L.Dense(6, "relu"), L.Dense(40))
    whole = linearized.empirical_ntk(model, x)
    monkeypatch.setattr("linearized.tangents.tangent_kernel.BYTES", 1)  # blocks of one row
    np.testing.assert_allclose(linearized.empirical_ntk(model, x), whole, rtol=1e-5)
    jacobians = jacobian(model, x)
    assert relative(whole, np.einsum("nkp,mkp->nm", jacobians, jacobians)) < 2e-6


def test_blocks_of_rows_have_even_sizes(monkeypatch):
    model, x = sequential(vectors(rows=64), L.Dense(3, "tanh"))
    kernel = TangentKernel(model, x)
    monkeypatch.setattr(kernel, "_block", 20)
    sizes, parts = [], kernel._contributions
    monkeypatch.setattr(kernel, "_contributions", lambda rows: sizes.append(len(rows)) or parts(rows))
    kernel.prepare(x)
    assert sizes == [16, 16, 16, 16]  # blocks of 20 would compute 16 padding rows


def test_the_kernel_of_a_wide_network_tends_to_the_limit_as_one_over_the_root_of_the_width():
    import kernel_gen

    x = vectors(10, rows=6)
    x /= np.linalg.norm(x, axis=1, keepdims=True) / np.sqrt(10)
    limit = kernel_gen.gram("NTK", x, num_layers=1, activation="relu")
    errors, normal = [], keras.initializers.RandomNormal
    for width in (256, 4096):
        spread = []
        for seed in range(6):
            keras.utils.set_random_seed(seed)
            model, _ = sequential(
                x, L.Rescaling(10**-0.5), L.Dense(width, "relu", use_bias=False, kernel_initializer=normal(stddev=1.0)),
                L.Rescaling(width**-0.5), L.Dense(1, use_bias=False, kernel_initializer=normal(stddev=1.0)),
            )  # fmt: skip
            spread.append(linearized.empirical_ntk(model, x))
        errors.append(np.sqrt(np.mean([(one - limit) ** 2 for one in spread])))
    assert 2 < errors[0] / errors[1] < 8 and errors[1] < 0.1  # √16 = 4


def test_conjugate_kernels_are_products_of_the_outputs_of_layers():
    model, x = made("mlp")
    hidden = keras.Model(model.inputs, model.layers[1].output)
    features = keras.ops.convert_to_numpy(hidden(x))
    np.testing.assert_allclose(linearized.layer_features(model, x), features, rtol=1e-6)
    np.testing.assert_allclose(linearized.conjugate_kernel(model, x, x[:2]), features @ features[:2].T, rtol=1e-5)
    first = keras.ops.convert_to_numpy(model.layers[0](x))
    name = model.layers[0].name
    np.testing.assert_allclose(linearized.conjugate_kernel(model, x, layer=name), first @ first.T, rtol=1e-5)
    with pytest.raises(UserError, match="no layer nosuch"):
        linearized.conjugate_kernel(model, x, layer="nosuch")
    # the readout's part of the NTK is the conjugate kernel, plus 1 of the bias, per output
    readout = {one.path for one in model.layers[2].trainable_variables}
    last = linearized.empirical_ntk(model, x, outputs=0, variables=lambda one: one.path in readout)
    np.testing.assert_allclose(last, features @ features.T + 1, rtol=1e-5)


def test_half_precision_is_computed_in_float32_and_the_policy_stays():
    keras.utils.set_random_seed(0)
    model, x = sequential(vectors(), L.Dense(9, "relu", dtype="mixed_float16"), L.Dense(3, dtype="mixed_bfloat16"))
    plain, _ = sequential(x, L.Dense(9, "relu"), L.Dense(3))
    plain.set_weights(model.get_weights())
    np.testing.assert_array_equal(linearized.empirical_ntk(model, x), linearized.empirical_ntk(plain, x))
    assert [layer.dtype_policy.name for layer in model.layers] == ["mixed_float16", "mixed_bfloat16"]


class Noisy(L.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


class Coupled(L.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Untraceable(L.Layer):
    def call(self, x):
        return x * float(np.asarray(x).mean() > 1e9) + x


def two_outputs():
    inputs = keras.Input((7,))
    return keras.Model(inputs, [L.Dense(2)(inputs), L.Dense(3)(inputs)])


def two_inputs():
    inputs = [keras.Input((7,)), keras.Input((7,))]
    return keras.Model(inputs, L.Dense(2)(inputs[0] + inputs[1]))


def not_finite():
    model, _ = sequential(vectors(), L.Dense(2))
    model.layers[0].kernel.assign(np.full((7, 2), np.nan))
    return model


REFUSED = {
    "draws": (lambda: sequential(vectors(), Noisy(), L.Dense(2))[0], "draws random numbers"),
    "coupled": (lambda: sequential(vectors(), L.Dense(3), Coupled(), L.Dense(2))[0], "change with the rows beside"),
    "untraceable": (lambda: sequential(vectors(), L.Dense(3), Untraceable(), L.Dense(2))[0], "cannot be compiled"),
    "outputs": (two_outputs, "has 2 outputs. Give a model of one"),
    "inputs": (two_inputs, "has 2 inputs"),
    "nan": (not_finite, "kernel of the model .* are not finite"),
    "frozen": (lambda: _frozen(), "no trainable variable"),
    "half": (lambda: sequential(vectors(), L.Dense(2, dtype="bfloat16"))[0], "are stored in bfloat16"),
    "shape": (lambda: sequential(vectors(5), L.Dense(2))[0], r"cannot take rows of shape \(7,\)"),
}


def _frozen():
    model, _ = sequential(vectors(), L.Dense(2))
    model.trainable = False
    return model


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_a_tangent_kernel_are_refused_in_one_line(name):
    build, word = REFUSED[name]
    model = build()
    with pytest.raises(UserError, match=word) as refused:
        linearized.empirical_ntk(model, vectors())
    assert "\n" not in str(refused.value)
    assert not any("call" in vars(layer) for layer in model._flatten_layers(include_self=True))


@pytest.mark.parametrize("x, word", [
    (np.full((3, 7), np.nan), "must be finite"), (np.zeros(7), "rows"), (np.zeros((0, 7)), "rows"),
    ([np.zeros((2, 7)), np.zeros((2, 7))], "one array"), (np.array([["a"] * 7]), "real numbers"),
])  # fmt: skip
def test_inputs_that_are_no_rows_are_refused(x, word):
    model, _ = sequential(vectors(), L.Dense(2))
    with pytest.raises(UserError, match=word):
        linearized.empirical_ntk(model, x)


@pytest.mark.parametrize("outputs", ["mean", 3, -1, True])
def test_outputs_that_there_are_not_are_refused(outputs):
    model, x = sequential(vectors(), L.Dense(3))
    with pytest.raises(UserError, match=r"outputs is one of trace, full, sum, or 0\.\.2"):
        linearized.empirical_ntk(model, x, outputs=outputs)


def test_layers_are_put_back_after_an_error():
    model, x = made("mlp")
    activations = [layer.activation for layer in model.layers]
    with pytest.raises(RuntimeError), tapped(model, _fail):
        model(x)
    assert [layer.activation for layer in model.layers] == activations
    assert not any("call" in vars(layer) for layer in model.layers)


def _fail(site):
    raise RuntimeError("a tap")


@pytest.mark.slow
def test_the_jax_backend_gives_the_same(monkeypatch):
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from architectures import made
import linearized
for name in sys.argv[2:]:
    model, x = made(name)
    np.save(sys.stdout.buffer, linearized.empirical_ntk(model, x, outputs="full"))
"""
    names = [name for name in ARCHITECTURES if name not in SLOW]
    found = {}
    for backend in ("tensorflow", "jax"):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        done = subprocess.run([sys.executable, "-c", code, FOLDER, *names], capture_output=True, check=True)
        stream = io.BytesIO(done.stdout)
        found[backend] = [np.load(stream) for _ in names]
    for name, one, two in zip(names, found["tensorflow"], found["jax"], strict=True):
        assert relative(one, two) < 1e-4, name
