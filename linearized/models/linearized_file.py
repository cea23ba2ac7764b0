"""Linearization f(x; θ₀) + J(x) v of the user's own Keras model file, `--model=path.keras --linearize`.

f is the model, θ₀ are the weights of the file (or new initial weights), and J(x) = ∂f(x; θ₀)/∂θ is the Jacobian with
respect to the weights that `--variables` chooses. v has one number for each of these weights, and only v is trained.
Penalty: λ‖v‖², for both least squares and first-order training.

The matrix A of the least-squares problem stacks J(x) for all n train rows. It has n k rows for k outputs and one column
per chosen weight; the right-hand side is one column of n k numbers. The grid of λ ranges from 1e-8 to 10 times the mean
of Σ_k ‖∂f_k(x)/∂θ‖² over the train rows, which is the trace of A Aᵀ divided by n.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.models import keras_file
from linearized.models.declaration import Declaration
from linearized.settings.reads import reads
from linearized.tangents.variable_names import listed_names

if TYPE_CHECKING:
    import keras

    from linearized.problems.jacobian_problem import JacobianProblem


def _check(config: Any) -> None:
    """Raise `UserError` for a model file that does not fit the rows, invalid --variables, and --max_ncg_iters.

    Args:
        config: Settings of the run.
    """
    keras_file.check(config)
    if config.variables:
        listed_names(config.variables)
    if config.max_ncg_iters:
        raise UserError("Newton-CG computes in float64, and a linearization in float32: leave out --max_ncg_iters. "
                        "The square loss is solved by lanczos and cg, other losses by adam or sgd.")  # fmt: skip


READS = reads("tangent_offset", "variables")
DECLARED = Declaration(
    keras_file.DECLARED.reads | READS, groups=keras_file.DECLARED.groups, linear=True, units=0, ridges="jacobian",
    batches="linear", check=_check, hidden_layers=lambda _config: None,
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return the linearization of the model f in a file: an uncompiled Keras model from rows (n, d) to outputs (n, k).

    The outputs are f(x; θ₀) plus the derivative of f in the direction v, a change of the chosen weights. v is trained
    and starts at 0.

    Args:
        config: Settings `model` (path of the file), `init` ("file": θ₀ are the weights of the file; "fresh": new
            initial weights), `seed` (of new weights), `variables` (the chosen weights) and `tangent_offset` (whether
            f(x; θ₀) is part of the outputs).
        dataset: Dataset that the inputs and outputs must fit.
        ridge: λ of the penalty λ‖v‖².

    Raises:
        UserError: For a file that Keras cannot load or that does not fit the dataset, and for models that
            `linearized.linearize` refuses.
    """
    from linearized.layers.linearization import chosen_places, linearization_of
    from linearized.models.common import penalty
    from linearized.tangents.model_checks import checked_inputs, checked_outputs

    inner, rows = keras_file.of_rows(config, dataset), checked_inputs(dataset.train.x[:1])
    checked_outputs(inner, rows)
    places = chosen_places(inner, config.variables)
    return linearization_of(inner, places, rows, offset=config.tangent_offset, direction_regularizer=penalty(ridge))


def problem(config: Any, dataset: Dataset, memory: int) -> "JacobianProblem":
    """Return the least-squares problem of fitting the linearization to the train rows.

    Args:
        config: Settings as for `build`.
        dataset: Dataset with the train rows and targets.
        memory: Memory in bytes that a solver may use for its vectors.
    """
    from linearized.problems.jacobian_problem import JacobianProblem

    return JacobianProblem(
        keras_file.of_rows(config, dataset), dataset.train.x, dataset.targets(dataset.train),
        offset=config.tangent_offset, variables=config.variables, memory=memory,
    )  # fmt: skip


def ridge_scale(config: Any, dataset: Dataset) -> float:
    """Return the number by which relative ridges are multiplied: the trace of A Aᵀ divided by n, for n train rows.

    A stacks the Jacobians of the train rows. The trace is estimated from at most 64 of the rows, see
    `JacobianProducts.mean_trace`, and rounded to three significant digits.

    Args:
        config: Settings as for `build`.
        dataset: Dataset with the train rows.

    Raises:
        UserError: If the trace is 0 or not finite.
    """
    from linearized.tangents.model_checks import checked_inputs, checked_outputs, chosen_variables
    from linearized.tangents.products import JacobianProducts

    model, x = keras_file.of_rows(config, dataset), checked_inputs(dataset.train.x)
    checked_outputs(model, x)
    scale = JacobianProducts(model, chosen_variables(model, config.variables)).mean_trace(x)
    if not 0 < scale < np.inf:
        raise UserError(f"The derivatives of {config.model} at its weights have a mean square of {scale}: there is "
                        "nothing to fit. Take other weights or other --variables.")  # fmt: skip
    return float(f"{scale:.2e}")


def get_parameters(model: "keras.Model") -> np.ndarray:
    """Return v, the p trained changes of the weights, as one column (p, 1).

    Args:
        model: Model that `build` returned.
    """
    from linearized.layers.linearization import get_direction

    return get_direction(model)


def set_parameters(model: "keras.Model", values: np.ndarray) -> None:
    """Set v, the p trained changes of the weights, in a linearized model.

    Args:
        model: Model that `build` returned; it is changed.
        values: v as `get_parameters` returns it, (p, 1), or flat, (p,).

    Raises:
        ValueError: For another number of values.
    """
    from linearized.layers.linearization import set_direction

    set_direction(model, values)
