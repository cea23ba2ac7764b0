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
}
TOLERANCE = {"float32": 1e-6, "mixed_bfloat16": 0.1}


def layer_classes():
    """Every Layer class that a module of `linearized.layers` defines, by name."""
    found = {}
    for module in pkgutil.iter_modules(linearized.layers.__path__, "linearized.layers."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and issubclass(value, keras.layers.Layer) and value.__module__ == module.name:
                found[name] = value
    return found


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


def check(layer_class, arguments, shape, dtype="float32"):
    """Builds, calls, trains, counts, saves and loads one layer; returns its output in float32."""
    layer = layer_class(**arguments, dtype=dtype)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    randomise(layer)
    x = batch_of(shape)
    output = model.predict(x, verbose=0)
    assert output.shape == layer.compute_output_shape(shape) == (shape[0], *model.output_shape[1:])
    assert keras.backend.standardize_dtype(layer(x).dtype) == layer.compute_dtype
    assert np.isfinite(output.astype(np.float32)).all()
    _check_batches(model, x, output, dtype)
    _check_count(model, layer)
    _check_saved(model, layer, x, output)
    _check_gradients(model, layer, x, output)
    return output.astype(np.float32)


def _check_batches(model, x, output, dtype):
    """A row's output does not depend on the batch that it comes in, whatever its size."""
    for rows in (1, 3):
        part = model.predict(x[:rows], verbose=0).astype(np.float32)
        np.testing.assert_allclose(part, output[:rows].astype(np.float32), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def _check_count(model, layer):
    """The summary's counts are those of the weights."""
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    total = sum(int(np.prod(variable.shape)) for variable in layer.weights)
    assert model.count_params() == total > 0
    assert f"{total:,}" in "\n".join(lines)
    assert all(keras.backend.standardize_dtype(variable.dtype) == "float32" for variable in layer.weights)


def _check_saved(model, layer, x, output):
    """Configuration and weights come back from disk, and from the configuration alone come equal first weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = keras.saving.load_model(path)
    np.testing.assert_array_equal(again.predict(x, verbose=0), output)
    twin, other = (type(layer).from_config(layer.get_config()) for _ in range(2))
    assert twin.get_config() == layer.get_config()
    twin.build(x.shape), other.build(x.shape)
    for ours, theirs in zip(twin.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _check_gradients(model, layer, x, output):
    """One step of SGD reaches every trained variable with a finite gradient, and no other."""
    fixed = [ops.convert_to_numpy(variable) for variable in layer.non_trainable_variables]
    before = [ops.convert_to_numpy(variable) for variable in layer.trainable_variables]
    if before:
        model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=False)
        model.train_on_batch(x, np.zeros(output.shape, np.float32))
    for old, variable in zip(before, layer.trainable_variables, strict=True):
        assert np.isfinite(ops.convert_to_numpy(variable)).all()
        assert np.any(ops.convert_to_numpy(variable) != old), f"{variable.path} did not move"
    for old, variable in zip(fixed, layer.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), old)


def main(path):
    """Checks every case on the backend of $KERAS_BACKEND and writes the float32 outputs."""
    outputs = {}
    for name, layer_class, arguments, shape in all_cases():
        outputs[name] = check(layer_class, arguments, shape)
        check(layer_class, arguments, shape, "mixed_bfloat16")
    np.savez(path, backend=np.array(keras.backend.backend()), **outputs)


if __name__ == "__main__":
    main(sys.argv[1])
