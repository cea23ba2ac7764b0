"""What is true of every model: it builds for each task, counts, trains an epoch, saves and loads."""

import json
import zipfile

import keras
import numpy as np
import pytest

from linearized.data.dataset import Dataset, Split
from linearized.experiments.train import TrainSettings as Config
from linearized.models import MODELS
from linearized.models.common import load
from linearized.solvers.training import sgd

DEEP = ("RESNET", "LAMBDA_RESNET")


def config_of(name):
    """Small settings of a model, as `train.py` makes them."""
    return Config(model=name, num_units=4, **({"resnet_depth": 18} if name in DEEP else {}))


def dataset(task):
    random = np.random.default_rng(0)
    top = {"classes": 3, "binary": 2, "regression": 100}[task]

    def split(rows):
        labels = random.integers(0, top, (rows, 1)).astype(np.float32)
        return Split(random.standard_normal((rows, 36)).astype(np.float32), labels / 100 if top == 100 else labels)

    classes = {"classes": 3, "binary": 2, "regression": 0}[task]
    return Dataset("TINY", 0, split(30), split(8), split(8), task, classes, (6, 6, 1), "SYNTH", "0" * 16)


# Many layers take a quarter of a minute to compile: the deep models are asked once in the quick suite.
CASES = [
    pytest.param(name, task, marks=pytest.mark.slow if name in DEEP and task != "classes" else ())
    for name in MODELS
    for task in ("classes", "binary", "regression")
]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_model(name, task, tmp_path):
    data, module = dataset(task), MODELS.load(name)
    model = module.build(config_of(name), data, ridge=1e-3)
    assert isinstance(model, keras.Model)
    assert model.name == name
    assert model.output_shape == (None, data.num_outputs)
    assert model.count_params() == sum(array.size for array in model.get_weights()) > 0
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert f"{model.count_params():,}" in "\n".join(lines)

    result = sgd.fit(model, data, learning_rate=1e-3, epochs=1, batch_size=16)
    assert result.epochs_done == 1
    assert np.isfinite(result.history["loss"]).all()
    assert len(model.losses) > 0  # the penalty that a ridge asks for
    assert module.build(config_of(name), data).losses == []

    outputs = sgd.predict(model, data.test.x)
    assert outputs.shape == (8, data.num_outputs)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(sgd.predict(load(tmp_path / "model.keras"), data.test.x), outputs)

    twin = module.build(config_of(name), data)
    for ours, theirs in zip(twin.get_weights(), module.build(config_of(name), data).get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_a_linear_model_is_linear_in_what_is_trained(name):
    data, module = dataset("classes"), MODELS.load(name)
    model = module.build(config_of(name), data)
    random = np.random.default_rng(0)
    start = [np.zeros(variable.shape, np.float32) for variable in model.trainable_variables]
    ahead = [random.standard_normal(variable.shape).astype(np.float32) for variable in model.trainable_variables]

    def outputs(share):
        for variable, a, b in zip(model.trainable_variables, start, ahead, strict=True):
            variable.assign(a + share * b)
        return np.asarray(model.predict(data.test.x, verbose=0))

    bend = np.abs(outputs(1) - 2 * outputs(0.5) + outputs(0)).max() / np.abs(outputs(1)).max()
    assert (bend < 1e-5) == module.DECLARED.linear
    assert hasattr(module, "set_parameters") == module.DECLARED.linear


@pytest.mark.parametrize("alias", [*MODELS.aliases, *(name.lower() for name in MODELS)])
def test_aliases_build_what_they_stand_for(alias):
    name = MODELS.canonical(alias)
    assert MODELS.load(alias).build(config_of(name), dataset("classes")).name == name


def comparable(config):
    """A configuration without what differs between two savings of one model."""
    if isinstance(config, dict):
        return {name: comparable(value) for name, value in config.items() if name != "shared_object_id"}
    return [comparable(value) for value in config] if isinstance(config, list) else config


@pytest.mark.parametrize("directions", ["shared", "per_class"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("name", [name for name in MODELS if hasattr(MODELS.load(name), "exported")])
def test_a_model_that_is_written_without_keras_is_the_one_that_keras_saves(name, ridge, directions, tmp_path):
    module, data = MODELS.load(name), dataset("classes")
    if "directions" not in module.DECLARED.reads and directions == "per_class":
        pytest.skip("this model has no directions")
    given = {"directions": directions} if "directions" in module.DECLARED.reads else {}
    config = Config(model=name, num_units=5, weight_seed=3, law="gaussian", block=2, **given)
    model = module.build(config, data, ridge=ridge)
    values = np.random.default_rng(0).standard_normal(module.get_parameters(model).shape).astype(np.float32)
    module.set_parameters(model, values)
    written = module.exported(config, data, ridge, values)
    model.save(tmp_path / "keras.keras")
    written.save(tmp_path / "ours.keras")
    archives = [zipfile.ZipFile(tmp_path / name) for name in ("keras.keras", "ours.keras")]
    theirs, ours = (comparable(json.loads(archive.read("config.json"))) for archive in archives)
    assert theirs == ours
    read = load(tmp_path / "ours.keras")
    for theirs, ours in zip(model.weights, read.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(theirs), keras.ops.convert_to_numpy(ours))
    np.testing.assert_array_equal(read(data.train.x), model(data.train.x))
    assert written.num_parameters == model.count_params()
    assert written.trained_parameters == sum(int(np.prod(one.shape)) for one in model.trainable_variables)
