"""RF: a linear readout of random features, relu(xW) a + c with fixed random weights W (arXiv 2006.13409).

The trained parameters are the readout a (N, k) and the bias c (k) for N features and k outputs. Penalty: λ‖a‖² for
first-order training. The least-squares problem penalises c as well, as published.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.weights import first_layer
from linearized.data.dataset import Dataset
from linearized.models.declaration import Declaration
from linearized.models.keras_export import ExportedLayer, ExportedModel, dense_readout
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras

    from linearized.problems import FeatureProblem

DECLARED = Declaration(
    reads("num_units", "law", "block", "weight_seed"), linear=True, formed=True,
    momentum="nesterov", ridges="features",
    batches="linear", parameters=lambda config, dim, outputs: (config.num_units + 1) * outputs,
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled RF model from rows (n, d) to outputs (n, k); the readout a and the bias c start at 0.

    Args:
        config: Settings num_units (N), and law, weight_seed and block of the random weights, see
            `linearized.layers.RandomFeatures`.
        dataset: Dataset that determines the length of a row d and the number of outputs k.
        ridge: λ of the penalty λ‖a‖².
    """
    import keras

    from linearized.layers.random_features import RandomFeatures
    from linearized.models.common import penalty

    inputs = keras.Input((dataset.dim,), name="x")
    features = RandomFeatures(config.num_units, config.law, config.weight_seed, config.block, name="features")
    readout = keras.layers.Dense(
        dataset.num_outputs, kernel_initializer="zeros", kernel_regularizer=penalty(ridge), name="readout"
    )
    return keras.Model(inputs, readout(features(inputs)), name="RF")


def problem(config: Any, dataset: Dataset, memory: int) -> "FeatureProblem":
    """Return the least-squares problem of the train rows, with the same random weights as the model.

    Args:
        config: Settings as for `build`.
        dataset: Dataset with the train rows and targets.
        memory: Memory in bytes that cached features may take.
    """
    from linearized.problems import FeatureProblem

    weights = first_layer(dataset.dim, config.num_units, law=config.law, seed=config.weight_seed, block=config.block)
    return FeatureProblem(dataset.train.x, dataset.targets(dataset.train), weights, memory=memory)


def exported(config: Any, dataset: Dataset, ridge: float, values: np.ndarray) -> ExportedModel:
    """Return the model of `build` with given parameters, in a form that is saved without Keras.

    Args:
        config: Settings as for `build`.
        dataset: Dataset as for `build`.
        ridge: λ as for `build`.
        values: The trained parameters (readout, then bias) as `get_parameters` returns them, (N + 1, k), or the same
            flattened.
    """
    draw = {"law": config.law, "seed": config.weight_seed, "block": config.block}
    weights = first_layer(dataset.dim, config.num_units, **draw)
    features = ExportedLayer("linearized.layers.random_features", "RandomFeatures", "features",
                             {"units": config.num_units, **draw}, config.num_units, fixed=(weights,))  # fmt: skip
    values = values.reshape(config.num_units + 1, dataset.num_outputs)
    return ExportedModel("RF", dataset.dim, (features, dense_readout(values[:-1], values[-1], ridge)))


def get_parameters(model: "keras.Model") -> np.ndarray:
    """Return the trained parameters of a model that `build` returned, (N + 1, k) for N features and k outputs.

    They are the readout a and, as the last row, the bias c.
    """
    weights, bias = model.get_layer("readout").get_weights()
    return np.concatenate([weights, bias[None]])


def set_parameters(model: "keras.Model", values: np.ndarray) -> None:
    """Set the trained parameters of a model.

    Args:
        model: Model that `build` returned; it is changed.
        values: Readout a and, as the last row, the bias c, (N + 1, k) as `get_parameters` returns them, or the same
            flattened.

    Raises:
        ValueError: For another number of parameters.
    """
    readout = model.get_layer("readout")
    units, outputs = readout.kernel.shape
    if values.size != (units + 1) * outputs:
        raise ValueError(f"Expected {(units + 1, outputs)} parameters. Received: shape {values.shape}.")
    values = values.reshape(units + 1, outputs)
    readout.set_weights([values[:-1], values[-1]])
