"""NT: the two-layer network linearised around its random initial weights (arXiv 2006.13409), for k outputs.

The outputs are relu(xW) a + c plus the derivative of relu(xW) a⁰ with respect to W in the direction G, for fixed random
weights W and a⁰, see `linearized.layers.neural_tangent`. The trained parameters are the readout a, the bias c and the
directions G. Penalty: λ‖G‖² for first-order training. The least-squares problem penalises a and c as well, as
published.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.weights import tangent_layers
from linearized.data.dataset import Dataset
from linearized.models.declaration import Declaration
from linearized.models.keras_export import ExportedLayer, ExportedModel, penalty_config
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras

    from linearized.problems import TangentProblem


def _parameters(config: Any, dim: int, outputs: int) -> int:
    return config.num_units * (dim * (outputs if config.directions == "per_class" else 1) + outputs)


DECLARED = Declaration(
    reads("num_units", "law", "block", "weight_seed", "directions"), linear=True, formed=True,
    ridges="tangents", batches="linear",
    parameters=_parameters,
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled NT model from rows (n, d) to outputs (n, k); the readout a, the bias c and G start at 0.

    Args:
        config: Settings num_units (N), directions ("shared" or "per_class"), and law, weight_seed and block of the
            random weights, see `linearized.layers.NeuralTangent`.
        dataset: Dataset that determines the length of a row d and the number of outputs k.
        ridge: λ of the penalty λ‖G‖².
    """
    import keras

    from linearized.layers.neural_tangent import NeuralTangent
    from linearized.models.common import penalty

    inputs = keras.Input((dataset.dim,), name="x")
    tangent = NeuralTangent(
        config.num_units,
        dataset.num_outputs,
        config.directions,
        config.law,
        config.weight_seed,
        config.block,
        directions_regularizer=penalty(ridge),
        name="tangent",
    )
    return keras.Model(inputs, tangent(inputs), name="NT")


def problem(config: Any, dataset: Dataset, memory: int) -> "TangentProblem":
    """Return the least-squares problem of the train rows, with the same random weights as the model.

    Args:
        config: Settings as for `build`.
        dataset: Dataset with the train rows and targets.
        memory: Memory in bytes that cached features may take.
    """
    from linearized.problems import TangentProblem

    draw = {"law": config.law, "seed": config.weight_seed, "block": config.block}
    weights, readout = tangent_layers(dataset.dim, config.num_units, dataset.num_outputs, **draw)
    targets, per_class = dataset.targets(dataset.train), config.directions == "per_class"
    return TangentProblem(dataset.train.x, targets, weights, readout, per_class=per_class, memory=memory)


def exported(config: Any, dataset: Dataset, ridge: float, values: np.ndarray) -> ExportedModel:
    """Return the model of `build` with given parameters, in a form that is saved without Keras.

    Args:
        config: Settings as for `build`.
        dataset: Dataset as for `build`.
        ridge: λ as for `build`.
        values: The p trained parameters in the order of `get_parameters`, flat or as a column.
    """
    draw = {"law": config.law, "seed": config.weight_seed, "block": config.block}
    dim, units, outputs = dataset.dim, config.num_units, dataset.num_outputs
    shapes = (units, outputs), (outputs,), (units, dim) if config.directions == "shared" else (outputs, units, dim)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(values.ravel(), ends[:-1])
    layer = ExportedLayer(
        "linearized.layers.neural_tangent", "NeuralTangent", "tangent",
        {"units": units, "outputs": outputs, "directions": config.directions, **draw,
         "directions_regularizer": penalty_config(ridge)},
        outputs, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)],
        tangent_layers(dim, units, outputs, **draw),
    )  # fmt: skip
    return ExportedModel("NT", dim, (layer,))


def _variables(model: "keras.Model") -> "list[keras.Variable]":
    layer = model.get_layer("tangent")
    return [layer.readout, layer.bias, layer.tangent]


def get_parameters(model: "keras.Model") -> np.ndarray:
    """Return the p trained parameters of a model that `build` returned as one column (p, 1).

    The order is the readout a (N, k) row by row, the bias c (k), and the directions G, (N, d) or, with directions per
    class, (k, N, d), row by row, for N units, k outputs and rows of length d.
    """
    import keras

    parts = [keras.ops.convert_to_numpy(variable).ravel() for variable in _variables(model)]
    return np.concatenate(parts)[:, None]


def set_parameters(model: "keras.Model", values: np.ndarray) -> None:
    """Set the p trained parameters of a model.

    Args:
        model: Model that `build` returned; it is changed.
        values: Parameters in the order of `get_parameters`, flat (p,) or as a column (p, 1).

    Raises:
        ValueError: For another number of parameters.
    """
    variables = _variables(model)
    sizes = [int(np.prod(variable.shape)) for variable in variables]
    if values.size != sum(sizes):
        raise ValueError(f"Expected {sum(sizes)} parameters. Received: shape {values.shape}.")
    for variable, part in zip(variables, np.split(values.ravel(), np.cumsum(sizes)[:-1]), strict=True):
        variable.assign(part.reshape(variable.shape))
