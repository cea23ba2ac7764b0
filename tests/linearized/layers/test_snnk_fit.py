"""SNNKs fitted to layers: errors on held-out rows, and outputs outside the rows that they were fitted on."""

import warnings

import keras
import numpy as np
import pytest

from linearized.layers.snnk import fit as snnk_fit
from linearized.layers.snnk.bundle import bundle
from linearized.layers.snnk.layer import SNNK
from linearized.layers.snnk.rows import made_up_inputs, rows_into
from linearized.layers.snnk.universal import UniversalFeatures
from linearized.layers.surgery.swap import swap

Dense = keras.layers.Dense
DIM, UNITS = 12, 5
TOWERS = [
    ("relu", "relu", {}), ("gelu", "gelu", {}), ("tanh", "tanh", {}), ("sigmoid", "sigmoid", {}),
    ("softplus", "softplus", {}), ("tanh", "tanh", {"expansion": "fourier"}), ("sin", "sin", {}),
    ("cos", "cos", {"features": "symmetric"}), ("tanh", "relu", {}), ("elu", "relu", {}), ("softsign", None, {}),
    ("square", None, {}), ("tanh", "tanh", {"normalize": 2.0}),
]  # fmt: skip


def numpy(value):
    return keras.ops.convert_to_numpy(value)


def dense(activation="tanh", dim=DIM, units=UNITS, name="dense"):
    function = getattr(keras.ops, activation) if activation in ("sin", "cos", "square") else activation
    layer = Dense(units, activation=function, name=name)
    layer.build((None, dim))
    random = np.random.default_rng(1)
    kernel = random.standard_normal((dim, units)) / np.sqrt(dim)
    layer.set_weights([kernel, 0.3 * random.standard_normal(units)])
    return layer


