"""Writer of `.keras` files without Keras, for models that were fitted with NumPy.

A model is a chain of layers: each layer is applied to the outputs of the layer before. The format is that of Keras 3, a
zip file with config.json (the serialised model), metadata.json and model.weights.h5, which contains the arrays
`layers/<class in snake case>/vars/<index>`. A test compares these files with files that Keras saves.
"""

import dataclasses
import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class ExportedLayer:
    """One layer of an `ExportedModel`: its description in a `.keras` file, and its weights.

    Attributes:
        module: Module in which Keras finds the class of the layer.
        class_name: Name of the class; classes of this package are registered under "linearized".
        name: Name of the layer in the model.
        config: Entries of the layer's configuration (`get_config`) except name, trainable and dtype.
        outputs: Length of the layer's output rows.
        trained: Trained weights, in the order in which the Keras layer creates them.
        fixed: Fixed weights, which the Keras layer creates after the trained ones, in the order of their creation.
    """

    module: str
    class_name: str
    name: str
    config: Mapping[str, Any]
    outputs: int
    trained: Sequence[np.ndarray] = ()
    fixed: Sequence[np.ndarray] = ()

    @property
    def registered_name(self) -> str | None:
        """Name under which the class is registered with Keras; None for a class of Keras itself."""
        return None if self.module.startswith("keras") else f"linearized>{self.class_name}"


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """Model of NumPy arrays that can be saved as a Keras model: a chain of layers for rows (n, dim).

    The model itself computes nothing. Its weights are saved as float32.

    Attributes:
        name: Name of the model.
        dim: Length of an input row.
        layers: Layers, in the order in which they are applied; no two have the same class.
    """

    name: str
    dim: int
    layers: Sequence[ExportedLayer]

    @property
    def trained_parameters(self) -> int:
        """Number of parameters that are trained."""
        return sum(weight.size for layer in self.layers for weight in layer.trained)

    @property
    def num_parameters(self) -> int:
        """Number of all parameters, including fixed ones."""
        return self.trained_parameters + sum(weight.size for layer in self.layers for weight in layer.fixed)

    def save(self, path: Path) -> None:
        """Write the model to the file `path` in Keras' own `.keras` format.

        Saving needs memory for a copy of the weights.
        """
        import importlib.metadata  # imported here, because declarations are also loaded for `--help`
        import zipfile

        metadata = {"keras_version": importlib.metadata.version("keras"),
                    "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}  # fmt: skip
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps(metadata))
            archive.writestr("config.json", json.dumps(self.config()))
            archive.writestr("model.weights.h5", self._weights())

    def config(self) -> dict[str, Any]:
        """Return the content of config.json: what `keras.saving.serialize_keras_object` returns for the model."""
        layers = [_serialized("keras.layers", "InputLayer", None, "x", {
            "batch_shape": [None, self.dim], "dtype": "float32", "sparse": False, "ragged": False, "name": "x",
            "optional": False,
        })]  # fmt: skip
        before, length = "x", self.dim
        for layer in self.layers:
            own = {"name": layer.name, "trainable": True, "dtype": _FLOAT32, **layer.config}
            entry = _serialized(layer.module, layer.class_name, layer.registered_name, layer.name, own)
            entry["build_config"] = {"input_shape": [None, length]}
            entry["inbound_nodes"] = [{"args": [_output_of(before, length)], "kwargs": {}}]
            layers.append(entry)
            before, length = layer.name, layer.outputs
        config = {"name": self.name, "trainable": True, "layers": layers, "input_layers": ["x", 0, 0],
                  "output_layers": [before, 0, 0]}  # fmt: skip
        return {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional",
                "config": config, "build_config": {"input_shape": None}, "compile_config": {}}  # fmt: skip

    def _weights(self) -> bytes:
        import h5py

        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_group("vars").attrs["name"] = self.name
            file.create_group("layers/input_layer/vars").attrs["name"] = "x"
            for layer in self.layers:  # layers have different classes, so that their names need no numbers
                group = file.create_group(f"layers/{_snake_case(layer.class_name)}/vars")
                group.attrs["name"] = layer.name
                for index, weight in enumerate((*layer.trained, *layer.fixed)):
                    group[str(index)] = np.asarray(weight, np.float32)
        return buffer.getvalue()


def penalty_config(strength: float) -> dict[str, Any] | None:
    """Return the serialised Keras regularizer strength·‖w‖² of a weight w; None for strength 0."""
    if not strength:
        return None
    return {"module": "keras.regularizers", "class_name": "L2", "config": {"l2": float(strength)},
            "registered_name": None}  # fmt: skip


def dense_readout(weights: np.ndarray, bias: np.ndarray, ridge: float) -> ExportedLayer:
    """Return a linear Dense layer named "readout" for an `ExportedModel`.

    Args:
        weights: Kernel (features, outputs).
        bias: Bias (outputs,).
        ridge: λ of the penalty λ‖weights‖²; 0: no penalty.
    """
    zeros = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
    config = {
        "units": weights.shape[1], "activation": "linear", "use_bias": True, "kernel_initializer": zeros,
        "bias_initializer": zeros, "kernel_regularizer": penalty_config(ridge), "bias_regularizer": None,
        "kernel_constraint": None, "bias_constraint": None, "quantization_config": None,
    }  # fmt: skip
    return ExportedLayer("keras.layers", "Dense", "readout", config, weights.shape[1], (weights, bias))


_FLOAT32 = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}


def _serialized(
    module: str, class_name: str, registered: str | None, name: str, config: Mapping[str, Any]
) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": dict(config), "registered_name": registered,
            "name": name, "inbound_nodes": []}  # fmt: skip


def _output_of(layer: str, length: int) -> dict[str, Any]:
    config = {"shape": [None, length], "dtype": "float32", "keras_history": [layer, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
