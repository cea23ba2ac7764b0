"""f(x; θ₀) + J(x) v as a Keras model: against the problem's products, on disk, trained by gradients, and refusals."""

import io
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import linearized
from linearized.base.errors import UserError
from linearized.layers.linearization import get_direction, set_direction
from linearized.problems.jacobian_problem import JacobianProblem

from ..tangents.architectures import L, functional, made, sequential, tokens, transformer, vectors

ARCHITECTURES = Path(__file__).parents[1] / "tangents"
CASES = [("mlp", False), *((name, True) for name in ("mlp", "cnn", "transformer", "tied", "batch norm", "subclassed"))]
SLOW = [pytest.param(name, offset, marks=pytest.mark.slow)
        for name, offset in (("recurrent", True), ("transformer", False), ("subclassed", False))]  # fmt: skip


@keras.saving.register_keras_serializable("tests")
class Twisted(keras.Model):
    """Subclassed, with a weight of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale = self.add_weight(shape=(7,), initializer="ones", name="scale")
        self.first, self.last = L.Dense(5, "tanh"), L.Dense(3)

    def build(self, shape):
        self.first.build(shape)
        self.last.build((*shape[:-1], 5))

    def call(self, x):
        return self.last(self.first(x * self.scale)) + 0.1


def problem_of(model, x, **settings):
    return JacobianProblem(model, x, np.zeros((len(x), model(x[:1]).shape[1])), **settings)


def direction(params):
    return 0.1 * np.random.default_rng(5).standard_normal((params, 1))


@pytest.mark.parametrize(("name", "offset"), [*CASES, *SLOW])
def test_predictions_are_the_problems_before_and_after_the_disk(name, offset, tmp_path):
    model, x = (Twisted(), vectors()) if name == "subclassed" else made(name)
    problem, before = problem_of(model, x, offset=offset), keras.ops.convert_to_numpy(model(x))
    linear, v = linearized.linearize(model, offset=offset, x=x), direction(problem.params)
    np.testing.assert_allclose(linear.predict(x, verbose=0), before if offset else 0 * before, rtol=1e-5, atol=1e-5)
    set_direction(linear, v)
    np.testing.assert_allclose(get_direction(linear), v, rtol=1e-6)
    expected = problem.predict(x, v)
    room = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(linear.predict(x, verbose=0), expected, atol=room)
    linear.save(tmp_path / "linear.keras")
    again = keras.models.load_model(tmp_path / "linear.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), linear.predict(x, verbose=0))
    assert np.abs(expected - problem.predict(x, 0 * v)).max() > 100 * room  # the direction counts


def test_it_is_the_first_order_of_the_model_itself():
    """Halving the step divides the distance to the model by four."""
    model, x = made("mlp")
    linear, v = linearized.linearize(model), direction(sum(int(np.prod(w.shape)) for w in model.trainable_variables))
    start, gaps = model.get_weights(), []
    for share in (0.1, 0.05):
        set_direction(linear, share * v)
        parts = np.split(share * v[:, 0], np.cumsum([weights.size for weights in start])[:-1])
        model.set_weights([a + b.reshape(a.shape) for a, b in zip(start, parts, strict=True)])
        gaps.append(np.abs(model.predict(x, verbose=0) - linear.predict(x, verbose=0)).max())
    assert 0.15 < gaps[1] / gaps[0] < 0.35, gaps


def test_a_fit_by_gradients_moves_the_direction_alone_and_leaves_the_model(tmp_path):
    model, x = made("mlp")
    y, theta = np.random.default_rng(0).standard_normal((len(x), 3)), model.get_weights()
    linear = linearized.linearize(model)
    assert linear.count_params() == 2 * model.count_params()
    linear.compile(keras.optimizers.SGD(0.1), "mse")
    losses = linear.fit(x, y, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    inner = linear.get_layer("linearization").inner
    for before, ours, kept in zip(theta, inner.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, ours)
        np.testing.assert_array_equal(before, kept)
    outputs = linear.predict(x, verbose=0)
    model.set_weights([0 * weights for weights in theta])  # the linearization is a copy
    np.testing.assert_array_equal(linear.predict(x, verbose=0), outputs)


@pytest.mark.parametrize("which, words", [
    ("last_layer", ["dense_2/kernel", "dense_2/bias"]), ("dense_1", ["dense_1/kernel"]),
    ("dense,dense_2/bias", ["dense/kernel", "dense/bias", "dense_2/bias"]), ("", ["dense"]), (None, ["dense"]),
    ("-bias,-dense", ["dense_1/kernel", "dense_2/kernel"]),
])  # fmt: skip
def test_sets_of_variables_by_name(which, words):
    keras.utils.clear_session()
    model, x = made("mlp")
    layer = linearized.linearize(model, variables=which).get_layer("linearization")
    wanted = [one.path for one in model.trainable_variables if any(word in one.path for word in words)]
    assert [model.variables[place].path for place in layer.places] == wanted
    assert [tuple(one.shape) for one in layer.directions] == [tuple(one.shape) for one in layer.moved_variables()]
    kernel = linearized.empirical_ntk(model, x, variables=which)
    by_hand = linearized.empirical_ntk(model, x, variables=lambda one: one.path in wanted)
    np.testing.assert_array_equal(kernel, by_hand)


def test_all_but_embeddings():
    model, _ = functional(tokens(), transformer)
    layer = linearized.linearize(model, variables="-embeddings").get_layer("linearization")
    moved = [model.variables[place].path for place in layer.places]
    assert len(moved) == len(model.trainable_variables) - 1 and not any("embeddings" in path for path in moved)


def test_policies_of_half_precision_compute_in_float32(caplog):
    keras.utils.set_random_seed(0)
    half = keras.Sequential(
        [keras.Input((7,)), L.Dense(9, "tanh", dtype="mixed_float16"), L.Dense(3, dtype="mixed_float16")]
    )
    full = keras.Sequential([keras.Input((7,)), L.Dense(9, "tanh"), L.Dense(3)])
    full.set_weights(half.get_weights())
    with caplog.at_level("INFO"):
        linear, other = linearized.linearize(half), linearized.linearize(full)
    assert "computes in float32" in caplog.text
    v = direction(half.count_params())
    set_direction(linear, v), set_direction(other, v)
    np.testing.assert_array_equal(linear.predict(vectors(), verbose=0), other.predict(vectors(), verbose=0))
    assert half.layers[0].compute_dtype == "float16"  # the model itself is as it was


class Drawing(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)


def nan_model():
    model, _ = sequential(vectors(), L.Dense(3))
    model.layers[0].bias.assign([0.0, np.nan, 0.0])
    return model


def frozen():
    model, _ = sequential(vectors(), L.Dense(3))
    model.trainable = False
    return model


def several(inputs, outputs):
    ins = [keras.Input((7,)) for _ in range(inputs)]
    total = ins[0] if inputs == 1 else L.Add()(ins)
    return keras.Model(ins if inputs > 1 else ins[0], [L.Dense(2)(total) for _ in range(outputs)])


class Unknown(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = L.Dense(2)

    def call(self, x):
        return self.last(x)


REFUSED = {
    "random": (lambda: sequential(vectors(), Drawing(name="noisy"), L.Dense(3))[0], {}, "random numbers .*noisy"),
    "nan": (nan_model, {}, "are not finite"),
    "frozen": (frozen, {}, "has no trainable variable"),
    "inputs": (lambda: several(2, 1), {}, "has 2 inputs"),
    "outputs": (lambda: several(1, 2), {}, "has 2 outputs"),
    "shape": (lambda: keras.Sequential([L.Dense(3)]), {}, r"does not state the shape.*x=rows"),
    "unregistered": (Unknown, {"x": vectors()}, "cannot be saved and loaded by Keras"),
    "word": (lambda: made("mlp")[0], {"variables": "block5"}, "no trainable variable has the name 'block5'"),
    "embeddings": (lambda: made("mlp")[0], {"variables": "-embeddings"}, "has the name 'embeddings'"),
    "rows": (lambda: made("mlp")[0], {"x": vectors(8)}, r"cannot take rows of shape \(8,\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_linearized_is_refused_in_one_line(case):
    build, settings, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as caught:
        linearized.linearize(build(), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_jax_backend_gives_the_same(monkeypatch, tmp_path):
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from architectures import made
import linearized
from linearized.layers.linearization import set_direction
model, x = made("transformer")
path = linearized.fit_linearization(model, x, np.arange(2.0 * len(x)).reshape(-1, 2), [0.1, 1.0], rtol=1e-6)
np.save(sys.stdout.buffer, path.predict(x))
np.save(sys.stdout.buffer, path.model(0).predict(x, verbose=0))
"""
    found = {}
    for backend in ("tensorflow", "jax"):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        done = subprocess.run([sys.executable, "-c", code, ARCHITECTURES], capture_output=True, check=True)
        stream = io.BytesIO(done.stdout)
        found[backend] = [np.load(stream) for _ in range(2)]
    for one, two in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3 * np.abs(one).max())
    np.testing.assert_allclose(found["jax"][0][0], found["jax"][1], atol=1e-4 * np.abs(found["jax"][1]).max())
