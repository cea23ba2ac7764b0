"""Training of Keras models by Newton-CG: SciPy's trust region with Steihaug's CG, on the whole train set.

Derivatives are computed in float64 (`linearized.solvers.training.derivatives`), because a trust region compares small
differences of the loss, which would be lost to rounding in float32.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from scipy.optimize import OptimizeResult, minimize

from linearized.base.errors import UserError
from linearized.base.shapes import Float64
from linearized.data.dataset import Dataset
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.training.derivatives import Objective
from linearized.solvers.training.objectives import loss_kind

ROUND = 10  # iterations between two states from which a run can be resumed
LARGEST_RADIUS = 1e6
ITERATIONS_SPENT = 1  # status number of SciPy
ALL_REFUSED = -1  # additional status number of this module: every step of a round was rejected


@dataclasses.dataclass(frozen=True)
class NewtonResult:
    """Diagnostics of training by Newton-CG; the trained parameters are in the model.

    Attributes:
        iterations: Number of trust-region steps that were tried, including rejected steps.
        objective: Mean loss of the train rows plus the penalty at the end, in float64.
        gradient_norm: ‖∇objective‖ at the end, recomputed there.
        converged: Whether `gradient_norm` is at most the tolerance times the norm of the gradient at the start.
        message: Description of the end of the run.
        history: The objective after each iteration.
        gradient_norms: The norm of the gradient of the objective after each iteration.
    """

    iterations: int
    objective: float
    gradient_norm: float
    converged: bool
    message: str
    history: Float64[np.ndarray, " iterations"]
    gradient_norms: Float64[np.ndarray, " iterations"]


def minimise(
    model: keras.Model,
    dataset: Dataset,
    *,
    loss: str = "square",
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    max_batch_size: int = 10_000,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 30.0,
    key: str = "",
    progress: Callable[[int, int, dict], None] | None = None,
) -> NewtonResult:
    """Minimise the mean loss of the train rows plus the model's penalty over all trained variables of a model.

    The minimisation starts from the current values of the variables. SciPy is called for 10 iterations at a time. It
    does not expose its trust radius, so each call starts with twice the length of the last accepted step as the radius.
    The state between two calls is therefore known, and a resumed run takes the same steps as an uninterrupted run.

    Args:
        model: Model to train.
        dataset: Dataset whose train split is used.
        loss: "square" or "cross_entropy" (of the logits).
        max_iterations: Iterations of the trust region; each takes a gradient and some Hessian-vector products.
        tolerance: Norm of the gradient, relative to its norm at the start, at which the run stops.
        max_batch_size: Largest number of rows that are differentiated together.
        checkpoint: Folder of the checkpoint; a later call with the same settings and `key` continues from it. None
            stores nothing.
        checkpoint_seconds: Smallest number of seconds between two checkpoints. Checkpoints are written only after every
            10th iteration and at the end.
        key: Identity of the run that the checkpoint belongs to.
        progress: Function called with the iterations done, `max_iterations`, and a dictionary with "loss" (including
            the penalty) and "gradient_norm".

    Dropout is off during training.

    Raises:
        UserError: If the backend is not TensorFlow, a count is below 1, or the objective is not finite at the start.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"newton_cg needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}.")
    if max_iterations < 1 or max_batch_size < 1 or not tolerance > 0:
        raise UserError(
            "newton_cg takes max_iterations >= 1, max_batch_size >= 1 and tolerance > 0. "
            f"Received: {max_iterations}, {max_batch_size}, {tolerance}."
        )
    objective = Objective(model, dataset, loss_kind(loss, dataset.task), max_batch_size)
    folder = None if checkpoint is None else Path(checkpoint)
    saved = Checkpoint(
        folder, key=key, model=model.name, data=dataset.fingerprint, loss=loss,
        max_iterations=max_iterations, tolerance=tolerance,
    )  # fmt: skip
    return _NewtonRun(objective, tolerance, max_iterations, saved, checkpoint_seconds, progress).to_the_end()