def normal(n=600, dim=DIM, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def fitted(activation, kind, rows, m=64, **options):
    """Of `dense(activation)`, without the report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = {} if kind is None else {"activation": kind}
        return SNNK.from_dense(dense(activation), m, inputs=rows, **own, **options)


@pytest.mark.filterwarnings("ignore:'dense' got rows")
@pytest.mark.parametrize("activation, kind, options", TOWERS, ids=str)
def test_fitted_layer_stays_bounded_outside_its_rows(activation, kind, options):
    """At most 8 times the layer's own largest output, on rows 3 to 1e6 times as large, moved, and off a low rank."""
    layer, z = dense(activation), normal()
    new = fitted(activation, kind, z, **options)
    rows = [3 * z, 10 * z, 1e6 * z, z + 5, np.where(np.arange(DIM) == 3, 50 * z, z)]
    low = fitted(activation, kind, z * 10.0 ** -np.linspace(0, 3, DIM, dtype=np.float32), **options)
    cases = [(new, x) for x in rows] + [(low, z), (low, 10 * z)]
    for stand_in, x in cases:
        scale = 2.0 / np.linalg.norm(x, axis=1, keepdims=True) if options.get("normalize") else 1.0
        largest = np.abs(numpy(layer(x * scale))).max()
        found = numpy(stand_in(x))
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 8 * max(largest, np.abs(numpy(layer(z))).max())


def test_unbounded_fit_explodes_where_the_bounded_one_does_not():
    z = normal()
    free, bounded = (fitted("tanh", "tanh", z, m=256, bounded=bounded) for bounded in (False, True))
    assert np.abs(numpy(free(10 * z))).max() > 1e3 and not free.features.radius
    with pytest.warns(UserWarning, match="as far from the centre"):
        found = numpy(bounded(10 * z))
    assert np.abs(found).max() < 4
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        bounded(10 * z)  # once is enough
        fitted("tanh", "tanh", z, m=256)(normal(seed=5)[:50])  # rows like those that it was fitted on


@pytest.mark.parametrize("rows", [np.ones((200, DIM)), np.zeros((200, DIM))], ids=["ones", "zeros"])
def test_equal_rows_are_fitted_and_others_stay_finite(rows):
    new, layer = fitted("relu", "relu", rows, m=16), dense("relu")
    np.testing.assert_allclose(numpy(new(rows[:1])), numpy(layer(rows[:1])), rtol=1e-3, atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(numpy(new(1e6 * normal()))).all()


def test_what_contradicts_the_inputs_is_refused():
    with pytest.raises(ValueError, match="measured on `inputs`"):
        SNNK.from_dense(dense(), 16, inputs=normal(), radius=2.0)
    with pytest.raises(ValueError, match="finite"):
        SNNK.from_dense(dense(), 16, inputs=np.full((50, DIM), np.nan))


def test_growth_is_that_of_the_function():
    z = normal(50)
    expected = {"tanh": 0, "sigmoid": 0, "sin": 0, "softsign": 0, "relu": 1, "gelu": 1, "softplus": 1, "elu": 1,
                "square": 2, "exponential": 0}  # fmt: skip
    assert {name: snnk_fit.growth_of(dense(name), z) for name in expected} == expected


@pytest.mark.filterwarnings("ignore:'dense' got rows")
def test_relu_features_continue_the_relu_outside_the_radius():
    """relu is homogeneous, so far outside the relative error stays what it is inside."""
    z, layer = normal(2000), dense("relu")
    new = fitted("relu", "relu", z, m=256)
    for factor in (3, 10, 1e3):
        assert snnk_fit.relative_error(numpy(new(factor * z)), numpy(layer(factor * z))) < 1.5 * new.error


@pytest.mark.filterwarnings("ignore:'dense' got rows")
@pytest.mark.parametrize("kind, options", [("tanh", {}), ("relu", {}), ("sin", {})], ids=str)
def test_bounds_are_saved_loaded_swapped_and_kept_under_xla(kind, options, tmp_path):
    z = normal(300)
    inputs = keras.Input((DIM,))
    layer = dense("sin" if kind == "sin" else "tanh")
    model = keras.Model(inputs, Dense(3, name="readout")(layer(inputs)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = swap(model, {Dense: lambda dense: SNNK.from_dense(dense, 32, inputs=z, activation=kind, **options)},
                   where=lambda part: part is layer)  # fmt: skip
    x = np.concatenate([z[:5], 10 * z[:5], 1e6 * z[:5]])
    before = numpy(new(x))
    assert np.abs(before).max() < 50
    new.save(tmp_path / "model.keras")
    new.save_weights(tmp_path / "model.weights.h5")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(again(x)), before)
    other = keras.models.clone_model(new)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(numpy(other(x)), before)
    again.compile(jit_compile=True)
    np.testing.assert_allclose(again.predict(x, verbose=0), before, rtol=1e-4, atol=1e-4)
    small = bundle(new)
    assert small.count_params() < new.count_params()
    np.testing.assert_allclose(numpy(small(x)), before, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_bundling_into_bounded_features_keeps_centre_and_radius():
    """Dense -> SNNK and SNNK -> SNNK: the norm that is bounded is that of projections, which fold."""
    z = normal(400, 30)
    first, second = dense("relu", 30, 40, "first"), dense("tanh", 40, 20, "second")
    one = SNNK.from_dense(first, 16, inputs=z, activation="relu")
    two = SNNK.from_dense(second, 16, inputs=numpy(first(z)), activation="relu", seed=1)
    model = keras.Sequential([keras.Input((30,)), Dense(30), one, two, Dense(3)])
    small = bundle(model)
    assert small.count_params() < model.count_params()
    for factor in (1, 10, 1e4):
        before = numpy(model(factor * z))
        np.testing.assert_allclose(numpy(small(factor * z)), before, rtol=1e-3, atol=1e-3 * np.abs(before).max())


def test_rows_inside_the_radius_are_not_touched_and_gradients_are_finite():
    z = normal(20)
    plain, wide, tight = (UniversalFeatures(32, "tanh", radius=radius) for radius in (0.0, 1e3, 0.5))
    np.testing.assert_allclose(numpy(wide(z)), numpy(plain(z)), rtol=1e-4, atol=1e-5)
    tight.build(z.shape)
    half = numpy(plain(z / numpy(tight.excess(z))))
    with pytest.warns(UserWarning, match="bounded"):
        np.testing.assert_allclose(numpy(tight(z)), half, rtol=1e-4, atol=1e-5)
    assert (numpy(wide.excess(z)) == 1).all() and (numpy(tight.excess(z)) > 1).all()
    with pytest.raises(ValueError, match="Received"):
        plain.excess(z)
    model = keras.Sequential([keras.Input((DIM,)), Dense(DIM, use_bias=False), UniversalFeatures(32, radius=1.0)])
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(np.concatenate([0 * z, z]), np.zeros((40, 32), np.float32), verbose=0)  # a row at the centre itself
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_reported_error_is_the_error_on_new_rows_and_falls_with_features_and_rows():
    layer, found = dense(), {}
    for m, n in ((32, 400), (128, 400), (128, 3000)):
        new = fitted("tanh", "relu", normal(n), m=m)
        fresh = normal(2000, seed=9)
        assert new.error == pytest.approx(snnk_fit.relative_error(numpy(new(fresh)), numpy(layer(fresh))), rel=0.25)
        found[m, n] = new.error
    assert found[128, 3000] < found[128, 400] < found[32, 400]
    assert found[128, 3000] < 0.25


def test_an_error_above_a_fifth_is_warned_of():
    with pytest.warns(UserWarning, match=r"errs by 0\.\d\d of its outputs on rows held out"):
        SNNK.from_dense(dense(), 8, inputs=normal())
    with pytest.warns(UserWarning, match="no `inputs` were given"):
        new = SNNK.from_dense(dense(), 64)
    assert new.error > 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert SNNK.from_dense(dense("softplus"), 256, inputs=normal(2000)).error < 0.2
    assert snnk_fit.relative_error(np.zeros(3), np.ones(3)) == 1


def test_ridge_is_the_best_by_leave_one_out():
    """The closed form against fits that leave each row out."""
    random = np.random.default_rng(0)
    phi, goal = random.standard_normal((30, 6)), random.standard_normal((30, 2))
    none = snnk_fit._Guard(phi[:0], goal[:0])
    losses = []
    for ridge in snnk_fit.RIDGES:
        scales = np.square(phi).mean(axis=0)
        wrong = 0
        for row in range(30):
            left = np.arange(30) != row
            gram = phi[left].T @ phi[left] + 30 * ridge * np.diag(scales)
            wrong += np.square(goal[row] - phi[row] @ np.linalg.solve(gram, phi[left].T @ goal[left])).sum()
        losses.append(wrong)
    assert snnk_fit._Normal(phi, goal, none, 0.0).best_ridge() == snnk_fit.RIDGES[np.argmin(losses)]


def test_rows_into_a_layer_are_those_that_it_gets():
    model = keras.Sequential([keras.Input((DIM,)), Dense(7, activation="relu"), Dense(5, activation="tanh"), Dense(2)])
    x = normal(100)
    hidden = numpy(model.layers[0](x))
    [rows] = rows_into(model, [model.layers[1]], x, 80, 0)
    assert len(rows.fitted) == 80 and len(rows.held_out) == 20
    whole = np.concatenate([rows.fitted, rows.held_out])
    np.testing.assert_allclose(np.sort(whole, axis=0), np.sort(hidden, axis=0), rtol=1e-5, atol=1e-6)
    [first], [(more, _)] = (rows_into(model, [model.layers[i]], x, n, 0) for i, n in ((0, 60), (1, 5000)))
    assert len(first.fitted) == 60 and len(more) == 5000
    np.testing.assert_allclose(more.mean(axis=0), hidden.mean(axis=0), atol=0.15)
    ratio = np.linalg.eigvalsh(np.cov(more.T)) / np.linalg.eigvalsh(np.cov(hidden.T))
    assert (ratio > 1).all() and (ratio < 2).all()
    assert "call" not in vars(model.layers[1])
    with pytest.raises(ValueError, match="does not call"):
        rows_into(model, [dense()], x, 10, 0)


def test_made_up_inputs_have_the_structure_of_the_model():
    tokens, image = keras.Input((None,), dtype="int32", name="tokens"), keras.Input((4, 4, 1), name="image")
    mask, segments = (keras.Input((None,), dtype="int32", name=name) for name in ("padding_mask", "segment_ids"))
    x = keras.layers.Embedding(30, 4)(tokens) + keras.layers.Embedding(2, 4)(segments)
    x = x * keras.ops.cast(mask, "float32")[..., None]
    out = keras.ops.mean(x, axis=(1, 2)) + keras.ops.mean(image, axis=(1, 2, 3))
    given = {"tokens": tokens, "image": image, "padding_mask": mask, "segment_ids": segments}
    model = keras.Model(given, out)
    made = made_up_inputs(model, 200, 0)
    assert {name: array.shape for name, array in made.items()} == {
        "tokens": (200, 8), "image": (200, 4, 4, 1), "padding_mask": (200, 8), "segment_ids": (200, 8)}  # fmt: skip
    assert made["tokens"].min() == 0 and made["tokens"].max() == 29
    assert (made["padding_mask"] == 1).all() and (made["segment_ids"] == 0).all()
    assert abs(made["image"].std() - 1) < 0.1
    assert np.isfinite(numpy(model(made))).all()
