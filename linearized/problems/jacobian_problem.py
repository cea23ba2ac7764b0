"""The linearization of a Keras model at its present weights as a least-squares problem.

The linearization of a model f with the weights θ₀ is f(x; θ₀) + J(x) v. It is fitted to labels Y by minimising ‖J
v - (Y - f₀)‖² + ρ‖v‖² over v, where f₀ are the outputs f(x; θ₀) or, without the offset, 0. J (n k, p) has one row for
each of the k outputs of each of the n inputs. All outputs depend on the same p parameters v, so v is a single column.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64
from linearized.problems.least_squares import MEMORY, LeastSquares
from linearized.tangents.model_checks import checked_inputs, checked_outputs, chosen_variables
from linearized.tangents.products import JacobianProducts


class JacobianProblem(LeastSquares):
    """Linearized Keras model as a least-squares problem with the model's Jacobian J, which is never stored.

    It solves min ‖J v - (Y - f₀)‖² + ρ‖v‖². Only the input rows are kept between products. Products are in float32,
    summed over blocks of rows in float64. `adjoint64` and `evaluate` are not more accurate than other products.
    Residuals ‖Jᵀ(Y - f₀ - J v) - ρv‖ below about 1e-6 of ‖Jᵀ(Y - f₀)‖ are therefore rounding errors.

    Args:
        model: Keras model, see `linearized.empirical_ntk`.
        x: Rows (n, ...) in the shape of the model's inputs.
        y: Targets Y (n, k).
        offset: Whether the present output f(x; θ₀) of the model is part of the linearized model, as f₀; otherwise
            f₀ = 0.
        variables: Trainable variables that v changes, given by a function or a name (see `linearized.empirical_ntk`);
            None: all.
        memory: Memory in bytes for the solver's arrays.

    Attributes:
        products: Object that computes the products J v and Jᵀu.

    Raises:
        UserError: If the model, its inputs or variables are refused by `linearized.empirical_ntk`, or the targets do
            not have the shape of the outputs.
    """

    def __init__(
        self, model: keras.Model, x: Any, y: Float[np.ndarray, "n k"], *, offset: bool = True,
        variables: Callable[[Any], bool] | str | None = None, memory: int = MEMORY,
    ):  # fmt: skip
        self._x, self.offset = checked_inputs(x), offset
        outputs = checked_outputs(model, self._x)
        if y.shape != (len(self._x), outputs):
            raise UserError(f"The model {model.name} has outputs ({len(self._x)}, {outputs}). Received: targets of "
                            f"shape {y.shape}.")  # fmt: skip
        self.products, self.outputs = JacobianProducts(model, chosen_variables(model, variables)), outputs
        self._start = self.products.outputs(self._x) if offset else np.zeros(y.shape)
        targets = (y - self._start).reshape(-1, 1)
        super().__init__(targets, self.products.params, len(self._x), memory, "recomputed")

    def forward(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "rows c"]:
        """Return J v for the model's Jacobian J (n k, p) on the train rows and columns v (p, c)."""
        return self.products.forward(self._x, v).reshape(self.rows, -1)

    def adjoint(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Return Jᵀu for the model's Jacobian J (n k, p) on the train rows and columns u (n k, c)."""
        return self.products.adjoint(self._x, u.reshape(self.n, self.outputs, -1))

    def outputs_of(self, predictions: Float64[np.ndarray, "rows 1"]) -> Float64[np.ndarray, "n k"]:
        """Return the outputs (n, k) of the linearized model on the train rows.

        They are J v, plus the present output f(x; θ₀) of the model if the problem has an offset.

        Args:
            predictions: J v for one column v, (n k, 1).
        """
        return self._start + predictions.reshape(self._start.shape)

    def predict(self, x: Any, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "m ck"]:
        """Return the outputs of the linearized model for rows x (m, ...).

        Args:
            x: Rows in the shape of the model's inputs.
            v: Parameters (p, c): differences from the weights θ₀ at which the model is linearized.

        Returns:
            Array (m, c k) with k columns for each column of v, in the order of the columns.
        """
        x = checked_inputs(x)
        values = self.products.forward(x, v)
        if self.offset:
            values = values + self.products.outputs(x)[..., None]
        return values.transpose(0, 2, 1).reshape(len(x), -1)
