"""Fit of the linearization of a Keras model (its first-order Taylor expansion in the weights) to arrays.

`linearized.fit_linearization` solves for every ridge of a grid at once.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.base.keywords import suggests_keywords
from linearized.base.shapes import Float64
from linearized.experiments.grids import own_grid
from linearized.kernel_ridge.ridge_path import checked_labels, checked_memory, checked_path
from linearized.layers.linearization import chosen_places, copied, linearization_of, set_direction
from linearized.problems.jacobian_problem import JacobianProblem
from linearized.solvers import LINEAR, SOLVERS, auto
from linearized.solvers.linear.driver import UNWATCHED, Watch
from linearized.solvers.linear.solution import Solution
from linearized.tangents.model_checks import checked_inputs, checked_outputs

RTOL = 1e-5  # default relative residual; products in float32 reach about 1e-6


@dataclasses.dataclass(frozen=True)
class LinearizedPath:
    """Linearizations f(x; θ₀) + J(x) v of a Keras model f, fitted at several ridges, in the order requested.

    θ₀ are the weights of f. J is the Jacobian of f with respect to p of these weights, and v contains the p fitted
    changes of these weights. After a fit with `offset=False`, f(x; θ₀) is replaced by 0.

    Attributes:
        ridges: Values of ρ; each v minimises ‖J v - (y - f₀)‖² + ρ‖v‖², for the targets y and the outputs f₀ = f(x; θ₀)
            of the train rows.
        solutions: One `linearized.solvers.linear.solution.Solution` per ridge: v as `value` (p, 1), J v on the train
            rows as `predictions`, and the solver's diagnostics.
        solver: Name of the solver.
        reason: Reason for the choice of the solver.
    """

    ridges: Float64[np.ndarray, " ridges"]
    solutions: list[Solution]
    solver: str
    reason: str
    _problem: JacobianProblem
    _linear: keras.Model

    def predict(self, x: Any) -> Float64[np.ndarray, "ridges m k"]:
        """Return the outputs of the linearized model at every ridge; each ridge costs one product J v.

        Args:
            x: Rows (m, ...) in the shape of the model's inputs.

        Returns:
            Outputs (ridges, m, k) for the k outputs of the model.
        """
        values = self._problem.predict(x, np.concatenate([one.value for one in self.solutions], axis=1))
        return np.ascontiguousarray(values.reshape(len(values), len(self.ridges), -1).transpose(1, 0, 2))

    def model(self, place: int) -> keras.Model:
        """Return the linearized model at one ridge as a Keras model, which can be saved, loaded and used to predict.

        Args:
            place: Index of the ridge in `ridges`.
        """
        model = copied(self._linear)
        set_direction(model, self.solutions[place].value)
        return model


@suggests_keywords
def fit_linearization(
    model: keras.Model, x: Any, y: Any, ridges: Sequence[float] | np.ndarray | None = None, *, offset: bool = True,
    variables: Callable[[Any], bool] | str | None = None, solver: str = "auto", rtol: float = RTOL,
    max_iterations: int = 750, memory: float | None = None, watch: Watch = UNWATCHED,
) -> LinearizedPath:  # fmt: skip
    """Fit the linearization f(x; θ₀) + J(x) v of a Keras model f to n rows by least squares, at every ridge ρ.

    It minimises ‖J v - (y - f₀)‖² + ρ‖v‖² over v, where θ₀ are the present weights, J (n k, p) is the Jacobian of the k
    outputs of all rows with respect to p weights, and f₀ are the outputs at θ₀. J is never formed: products with J and
    Jᵀ run through the model in batches. One Krylov space serves all ridges; its vectors have n k numbers or p,
    whichever is smaller.

    Args:
        model: Keras model, see `linearized.linearize`; it is not changed.
        x: Rows (n, ...) in the shape of the model's inputs.
        y: Targets (n,) or (n, k) for k outputs; classes as one-hot rows.
        ridges: ρ, at least 0, in any order; not divided by n. None: 19 values from 1e-8 to 10 times the trace of J Jᵀ,
            which is estimated.
        offset: Whether f₀ is part of the linearized model; otherwise f₀ is replaced by 0.
        variables: Trainable variables that v changes: a function of a variable, or parts of their paths as text, see
            `linearized.linearize`; None: all.
        solver: "auto", "lanczos" or "cg". "band" needs the Gram matrix J Jᵀ, which is not formed here.
        rtol: Relative residual ‖Jᵀ(y - f₀) - (JᵀJ + ρI)v‖/‖Jᵀ(y - f₀)‖ at which the solver stops.
        max_iterations: Largest number of products with J Jᵀ or JᵀJ.
        memory: Available memory in bytes; None: half of the free memory.
        watch: Progress and checkpoints of a long run.

    Returns:
        The fitted model at every ridge.

    Raises:
        UserError: Under the same conditions as `linearized.linearize`, for an unknown solver, and if the targets do not
            have the shape of the outputs.
    """
    if solver not in ("auto", *LINEAR):
        raise UserError(f"solver is one of auto, {', '.join(LINEAR)}. Received: {solver!r}.")
    targets, size = checked_labels(y), checked_memory(memory)
    rows = checked_inputs(x)
    checked_outputs(model, rows)
    places, inner = chosen_places(model, variables), copied(model)
    moved = {id(inner.variables[place]) for place in places}
    problem = JacobianProblem(inner, rows, targets, offset=offset, variables=lambda one: id(one) in moved, memory=size)
    linear = linearization_of(inner, places, rows, offset=offset)
    path = problem.n * problem.products.mean_trace(rows) * own_grid() if ridges is None else checked_path(ridges)
    name, reason = auto(problem, len(path)) if solver == "auto" else (solver, "as asked")
    solutions = SOLVERS.load(name).solve(
        problem, path, rtol=float(rtol), atol=0.0, max_iterations=max_iterations, **vars(watch)
    )
    return LinearizedPath(path, solutions, name, reason, problem, linear)