class _NewtonRun:
    """One run of Newton-CG: the parameters, the trust radius and the history, updated by calls of SciPy ("rounds").

    Args:
        objective: Objective to minimise.
        tolerance: Norm of the gradient, relative to its norm at the start, at which the run stops.
        max_iterations: Largest number of iterations.
        checkpoint: Checkpoint, which is restored if there is one.
        checkpoint_seconds: Smallest number of seconds between two checkpoints.
        progress: Function called after each iteration, as for `minimise`; None: none.
    """

    def __init__(
        self,
        objective: Objective,
        tolerance: float,
        max_iterations: int,
        checkpoint: Checkpoint,
        checkpoint_seconds: float,
        progress: Callable | None,
    ):
        self.objective, self.progress = objective, progress
        self.checkpoint, self.checkpoint_seconds, self.written = checkpoint, checkpoint_seconds, time.monotonic()
        self.max_iterations = max_iterations
        self.x, self.radius, self.status = objective.start(), 1.0, ITERATIONS_SPENT
        self.history: dict[str, list[float]] = {"objective": [], "gradient_norm": []}
        self.last_step = 0.0
        value, gradient = objective(self.x)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise UserError("The loss at the start is not finite, so Newton-CG cannot begin. Check the data.")
        self.goal = tolerance * float(np.linalg.norm(gradient))
        arrays = checkpoint.load("newton_cg")
        if arrays is not None:
            state = json.loads(str(arrays["state"]))
            self.radius, self.status, self.goal = state["radius"], state["status"], state["goal"]
            self.x, self.history = arrays["x"], state["history"]

    def to_the_end(self) -> NewtonResult:
        """Train until the gradient is small, all iterations are used or SciPy finds no descent; return diagnostics.

        SciPy is called for 10 iterations at a time. At the end a checkpoint is written, and the parameters are assigned
        to the model.
        """
        while len(self.history["objective"]) < self.max_iterations and self.status == ITERATIONS_SPENT:
            self._round(min(ROUND, self.max_iterations - len(self.history["objective"])))
            if time.monotonic() - self.written >= self.checkpoint_seconds:
                self._save()
        self._save()
        self.objective.write_back(self.x)
        value, gradient = self.objective(self.x)
        norm, iterations = float(np.linalg.norm(gradient)), len(self.history["objective"])
        converged = norm <= self.goal
        message = f"gradient norm {norm:.3g} after {iterations} iterations, aim {self.goal:.3g}"
        if not converged and self.status != ITERATIONS_SPENT:
            message += "; the loss can be told apart no further at this precision"
        history, norms = np.array(self.history["objective"]), np.array(self.history["gradient_norm"])
        return NewtonResult(iterations, value, norm, converged, message, history, norms)

    def _round(self, iterations: int) -> None:
        self.last_step = 0.0
        options = {"maxiter": iterations, "gtol": self.goal, "initial_trust_radius": self.radius}
        found = minimize(
            self.objective, self.x, method="trust-ncg", jac=True, hessp=self.objective.hessian_product,
            callback=self._iterated, options={**options, "max_trust_radius": LARGEST_RADIUS},
        )  # fmt: skip
        self.x, self.status = found.x, int(found.status)
        self.radius = min(2 * self.last_step, LARGEST_RADIUS / 2)
        if self.last_step == 0 and self.status == ITERATIONS_SPENT and iterations == ROUND:
            self.status = ALL_REFUSED  # steps down to a millionth of the radius were rejected, so rounding dominates

    def _iterated(self, intermediate_result: OptimizeResult) -> None:
        step = float(np.linalg.norm(intermediate_result.x - self.x))
        if step > 0:
            self.last_step, self.x = step, intermediate_result.x.copy()
        value, gradient = self.objective(self.x)
        norm = float(np.linalg.norm(gradient))
        self.history["objective"].append(value)
        self.history["gradient_norm"].append(norm)
        if self.progress is not None:
            self.progress(len(self.history["objective"]), self.max_iterations, {"loss": value, "gradient_norm": norm})

    def _save(self) -> None:
        state = {"radius": self.radius, "status": self.status, "goal": self.goal, "history": self.history}
        self.checkpoint.save("newton_cg", {"x": self.x, "state": np.array(json.dumps(state))})
        self.written = time.monotonic()
