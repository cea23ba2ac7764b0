"""Runs the layer contract on TensorFlow here, on JAX in a child process, and compares what both give."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).with_name("layer_contract.py")
spec = importlib.util.spec_from_file_location("layer_contract", PATH)
contract = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contract)


def test_every_layer_has_a_case():
    assert set(contract.layer_classes()) == set(contract.CASES)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("case", contract.all_cases(), ids=lambda case: case[0])
def test_layer_on_this_backend(case, dtype):
    contract.check(*case[1:], dtype)


def test_layers_on_jax_give_the_same_outputs(tmp_path):
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    root = PATH.parents[2]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, PATH, tmp_path / "jax.npz"],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "jax.npz") as theirs:
        assert str(theirs["backend"]) == "jax"
        for name, layer_class, arguments, shape in contract.all_cases():
            ours = contract.check(layer_class, arguments, shape)
            np.testing.assert_allclose(theirs[name], ours, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomFeatures", {"units": 0}),
        ("RandomFeatures", {"units": 3, "law": "cauchy"}),
        ("RandomFeatures", {"units": 3, "block": -1}),
        ("NeuralTangent", {"units": 0, "outputs": 1}),
        ("NeuralTangent", {"units": 3, "outputs": 0}),
        ("NeuralTangent", {"units": 3, "outputs": 1, "directions": "both"}),
        ("NeuralTangent", {"units": 3, "outputs": 1, "law": "cauchy"}),
        ("NeuralTangent", {"units": 3, "outputs": 1, "seed": -1}),
        ("MeanFieldDense", {"units": 0}),
        ("MeanFieldDense", {"units": 3, "place": "last"}),
        ("MeanFieldDense", {"units": 3, "seed": -1}),
    ],
)
def test_bad_arguments_are_refused_at_once(name, arguments):
    with pytest.raises(ValueError, match="Received"):
        contract.layer_classes()[name](**arguments)
