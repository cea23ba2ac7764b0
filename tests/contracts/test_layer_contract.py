"""Runs the layer contract on TensorFlow here, on JAX in a child process, and compares what both give."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

PATH = Path(__file__).with_name("layer_contract.py")
spec = importlib.util.spec_from_file_location("layer_contract", PATH)
contract = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contract)


def test_every_layer_has_a_case():
    assert set(contract.layer_classes()) == set(contract.CASES)


def policies():
    """Every case in float32; in mixed precision the first of each class, and the others where time is not short."""
    for case in contract.all_cases():
        yield pytest.param(case, "float32", id=case[0])
        short = () if case[0].endswith("-0") else pytest.mark.slow
        yield pytest.param(case, "mixed_bfloat16", id=f"{case[0]}-mixed_bfloat16", marks=short)


@pytest.mark.parametrize(("case", "dtype"), list(policies()))
def test_layer_on_this_backend(case, dtype):
    contract.check(*case[1:], dtype)


@pytest.mark.parametrize("which", ["first", pytest.param("every", marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_layers_on_jax_give_the_same_outputs(which, tmp_path):
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    root = PATH.parents[2]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, PATH, tmp_path / "jax.npz", which],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "jax.npz") as theirs:
        assert str(theirs["backend"]) == "jax"
        for name, *case in contract.all_cases():
            ours = contract.output_of(*case)
            room = 1e-5 * max(1.0, np.abs(ours).max())  # sums of large terms can cancel
            np.testing.assert_allclose(theirs[name], ours, rtol=1e-5, atol=room, err_msg=name)


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
        ("Linearization", {"inner": 3}),
        ("Linearization", {"inner": keras.Sequential([keras.layers.Dense(2)]), "places": [1, 1]}),
        ("Linearization", {"inner": keras.Sequential([keras.layers.Dense(2)]), "places": []}),
        ("MeanFieldDense", {"units": 0}),
        ("MeanFieldDense", {"units": 3, "place": "last"}),
        ("MeanFieldDense", {"units": 3, "seed": -1}),
        ("RatedDense", {"units": 3, "rate": 0.0}),
        ("RatedConv2D", {"filters": 3, "kernel_size": 3, "rate": -1.0}),
        ("Kervolution2D", {"filters": 3, "kernel_size": 3, "kernel": "cauchy"}),
        ("Kervolution2D", {"filters": 0, "kernel_size": 3}),
        ("Kervolution2D", {"filters": 3, "kernel_size": 3, "degree": 0}),
        ("Kervolution2D", {"filters": 3, "kernel_size": 3, "degree": 1.5}),
        ("Kervolution1D", {"filters": 3, "kernel_size": 3, "kernel": "gaussian", "degree": 2}),
        ("Kervolution1D", {"filters": 3, "kernel_size": 3, "kernel": "gaussian", "gamma": 0.0}),
        ("Kervolution3D", {"filters": 3, "kernel_size": 3, "kernel": "l1", "learnable": True}),
        ("Kervolution3D", {"filters": 3, "kernel_size": 3, "kernel": "l2", "offset": 1.0}),
        ("LambdaLayer", {"filters": 6, "heads": 4}),
        ("LambdaLayer", {"filters": 8, "scope": 2}),
        ("LambdaLayer", {"filters": 8, "keys": 0}),
        ("Kervolution2D", {"filters": 3, "kernel_size": 3, "variant": "torch"}),
        ("LambdaLayer", {"filters": 8, "embedding_stddev": -1.0}),
        ("PositionEmbedding", {"stddev": -1.0}),
        ("LambdaLayer", {"filters": 8, "norm": "layer"}),
        ("LambdaLayer", {"filters": 8, "embedding": "none"}),
        ("PositionEmbedding", {"keys": 0}),
        ("PositionEmbedding", {"kind": "none"}),
        ("UniversalFeatures", {"num_features": 1}),
        ("UniversalFeatures", {"num_features": 8, "seed": -1}),
        ("UniversalFeatures", {"num_features": 8, "activation": "sin", "constant": 0.1}),
        ("UniversalFeatures", {"num_features": 8, "growth": 1.0}),
        ("UniversalFeatures", {"num_features": 8, "radius": -1.0}),
        ("UniversalFeatures", {"num_features": 8, "lengths": "long"}),
        ("UniversalFeatures", {"num_features": 8, "lengths": "fixed", "orthogonal": False}),
        ("FavorAttention", {"num_features": 0}),
        ("FavorAttention", {"shift": -0.1}),
        ("SNNKAdapter", {"epsilon": 0.0}),
        ("SNNKAdapter", {"epsilon": 1e-3, "norm_before": False}),
        ("UniversalFeatures", {"num_features": 8, "normalize": -1.0}),
        ("SNNK", {"units": 0}),
        ("SNNK", {"units": 3, "activation": "swish"}),
        ("SNNK", {"units": 3, "trained": "both"}),
        ("SNNK", {"units": 3, "features": "even"}),
        ("SNNK", {"units": 3, "activation": "tanh", "num_features": 4}),
        ("SNNK", {"units": 3, "activation": "tanh", "expansion": "wavelet"}),
        ("SNNK", {"units": 3, "activation": "tanh", "reach": 0.0}),
        ("SNNKAdapter", {"bottleneck": -1}),
        ("SNNKAdapter", {"bottleneck": 2, "start": -0.1}),
    ],
)
def test_bad_arguments_are_refused_at_once(name, arguments):
    with pytest.raises(ValueError, match="Received"):
        contract.layer_classes()[name](**arguments)
