"""Lambda layers against loops over queries, heads and context pixels, in training and in inference."""

import keras
import numpy as np
import pytest

from linearized.layers.batch_norm import EPSILON
from linearized.layers.lambda_layer import LambdaLayer, PositionEmbedding

SHAPE = (3, 5, 4, 6)  # height and width differ, so that they cannot be swapped unseen
OPTIONS = [
    {},
    {"embedding": "absolute"},
    {"strides": 2, "intra_depth": 2},
    {"strides": 2, "embedding": "absolute"},
    {"scope": 3, "intra_depth": 3},
    {"scope": 5, "strides": 2},
    {"norm": "published", "intra_depth": 2},
    {"norm": "published", "scope": 3},
]


def layer_and_input(**options):
    layer = LambdaLayer(6, heads=3, keys=4, **options)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    layer.build(x.shape)
    random = np.random.default_rng(1)
    for variable in layer.weights:
        start = random.uniform(0.5, 2.0, variable.shape) if "variance" in variable.name else None
        variable.assign(random.standard_normal(variable.shape) if start is None else start)
    return layer, x


def normalised(values, norm, axes, training):
    """Batch normalisation over `axes` of values in float64, by its own statistics or by the running ones."""
    shape = [1 if axis in axes else size for axis, size in enumerate(values.shape)]
    mean, variance = (np.asarray(v, np.float64).reshape(shape) for v in (norm.moving_mean, norm.moving_variance))
    if training:
        mean, variance = values.mean(axes, keepdims=True), values.var(axes, keepdims=True)
    gamma, beta = (np.asarray(v, np.float64).reshape(shape) for v in (norm.gamma, norm.beta))
    return gamma * (values - mean) / np.sqrt(variance + EPSILON) + beta


def by_loops(layer, x, training):
    b, height, width = x.shape[:3]
    h, k, v, u, s = layer.heads, layer.keys, layer.values, layer.intra_depth, layer.strides
    x = x.astype(np.float64)
    project = [np.asarray(w, np.float64) for w in (layer.to_queries, layer.to_keys, layer.to_values)]
    places = [(i, j) for i in range(height) for j in range(width)]
    asking = [(i, j) for i, j in places if i % s == 0 and j % s == 0]
    queries, keys, values = (
        np.array([[x[image, i, j] @ weights for i, j in where] for image in range(b)])
        for weights, where in zip(project, (asking, places, places), strict=True)
    )
    if layer.norm == "channels":
        queries = normalised(queries, layer.query_norm, (0, 1), training).reshape(b, -1, h, k)
        values = normalised(values, layer.value_norm, (0, 1), training)
    else:
        queries = normalised(queries.reshape(b, -1, h, k), layer.query_norm, (0, 1, 2), training)
        values = normalised(values, layer.value_norm, (0, 2), training)
    keys, values = keys.reshape(b, -1, u, k), values.reshape(b, -1, u, v)
    found = np.zeros((b, len(asking), h, v))
    for image in range(b):
        weights = np.exp(keys[image]) / np.exp(keys[image]).sum(0)
        for n, query in enumerate(asking):
            applied = np.zeros((k, v))
            for m, place in enumerate(places):
                where = position(layer, query, place, (height, width), n, m)
                for depth in range(u):
                    applied += np.outer(weights[m, depth] + where[:, depth], values[image, m, depth])
            for head in range(h):
                found[image, n, head] = queries[image, n, head] @ applied
    rows, columns = len({i for i, _ in asking}), len({j for _, j in asking})
    return found.reshape(b, rows, columns, h * v)


def position(layer, query, place, size, n, m):
    """E of one query and one context pixel, (k, u)."""
    down, right = place[0] - query[0], place[1] - query[1]
    if layer.scope:
        edge = layer.scope // 2
        if max(abs(down), abs(right)) > edge:
            return np.zeros((layer.keys, layer.intra_depth))
        return np.asarray(layer.window, np.float64)[down + edge, right + edge].T
    table = np.asarray(layer.position.embedding, np.float64)
    if layer.embedding == "absolute":
        return table[n, m]
    return table[(down + size[0] - 1) * (2 * size[1] - 1) + right + size[1] - 1]


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_loops_over_queries_and_context(options, training):
    layer, x = layer_and_input(**options)
    expected = by_loops(layer, x, training)
    np.testing.assert_allclose(layer(x, training=training), expected, rtol=1e-3, atol=1e-3)


def test_running_statistics_are_those_of_a_tenth_of_each_batch():
    """Momentum 0.9: after 50 batches the statistics are the batches', which at 0.9999 they would not be."""
    layer = LambdaLayer(8, heads=2, keys=4)
    x = 3 + 2 * np.random.default_rng(0).standard_normal((64, 4, 4, 6)).astype(np.float32)
    for _ in range(50):
        trained = layer(x, training=True)
    spread = np.abs(trained).std()
    assert np.abs(np.asarray(layer(x, training=False)) - trained).mean() < 0.05 * spread
    values = x.reshape(-1, 6) @ np.asarray(layer.to_values)
    np.testing.assert_allclose(layer.value_norm.moving_mean, values.mean(0), rtol=0.02, atol=0.02)
    assert layer.query_norm.momentum == layer.value_norm.momentum == 0.9


def test_inference_does_not_depend_on_the_rest_of_the_batch():
    layer, x = layer_and_input()
    np.testing.assert_allclose(layer(x)[:1], layer(x[:1]), rtol=1e-4, atol=1e-4)
    assert not np.allclose(layer(x, training=True)[:1], layer(x[:1], training=True), atol=1e-2)


