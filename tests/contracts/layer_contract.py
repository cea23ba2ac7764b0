"""What is true of every layer, on any backend. Run as a script it writes the layers' outputs: script, file to write."""

import importlib
import inspect
import pkgutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

import linearized.layers
from linearized.layers import Exponentials, Fourier, NamedFunction, Power, SeededNormal

FILTERS = {"kernel_initializer": SeededNormal(0.3, 5)}  # a seed: equal configurations give equal weights
PUBLISHED = {"variant": "published", "bias_initializer": SeededNormal(0.1, 1), **FILTERS}  # its biases are random too
# For each layer class, the ways to make one, and the shape of a batch that it takes.
CASES = {
    "RandomFeatures": [
        ({"units": 7}, (5, 6)),
        ({"units": 7, "law": "gaussian", "seed": 3, "block": 2}, (5, 6)),
    ],
    "NeuralTangent": [
        ({"units": 7, "outputs": 3, "directions_regularizer": keras.regularizers.L2(0.1)}, (5, 6)),
        ({"units": 7, "outputs": 1}, (5, 6)),
        ({"units": 7, "outputs": 3, "directions": "per_class"}, (5, 6)),
    ],
    "MeanFieldDense": [
        ({"units": 7}, (5, 6)),
        ({"units": 7, "place": "deep", "seed": (1, 2), "kernel_regularizer": keras.regularizers.L2(0.1)}, (5, 6)),
        ({"units": 2, "place": "readout"}, (5, 6)),
    ],
    "RatedDense": [
        ({"units": 7, "rate": 3.0, **FILTERS}, (5, 6)),
        ({"units": 7, "activation": NamedFunction("leaky_relu(0.1)"), "use_bias": False, **FILTERS}, (5, 4, 6)),
    ],
    "RatedConv2D": [({"filters": 4, "kernel_size": 3, "rate": 0.5, "use_bias": False, **FILTERS}, (5, 6, 6, 2))],
    "Positions": [({"length": 4}, (5, 4, 6)), ({"length": 4, "first": True}, (5, 4, 6))],
    "UniversalFeatures": [
        ({"num_features": 8}, (5, 6)),
        ({"num_features": 9, "activation": "sin", "features": "symmetric", "shift": 0.1, "normalize": 1.0}, (5, 6)),
        ({"num_features": 9, "activation": Fourier([0.0, 0.5], [1.0, 2.0], [0.0, 1.0]), "scale": 0.5}, (5, 6)),
        ({"num_features": 12, "activation": Power([0.5, 1.0, 0.0, 2.0]), "orthogonal": False, "seed": (1, 2)}, (5, 6)),
        ({"num_features": 8, "constant": -5.0, "biased": False, "lengths": "fixed"}, (5, 6)),
        ({"num_features": 9, "activation": "gelu", "degree": 3, "radius": 1.0, "growth": 1.0}, (5, 3, 6)),
        ({"num_features": 8, "activation": "sin", "radius": 1.0, "scale": 0.5}, (5, 6)),
        ({"num_features": 8, "activation": Exponentials([1.0, 0.5], [0.2, -0.3]), "shift": 0.1}, (5, 6)),
        ({"num_features": 8, "activation": Exponentials([1j, 0.5], [0.2j, 0.3], None, [0.1, 0.2j])}, (5, 6)),
    ],
    "FavorAttention": [
        ({"num_features": 8}, (5, 4, 6)),
        ({"num_features": 8, "shift": 0.1, "orthogonal": False, "seed": 3}, (5, 4, 2, 6)),
    ],
    "SNNK": [
        ({"units": 7, "num_features": 16, "regularizer": keras.regularizers.L2(0.1)}, (5, 6)),
        ({"units": 7, "num_features": 16}, (5, 3, 6)),
        ({"units": 7, "num_features": 16, "trained": "weights", "use_bias": False, "normalize": 1.0}, (5, 2, 3, 6)),
        ({"units": 7, "num_features": 16, "activation": "cos", "trained": "weights", "normalize": 0.3}, (5, 6)),
        ({"units": 7, "num_features": 16, "activation": "sin", "features": "symmetric", "normalize": 0.3}, (5, 6)),
        ({"units": 7, "num_features": 16, "activation": "gelu", "degree": 4, "normalize": 1.0}, (5, 6)),
        ({"units": 7, "num_features": 16, "activation": "tanh", "trained": "weights", "normalize": 0.5}, (5, 6)),
        ({"units": 7, "num_features": 16, "activation": "tanh", "radius": 1.0}, (5, 6)),
        ({"units": 7, "num_features": 16, "radius": 1.0, "growth": 1.0, "constant": 0.1, "use_bias": False}, (5, 6)),
        ({"units": 7, "num_features": 16, "activation": Exponentials([1.0], [0.3]), "trained": "weights"}, (5, 6)),
    ],
    "SNNKAdapter": [
        ({"bottleneck": 3, "num_features": 8}, (5, 6)),
        ({"bottleneck": 0, "num_features": 8, "norm_before": False, "norm_after": True, "start": 0.1}, (5, 4, 6)),
        ({"bottleneck": 3, "num_features": 8, "norm_before": False, "radius": 1.0, "activation": "tanh"}, (5, 6)),
        ({"bottleneck": 3, "num_features": 8, "epsilon": 1e-3, "activation": Exponentials([1.0], [0.3])}, (5, 6)),
    ],
    "Adapted": [
        (
            {
                "layer": {
                    "module": "keras.layers",
                    "class_name": "Dense",
                    "registered_name": None,
                    "config": {
                        "units": 6,
                        "kernel_initializer": keras.saving.serialize_keras_object(SeededNormal(0.4)),
                    },
                },
                "adapter": {
                    "module": "linearized.layers.snnk.adapter",
                    "class_name": "SNNKAdapter",
                    "registered_name": "linearized>SNNKAdapter",
                    "config": {"bottleneck": 3, "num_features": 8},
                },
            },
            (5, 6),
        )
    ],
}
INNER = {
    "module": "keras", "class_name": "Sequential", "registered_name": None,
    "config": {"name": "inner", "layers": [
        {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None,
         "config": {"batch_shape": [None, 6], "dtype": "float32", "name": "rows"}},
        *({"module": "keras.layers", "class_name": "Dense", "registered_name": None,
           "config": {"name": f"dense_{units}", "units": units, "activation": activation,
                      "kernel_initializer": keras.saving.serialize_keras_object(SeededNormal(0.5, units))}}
          for units, activation in ((7, "tanh"), (3, "linear"))),
    ]},
}  # fmt: skip
CASES["Linearization"] = [
    ({"inner": INNER}, (5, 6)),
    ({"inner": INNER, "places": [0, 3], "offset": False, "direction_regularizer": keras.regularizers.L2(0.1)}, (5, 6)),
]
MADE_BY_SWAP = ("SwappedLayer", "SwappedModel")  # they wrap a layer in place: see the tests of `swap`
CASES |= {
    "Kervolution1D": [
        ({"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2, **FILTERS}, (5, 7, 2)),
        ({"filters": 4, "kernel_size": 3, "kernel": "l1", "groups": 2, "strides": 2, **FILTERS}, (5, 7, 2)),
    ],
    "Kervolution2D": [
        ({"filters": 4, "kernel_size": 3, "degree": 2, "offset": 0.5, "learnable": True, **FILTERS}, (5, 6, 5, 2)),
        ({"filters": 4, "kernel_size": 2, "kernel": "gaussian", "groups": 2, "padding": "same", **FILTERS},
         (5, 6, 5, 2)),
        ({"filters": 3, "kernel_size": 1, "kernel": "gaussian", "gamma": 0.1, "learnable": True, **FILTERS},
         (5, 3, 3, 2)),
        ({"filters": 4, "kernel_size": (3, 2), "kernel": "sigmoid", "activation": "relu", "use_bias": False, **FILTERS},
         (5, 6, 5, 2)),
        ({"filters": 4, "kernel_size": 3, "kernel": "l2", "strides": 2, **FILTERS}, (5, 6, 5, 2)),
        ({"filters": 4, "kernel_size": 3, "kernel": "l1", "padding": "same", **FILTERS}, (5, 6, 5, 2)),
        ({"filters": 4, "kernel_size": 3, "kernel": "linear", **FILTERS}, (5, 6, 5, 2)),
        ({"filters": 4, "kernel_size": 3, **PUBLISHED}, (5, 6, 5, 2)),
        ({"filters": 4, "kernel_size": 3, "kernel": "sigmoid", **PUBLISHED}, (5, 6, 5, 2)),
    ],
    "Kervolution3D": [
        ({"filters": 2, "kernel_size": 2, "kernel": "gaussian", **FILTERS}, (5, 3, 4, 3, 2)),
        ({"filters": 2, "kernel_size": 2, "kernel": "l1", "padding": "same", **FILTERS}, (5, 3, 4, 3, 2)),
    ],
    "SettledBatchNorm": [({}, (5, 4, 3, 2)), ({"axis": 1, "momentum": 0.5, "gamma_initializer": "zeros"}, (5, 3, 2))],
    "PositionEmbedding": [],  # has no batch axis; LambdaLayer's cases hold it
    "LambdaLayer": [
        ({"filters": 6, "heads": 2, "keys": 3, "intra_depth": 2, "strides": 2}, (5, 4, 3, 5)),
        ({"filters": 6, "heads": 2, "keys": 3, "scope": 3, "kernel_regularizer": keras.regularizers.L2(0.1)},
         (5, 4, 3, 5)),
        ({"filters": 6, "heads": 3, "keys": 3, "embedding": "absolute", "norm": "published", "seed": (1, 2)},
         (5, 4, 3, 5)),
        ({"filters": 6, "heads": 3, "keys": 3, "embedding": "absolute", "norm": "published", "rows": "unpermuted"},
         (5, 4, 3, 5)),
        ({"filters": 6, "heads": 2, "keys": 3, "embedding_stddev": 0.5}, (5, 4, 3, 5)),
    ],
}  # fmt: skip
TOLERANCE = {"float32": 1e-6, "mixed_bfloat16": 0.1}


def layer_classes():
    """Every Layer class that a module of `linearized.layers` defines, by name."""
    found = {}
    for module in pkgutil.walk_packages(linearized.layers.__path__, "linearized.layers."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and issubclass(value, keras.layers.Layer) and value.__module__ == module.name:
                found[name] = value
    return {name: value for name, value in found.items() if name not in MADE_BY_SWAP}


def all_cases():
    """(id, class, arguments, batch shape), in an order that does not change."""
    return [
        (f"{name}-{number}", layer, *case)
        for name, layer in sorted(layer_classes().items())
        for number, case in enumerate(CASES[name])
    ]


def batch_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def randomise(layer):
    """Random values in all that is trained, so that no part of the layer is silent."""
    random = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(random.standard_normal(variable.shape))


def fixed_axes(layer):
    """The axes of an input, after the batch's, whose sizes a built layer fixes; the rank of images is fixed too."""
    name = type(layer).__name__
    if name == "LambdaLayer":
        return {3} if layer.scope and layer.norm == "channels" else {1, 2, 3}
    if name == "Positions":
        return {1, 2}
    if name == "SettledBatchNorm":
        return {layer.axis % len(layer._expected)}
    return None  # the last axis


def made(layer_class, arguments, shape, dtype="float32"):
    """The layer with random weights, a model of it alone, and a batch."""
    layer = layer_class(**arguments, dtype=dtype)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    randomise(layer)
    return layer, model, batch_of(shape)


def output_of(layer_class, arguments, shape):
    """What the layer gives on its batch, in inference mode."""
    _, model, x = made(layer_class, arguments, shape)
    return model.predict(x, verbose=0)


def check(layer_class, arguments, shape, dtype="float32"):
    """Builds, calls, trains, counts, saves and loads one layer."""
    layer, model, x = made(layer_class, arguments, shape, dtype)
    output = model.predict(x, verbose=0)
    assert output.shape == layer.compute_output_shape(shape) == (shape[0], *model.output_shape[1:])
    assert keras.backend.standardize_dtype(layer(x).dtype) == layer.compute_dtype
    assert np.isfinite(output.astype(np.float32)).all()
    _check_batches(model, x, output, dtype)
    _check_count(model, layer)
    _check_saved(model, layer, x)
    _check_gradients(model, layer, x, output)
    _check_other_shapes(layer, x)


def _check_other_shapes(layer, x):
    """Other sizes than those the layer was built for are refused with what came in, or served where none is fixed."""
    fixed = fixed_axes(layer) or {x.ndim - 1}
    for axis in range(1, x.ndim):
        other = np.concatenate([x, x[(slice(None),) * axis + (slice(1),)]], axis=axis)
        if axis in fixed:
            _refuses(layer, other)
        else:
            assert np.isfinite(ops.convert_to_numpy(ops.cast(layer(other), "float32"))).all()
    if type(layer).__name__.startswith(("Kervolution", "Lambda", "Positions", "NeuralTangent", "SettledBatchNorm")):
        _refuses(layer, x[..., None])


def _refuses(layer, x):
    try:
        layer(x)
    except ValueError as error:
        assert "Received: " in str(error) and str(x.shape) in str(error), error
    else:
        raise AssertionError(f"{layer.name} was built for another shape than {x.shape}")


def _check_batches(model, x, output, dtype):
    """A row's output does not depend on the batch that it comes in, whatever its size, nor on being compiled."""
    for rows in (1, 3):
        part = ops.convert_to_numpy(model(x[:rows], training=False)).astype(np.float32)
        whole = output[:rows].astype(np.float32)
        room = TOLERANCE[dtype] * max(1.0, np.abs(output).max().astype(float))  # sums of large terms can cancel
        np.testing.assert_allclose(part, whole, rtol=TOLERANCE[dtype], atol=room)


def _check_count(model, layer):
    """The summary's counts are those of the weights."""
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    total = sum(int(np.prod(variable.shape)) for variable in layer.weights)
    assert model.count_params() == total > 0
    assert f"{total:,}" in "\n".join(lines)
    assert all(keras.backend.standardize_dtype(variable.dtype) == "float32" for variable in layer.weights)


def _check_saved(model, layer, x):
    """Configuration and weights come back from disk, and from the configuration alone come equal first weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = keras.saving.load_model(path)
    here, there = (ops.convert_to_numpy(network(x, training=False)) for network in (model, again))
    np.testing.assert_array_equal(there, here)
    twin, other = (type(layer).from_config(layer.get_config()) for _ in range(2))
    assert twin.get_config() == layer.get_config()
    twin.build(x.shape), other.build(x.shape)
    for ours, theirs in zip(twin.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _check_gradients(model, layer, x, output):
    """One step of SGD, compiled by XLA, gives finite gradients of all that is trained; else statistics alone move."""
    still = [variable for variable in layer.non_trainable_variables if not variable.name.startswith("moving_")]
    fixed = [ops.convert_to_numpy(variable) for variable in still]
    before = [ops.convert_to_numpy(variable) for variable in layer.trainable_variables]
    if before:
        model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=True)
        model.train_on_batch(x, np.zeros(output.shape, np.float32))
    for old, variable in zip(before, layer.trainable_variables, strict=True):
        assert np.isfinite(ops.convert_to_numpy(variable)).all()
        assert np.any(ops.convert_to_numpy(variable) != old), f"{variable.path} did not move"
    for old, variable in zip(fixed, still, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), old)


def main(path, which):
    """Writes the outputs of all cases on the backend of $KERAS_BACKEND; checks the first of each class, or all."""
    outputs = {}
    for name, *case in all_cases():
        outputs[name] = output_of(*case)
        if which == "every":
            check(*case)
            check(*case, "mixed_bfloat16")
        elif name.endswith("-0"):
            check(*case)
    np.savez(path, backend=np.array(keras.backend.backend()), **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
