"""Functions that the models share, such as the penalty on weights, the input layer for images and the readout.

The module also builds a model from settings, loads a saved one, and counts the operations of its training.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

import linearized.layers  # noqa: F401 - registers the layers, so that `load` finds them
from linearized.base import seals
from linearized.base.errors import UserError
from linearized.base.reading import parsing, read_bytes
from linearized.data.dataset import Dataset
from linearized.layers.batch_norm import SettledBatchNorm
from linearized.layers.initializers import SeededNormal
from linearized.models import module_of, without_images
from linearized.models.saved_model import custom_classes
from linearized.settings.model_files import ADVICE, advice


def penalty(strength: float) -> keras.regularizers.Regularizer | None:
    """Return the regularizer strength·‖w‖² of a weight w; None for the strength 0.

    None is returned so that a model without penalty has no loss terms of its own.

    Raises:
        UserError: For a negative strength.
    """
    if strength < 0:
        raise UserError(f"A ridge must not be negative. Received: {strength}.")
    return keras.regularizers.L2(float(strength)) if strength else None


def image_input(dataset: Dataset, model: str) -> tuple[Any, Any]:
    """Return the Keras input for flat rows (n, d), and the tensor of their images (n, height, width, channels).

    Args:
        dataset: Dataset that determines the image shape.
        model: Name of the model, used in the error message.

    Raises:
        UserError: If the rows are not images.
    """
    if dataset.image_shape is None:
        raise UserError(
            f"{model} needs images, and the rows of {dataset.name} are none. Use {', '.join(without_images())}."
        )
    inputs = keras.Input((dataset.dim,), name="x")
    return inputs, keras.layers.Reshape(dataset.image_shape, name="image")(inputs)


def batch_norm(name: str, scale: str = "ones") -> SettledBatchNorm:
    """Return a layer of batch normalisation over channels.

    Args:
        name: Name of the layer.
        scale: Initial value of the layer's scales γ: "ones" or "zeros".
    """
    return SettledBatchNorm(gamma_initializer=scale, name=name)


def readout(dataset: Dataset, features: int, seed: int) -> keras.layers.Dense:
    """Return the linear last layer of a network, which computes in float32 even in a mixed-precision model.

    Args:
        dataset: Dataset that determines the number of outputs.
        features: Number of inputs of the layer; the initial weights are N(0, 1/features).
        seed: Random-number seed of the run.
    """
    start = SeededNormal(1 / np.sqrt(features), (seed, 0))
    return keras.layers.Dense(dataset.num_outputs, kernel_initializer=start, dtype="float32", name="readout")


def build(config: Any, dataset: Dataset, ridge: float) -> keras.Model:
    """Return the uncompiled model that the settings choose.

    Args:
        config: Settings, such as `linearized.experiments.train_settings.TrainSettings`. With `mixed_precision` the
            model computes in bfloat16 and keeps float32 weights.
        dataset: Dataset that determines the shapes of inputs and outputs.
        ridge: λ, the strength of the model's penalty.
    """
    module, before = module_of(config), keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if config.mixed_precision else "float32")
    try:
        return module.build(config, dataset, ridge=ridge)
    finally:
        keras.config.set_dtype_policy(before)


@dataclasses.dataclass(frozen=True)
class BuiltModel:
    """A fitted Keras model with the interface of a fitted NumPy model (`keras_export.ExportedModel`).

    The interface consists of `trained_parameters`, `num_parameters` and `save`. The same code can then save both kinds
    of models.
    """

    model: keras.Model

    @property
    def trained_parameters(self) -> int:
        """Number of parameters that are trained."""
        return sum(math.prod(variable.shape) for variable in self.model.trainable_variables)

    @property
    def num_parameters(self) -> int:
        """Number of all parameters, including fixed ones."""
        return int(self.model.count_params())

    def save(self, path: Path) -> None:
        """Write the model to the `.keras` file `path`."""
        self.model.save(path)


def load(path: Path | str) -> keras.Model:
    """Return a saved `.keras` model, uncompiled but ready for predictions.

    Files that this package writes end with a checksum (a seal). If the file has one, it is compared first.

    Args:
        path: Path of the file.

    Raises:
        Absent: If the file does not exist.
        Unreadable: If the file is damaged, or Keras cannot load it.
        UserError: If the model has classes that are not registered.
    """
    content = read_bytes(path, "a saved model", advice(path), limit=None)
    with parsing(path, "a model that Keras can load", ADVICE):
        seals.is_sealed(content)
        try:
            return keras.saving.load_model(path, compile=False)
        except Exception as error:
            unknown = [name for name in custom_classes(path) if keras.saving.get_registered_object(name) is None]
            if not unknown:
                raise
            raise UserError(
                f"{path} has classes that are not known here: {', '.join(unknown)}. Register them in Python with "
                "keras.saving.register_keras_serializable and run from there, or save a model of Keras' own layers."
            ) from error