def test_moving_the_image_moves_the_output():
    """A local scope knows differences of places alone; pixels mixed with channels would show here."""
    layer = LambdaLayer(6, heads=3, keys=4, scope=3)
    x = np.zeros((1, 5, 4, 6), np.float32)
    x[0, :4, :3] = np.random.default_rng(0).standard_normal((4, 3, 6))
    moved = np.roll(x, (1, 1), axis=(1, 2))
    np.testing.assert_allclose(layer(moved)[0, 1:, 1:], layer(x)[0, :4, :3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 11), (1, 1), (2, 1)])
@pytest.mark.parametrize("scope", [0, 3])
def test_images_of_any_size(size, scope):
    layer = LambdaLayer(8, heads=2, keys=4, scope=scope, strides=2)
    y = layer(np.ones((2, *size, 3), np.float32))
    assert y.shape == (2, -(-size[0] // 2), -(-size[1] // 2), 8)
    assert np.isfinite(y).all()


def test_one_local_layer_takes_images_of_several_sizes():
    layer = LambdaLayer(8, heads=2, keys=4, scope=3)
    model = keras.Sequential([keras.Input((None, None, 3)), layer])
    for size in ((6, 7), (9, 4)):
        assert model.predict(np.ones((2, *size, 3), np.float32), verbose=0).shape == (2, *size, 8)
    with pytest.raises(ValueError, match="scope"):
        keras.Sequential([keras.Input((None, None, 3)), LambdaLayer(8)])


def test_a_shared_embedding_is_stored_once(tmp_path):
    x = inputs = keras.Input((6, 5, 8))
    shared = PositionEmbedding(4, kind="absolute")(x)
    for _ in range(3):
        x = LambdaLayer(8, keys=4)(x, embedding=shared)
    model = keras.Model(inputs, x)
    embeddings = [weight for weight in model.weights if weight.name == "embedding"]
    assert [tuple(weight.shape) for weight in embeddings] == [(30, 30, 4, 1)]
    model.save(tmp_path / "model.keras")
    batch = np.random.default_rng(0).standard_normal((2, 6, 5, 8)).astype(np.float32)
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(batch, verbose=0), model.predict(batch, verbose=0))
    own = LambdaLayer(8, keys=4, embedding="absolute")
    own.build((None, 6, 5, 8))
    own.set_weights([*model.layers[2].get_weights(), embeddings[0]])
    np.testing.assert_allclose(own(batch), model.layers[2](batch, embedding=embeddings[0]), rtol=1e-5, atol=1e-5)


def test_memory_grows_as_k_n_m_and_not_with_heads():
    """The program's largest tensor is E (n m k), the lambdas (b n k v) or the queries: no n · m map for each head."""
    import tensorflow as tf

    n, k, b = 64, 4, 16
    for heads in (1, 8):
        layer = LambdaLayer(16, heads=heads, keys=k)
        layer.build((b, 8, 8, 16))
        graph = tf.function(lambda x, layer=layer: layer(x)).get_concrete_function(tf.TensorSpec((b, 8, 8, 16))).graph
        made = [output.shape.num_elements() for operation in graph.get_operations() for output in operation.outputs]
        assert max(filter(None, made)) == max(n * n * k, b * n * k * 16 // heads, b * n * k * heads) < b * n * n * 2


def test_other_sizes_than_those_of_the_build_are_refused():
    """The backend's own reshape error stood here; with a shared embedding of the same number of pixels, none."""
    layer, x = layer_and_input()
    with pytest.raises(ValueError, match=r"Received: x.shape=\(3, 4, 4, 6\)"):
        layer(x[:, 1:])
    with pytest.raises(ValueError, match=r"Received: x\.shape"):
        PositionEmbedding(4)(x)  # builds
        layer(np.zeros((3, 4, 5, 6), np.float32))  # as many pixels, other places
    shared = PositionEmbedding(4)
    embedding, layer = shared(x), LambdaLayer(6, heads=3, keys=4)
    layer(x, embedding=embedding)
    with pytest.raises(ValueError, match=r"Received: embedding.shape=\(20, 20, 4, 1\)"):
        layer(x[:, 1:], embedding=embedding)
    with pytest.raises(ValueError, match=r"Received: x\.shape"):
        shared(x[:, 1:])


@pytest.mark.parametrize("scope", [0, 3])
def test_outputs_start_with_a_variance_of_order_one(scope):
    """A stack of four stays bounded in training and in inference; with E ~ N(0, 1) one layer has k m u."""
    x = np.random.default_rng(0).standard_normal((32, 8, 8, 16)).astype(np.float32)
    layers = [LambdaLayer(16, scope=scope, intra_depth=2, seed=seed) for seed in range(4)]
    values = layers[0](x, training=True)
    assert 0.2 < np.var(values) < 5
    for layer in layers[1:]:  # keys of larger inputs choose one pixel each, and large values among them: some k u more
        values = layer(values, training=True)
        assert np.var(values) < 400
    stacked = x
    for layer in layers:
        stacked = layer(stacked, training=False)
    assert np.var(stacked) < 400
    wide = LambdaLayer(16, scope=scope, intra_depth=2, embedding_stddev=1.0)(x, training=True)
    context = scope**2 or 64
    assert np.var(wide) == pytest.approx(16 * context * 2, rel=0.5)
