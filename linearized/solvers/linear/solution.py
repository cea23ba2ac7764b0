"""Common parts of all linear solvers: the interface of problems, solutions, tolerances and checks of arguments.

A problem is min ‖A v - Y‖² + ρ‖v‖² for A (rows, p) and Y (rows, columns), at each ridge ρ of a grid. As in the
published experiments, tolerances refer to the normal equations H v = b with H = (2/n)AᵀA + 2λI, b = (2/n)AᵀY and
ρ = nλ. A ridge counts as solved when ‖b - Hv‖ <= max(rtol ‖b‖, atol). The residual of a solution is ‖b - Hv‖/‖b‖, which
equals ‖AᵀY - (AᵀA + ρI)v‖/‖AᵀY‖. Norms of matrices are Frobenius norms.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float64

RTOL, ATOL, MAX_ITERATIONS = 1e-4, 1e-3, 750  # as published
ACCURACY = 1e-3  # of the train predictions, relative to their root mean square, where no tolerance is given
SLACK = 1.1  # largest ratio of a recomputed residual to its tolerance at which a ridge counts as converged
# The same for float32 products. Where their rounding errors allow a tolerance to be reached, recomputed residuals are
# up to 3.3 times the tolerance (measured); otherwise they are larger, and the ridge counts as not converged.
SLACK32 = 4.0
EXPECTED_VECTORS, LEAST_BASIS = 250, 2**28  # expected vectors of a Lanczos basis; bytes that it may always take
LEFT_OUT = ("leave_one_out", "left_out_loss", "left_out_error")  # leave-one-out fields of a `Solution`
BATCH_BYTES = 2**29  # size of the parameters of all ridges that go through one pass together

Progress = Callable[[int, int, np.ndarray, int], None]


@runtime_checkable
class LinearProblem(Protocol):
    """Interface of a problem min ‖A v - Y‖² + ρ‖v‖², which solvers access by products alone.

    If `dual` is true, the problem also has the methods `dual_product(u)`, which returns A Aᵀu, and `adjoint64(u)`,
    which returns Aᵀu in float64. Its attribute `exact_gram` then states whether `dual_product` computes in float64.

    Attributes:
        targets: Y, (rows, columns).
        params: p, the number of columns of A.
        n: Number of data points.
        rows: Number of rows of A.
        columns: Number of columns of Y.
        block: Number of columns per product that a block Lanczos solver should use.
        dual: Whether solvers work with A Aᵀ and α, where v = Aᵀα, instead of AᵀA and v.
        spare: Memory in bytes that a solver may use.
        rounding: Relative rounding error of products.
    """

    targets: np.ndarray
    params: int
    n: int
    rows: int
    columns: int
    block: int
    dual: bool
    spare: int
    rounding: float

    def moment(self) -> np.ndarray:
        """Return AᵀY, the right-hand side of the normal equations (AᵀA + ρI)v = AᵀY."""

    def primal_product(self, v: np.ndarray) -> np.ndarray:
        """Return the product AᵀA v for columns v, (p, c)."""

    def evaluate(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the predictions A v, and Aᵀ(Y - A v).

        Args:
            v: The parameters at one or several ridges side by side, (p, ridges · columns of Y). The results are in the
                same order.
        """

    def prediction_bound(self, residual: float, ridge: float) -> float:
        """Return a bound on the Frobenius norm of the error of the predictions A v.

        Args:
            residual: Frobenius norm ‖AᵀY - (AᵀA + ρI)v‖.
            ridge: ρ.
        """


class Solution(NamedTuple):
    """The minimiser v of ‖A v - Y‖² + ρ‖v‖² at one ridge ρ, with diagnostics of its accuracy.

    Attributes:
        ridge: ρ.
        value: v, (p, columns); None if a solver was asked for α alone.
        converged: Whether the recomputed residual is at most 1.1 times the tolerance (4 times for float32 products). If
            an accuracy of the predictions was requested: whether the bound on their relative error is at most that.
        iterations: Number of products until the residual that the solver updates met the tolerance; the number of all
            products if it never did.
        residual: ‖AᵀY - (AᵀA + ρI)v‖/‖AᵀY‖, recomputed from A at the end; 0 if AᵀY = 0.
        history: Relative residuals that the solver updates, after each product until the ridge was solved.
        predictions: A v on the train rows, (rows, columns).
        message: Warning about this ridge, such as the reason why it was not solved; "" if there is none.
        prediction_error: Bound on the error of `predictions` compared with the exact minimiser for the same features:
            the root mean square over the n train rows, in units of the labels. None if no bound is known, such as at
            ρ = 0. At a small ridge the error can be large although the residual is small.
        dual: α with v = Aᵀα, (rows, columns), if the solver works in the dual; otherwise None.

    For a Gram matrix K (`linearized.problems.gram_problem`), AᵀY is Y, v is α and the predictions are Kα. Further
    attributes for this case:

        shift: Ridge at which K was factorised for the preconditioner, if it is not ρ itself; otherwise 0.
        refinements: Number of float64 CG steps that refined the solution of a factorisation.
        degrees_of_freedom: tr K(K + ρI)⁻¹; None if the solver does not compute the spectrum.
        gcv: Generalised cross-validation, mean‖α_i‖² / (tr(K + ρI)⁻¹/n)².
        leave_one_out: y_i - f₋ᵢ(x_i) for every row i, (rows, columns), with the fit f₋ᵢ to the other rows. It equals
            α_i / [(K + ρI)⁻¹]_ii.
        left_out_loss: The mean over all rows of ‖y_i - f₋ᵢ(x_i)‖², exact or estimated from a sample of the rows.
        left_out_error: Standard error of `left_out_loss` as an estimate of the loss on fresh rows.
    """

    ridge: float
    value: np.ndarray | None
    converged: bool
    iterations: int
    residual: float
    history: np.ndarray
    predictions: np.ndarray
    message: str = ""
    shift: float = 0.0
    refinements: int = 0
    degrees_of_freedom: float | None = None
    gcv: float | None = None
    leave_one_out: np.ndarray | None = None
    left_out_loss: float | None = None
    left_out_error: float | None = None
    prediction_error: float | None = None
    dual: np.ndarray | None = None


class Tolerance(NamedTuple):
    """The residual, or the error of the predictions, at which a solver counts a ridge as solved.

    Attributes:
        moment_norm: ‖AᵀY‖; if it is 0, v = 0 is exact.
        relative: Residual ‖AᵀY - (AᵀA + ρI)v‖/‖AᵀY‖ at which a ridge counts as solved.
        accuracy: Frobenius norm of the error of the predictions, divided by the norm of the predictions, at which a
            ridge counts as solved; `relative` then only determines when the first run of CG ends. None: the residual
            decides.
    """

    moment_norm: float
    relative: float
    accuracy: float | None = None

    @classmethod
    def of(
        cls, moment_norm: float, n: int, rtol: float, atol: float, accuracy: float | None = None
    ) -> "Tolerance":  # fmt: skip
        """Return the tolerance of one problem, from the relative and the absolute tolerance of a solver's call.

        Args:
            moment_norm: ‖AᵀY‖.
            n: Number of data points.
            rtol: Relative tolerance.
            atol: Absolute tolerance, in the units of (2/n)AᵀY.
            accuracy: Relative error of the predictions at which a ridge counts as solved; None: the residual decides.
        """
        scale = 2 / n * moment_norm
        return cls(moment_norm, max(rtol, atol / scale) if scale > 0 else np.inf, accuracy)

    def excess(self, error: float, predictions: Float64[np.ndarray, "rows c"]) -> float:
        """Return the relative error of predictions (or a bound on it), divided by `accuracy`.

        A ridge counts as solved if the result is at most 1. The norm is the Frobenius norm.

        Args:
            error: Bound on the Frobenius norm of the error.
            predictions: Predictions that have this error.
        """
        allowed = (self.accuracy or 1.0) * float(np.linalg.norm(predictions))
        return 0.0 if error == 0 else error / allowed if allowed > 0 else np.inf

    def missed(self, excess: float) -> str:
        """Return the text of a message about predictions whose error exceeds the accuracy by the factor `excess`."""
        return (
            f"the predictions may differ from the exact ones by {excess * self.accuracy:.1g} of their root mean "
            f"square, more than {self.accuracy:.1g}"
        )


def checked_ridges(
    ridges: Sequence[float] | np.ndarray, problem: LinearProblem, rtol: float, atol: float, max_iterations: int
) -> Float64[np.ndarray, " r"]:
    """Check the arguments of a solver's call, and return the ridges as a float64 array (r,).

    Args:
        ridges: ρ.
        problem: Problem to solve.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        max_iterations: Largest number of iterations.

    Raises:
        UserError: For ridges that are negative or not finite, for a ridge of 0 if A has more columns than rows, and for
            invalid tolerances or iterations.
    """
    ridges = np.atleast_1d(np.asarray(ridges, np.float64))
    if ridges.ndim != 1 or ridges.size == 0 or not np.isfinite(ridges).all() or (ridges < 0).any():
        raise UserError(f"Ridges must be finite numbers above 0, one at least. Received: {ridges.tolist()}.")
    if (ridges == 0).any() and problem.params > problem.rows:
        raise UserError(
            f"A ridge of 0 leaves {problem.params} parameters undetermined by {problem.rows} rows. Take one above 0."
        )
    if not (rtol >= 0 and atol >= 0 and rtol + atol > 0) or max_iterations < 1:
        raise UserError(
            "Tolerances must be at least 0, one of them above, and iterations at least 1. "
            f"Received: rtol={rtol}, atol={atol}, max_iterations={max_iterations}."
        )
    return ridges


def finite(product: np.ndarray) -> np.ndarray:
    """Return `product` unchanged. Raises `UserError` if an entry is NaN or infinite."""
    if not np.isfinite(product).all():
        raise UserError("The features or labels are not finite. Look for NaN or huge numbers in the inputs.")
    return product


class Residual(NamedTuple):
    """Predictions and residual of a solution v at one ridge, recomputed from A.

    Attributes:
        predictions: A v, (rows, columns).
        primal: AᵀY - (AᵀA + ρI)v, (p, columns); None if it was not formed.
        norm: ‖AᵀY - (AᵀA + ρI)v‖.
        error: Bound on the Frobenius norm of the error of the predictions; infinite if no bound is known.
    """

    predictions: np.ndarray
    primal: np.ndarray | None
    norm: float
    error: float


def measured(
    problem: LinearProblem, ridges: np.ndarray, values: list[np.ndarray] | None, histories: list[np.ndarray],
    tolerance: Tolerance, duals: list[np.ndarray] | None = None,
) -> list[Solution]:  # fmt: skip
    """Return a `Solution` for the v of each ridge, with residuals and predictions that are recomputed from A.

    This takes one pass over A for each batch of `ridge_batch` ridges.

    Args:
        problem: Problem that was solved.
        ridges: ρ.
        values: v for each ridge; None in the dual, where they are computed from `duals` if they are needed.
        histories: Relative residuals after each product, for each ridge.
        tolerance: Tolerance at which a ridge counts as solved.
        duals: α with v = Aᵀα for each ridge, if available; they give a tighter bound on the error of the predictions.

    Bounds on the error of the predictions: with s = AᵀY - (AᵀA + ρI)v, the error is A(AᵀA + ρI)⁻¹s. Its norm is at most
    ‖s‖/(2√ρ), because σ/(σ² + ρ) <= 1/(2√ρ) for every singular value σ of A. With α and K = A Aᵀ, the error is
    K(K + ρI)⁻¹(Y - (K + ρI)α). Its norm is at most ‖Y - (K + ρI)α‖.
    """
    values, found = residuals(problem, ridges, values, duals)
    solutions = []
    for i, residual in enumerate(found):
        solved = Solution(
            float(ridges[i]), None if values is None else values[i], True, len(histories[i]), 0.0, histories[i],
            residual.predictions, dual=None if duals is None else duals[i],
        )  # fmt: skip
        solutions.append(judged(problem, solved, residual, tolerance))
    return solutions


def judged(problem: LinearProblem, solution: Solution, residual: Residual, tolerance: Tolerance) -> Solution:
    """Return a solution with its residual, the bound on the error of its predictions, and whether it converged.

    Args:
        problem: Problem that was solved.
        solution: Solution, whose fields `converged`, `residual`, `prediction_error` and `message` are replaced.
        residual: Residual of the solution, recomputed from A.
        tolerance: Tolerance that the solution should meet.
    """
    relative = residual.norm / tolerance.moment_norm if tolerance.moment_norm > 0 else 0.0
    message = ""
    if tolerance.accuracy is None or not np.isfinite(residual.error):
        done = relative <= (SLACK32 if problem.rounding > 1e-10 else SLACK) * tolerance.relative
    else:
        excess = tolerance.excess(residual.error, residual.predictions)
        done = excess <= 1
        message = "" if done else tolerance.missed(excess)
    error = residual.error / np.sqrt(problem.n) if np.isfinite(residual.error) else None
    return solution._replace(converged=bool(done), residual=relative, prediction_error=error, message=message)


def explained(
    problem: LinearProblem, solution: Solution, tolerance: Tolerance, max_iterations: int, reason: str = ""
) -> Solution:  # fmt: skip
    """Return a solution unchanged if it converged, otherwise with the reason as its `message`.

    Args:
        problem: Problem that was solved.
        solution: Solution at one ridge.
        tolerance: Tolerance that the solution should meet.
        max_iterations: Largest number of iterations.
        reason: Reason for which the solver stopped; "": all iterations are spent, or else products are not accurate
            enough.
    """
    if solution.converged:
        return solution
    told = f"not solved to a residual of {tolerance.relative:.1g} but of {solution.residual:.1g}: "
    if solution.message:
        told = f"{solution.message}: "
    if not reason and solution.iterations >= max_iterations:
        reason = f"all {max_iterations} iterations are spent"
    kind = "float32" if problem.rounding > 1e-10 else "float64"
    reason = reason or f"the precision of {kind} products is exhausted; take a larger ridge or tolerance"
    return solution._replace(message=told + reason)


def residuals(
    problem: LinearProblem, ridges: np.ndarray, values: list[np.ndarray] | None, duals: list[np.ndarray] | None
) -> tuple[list[np.ndarray] | None, list[Residual]]:
    """Recompute the predictions and residuals of the solutions at all ridges from A.

    Args:
        problem: Problem that was solved.
        ridges: ρ.
        values: v for each ridge; None in the dual, where they are computed from `duals` if they are needed.
        duals: α with v = Aᵀα for each ridge, or None in the primal.

    Returns:
        v of every ridge (None if it was neither given nor needed), and a `Residual` for every ridge.
    """
    found: list[Residual] = []
    alone = values is None and problem.exact_gram
    if values is None and not alone:
        values = primal_values(problem, duals)
    size = ridge_batch(problem)
    for start in range(0, len(ridges), size):
        batch = slice(start, start + size)
        if alone:
            found += _from_duals(problem, ridges[batch], duals[batch])
            continue
        predictions, gradient = problem.evaluate(np.concatenate(values[batch], axis=1))
        for i, value in enumerate(values[batch]):
            mine, ridge = slice(i * problem.columns, (i + 1) * problem.columns), float(ridges[start + i])
            primal = finite(gradient[:, mine] - ridge * value)
            norm = float(np.linalg.norm(primal))
            error = problem.prediction_bound(norm, ridge)
            if duals is not None:
                missing = problem.targets - predictions[:, mine] - ridge * duals[start + i]
                error = min(error, float(np.linalg.norm(missing)))
            found.append(Residual(predictions[:, mine].copy(), primal, norm, error))
    return values, found


def _from_duals(problem: LinearProblem, ridges: np.ndarray, duals: list[np.ndarray]) -> list[Residual]:
    """Recompute the predictions A Aᵀα and the residuals at all ridges from α alone, by products with A Aᵀ in float64.

    The dual residual r = Y - (A Aᵀ + ρI)α has the primal residual Aᵀr, with ‖Aᵀr‖² = tr rᵀAAᵀr.

    Args:
        problem: Problem with an exact A Aᵀ.
        ridges: ρ.
        duals: α for each ridge.
    """
    stacked = np.concatenate(duals, axis=1)
    predictions = finite(problem.dual_product(stacked))
    missing = np.tile(problem.targets, (1, len(duals))) - predictions - np.repeat(ridges, problem.columns) * stacked
    squares = np.sum(missing * problem.dual_product(missing), axis=0)
    parts = [slice(i * problem.columns, (i + 1) * problem.columns) for i in range(len(duals))]
    return [
        Residual(predictions[:, part].copy(), None, float(np.sqrt(max(np.sum(squares[part]), 0.0))),
                 float(np.linalg.norm(missing[:, part])))
        for part in parts
    ]  # fmt: skip


def primal_values(problem: LinearProblem, duals: list[np.ndarray]) -> list[np.ndarray]:
    """Return v = Aᵀα for each α in `duals`, in float64 and in one pass over A for each batch of ridges."""
    values, size = [], ridge_batch(problem)
    for batch in (duals[i : i + size] for i in range(0, len(duals), size)):
        values += np.split(finite(problem.adjoint64(np.concatenate(batch, axis=1))), len(batch), axis=1)
    return values


def with_values(problem: LinearProblem, solutions: list[Solution]) -> list[Solution]:
    """Return the solutions, with v computed from α for those that have only α."""
    if all(solution.value is not None for solution in solutions):
        return solutions
    values = primal_values(problem, [solution.dual for solution in solutions])
    return [solution._replace(value=value) for solution, value in zip(solutions, values, strict=True)]


def ridge_batch(problem: LinearProblem) -> int:
    """Return the number of ridges in one pass over A: at least 1, with at most 512 MiB of parameters together."""
    return max(1, BATCH_BYTES // (8 * problem.columns * max(problem.params, problem.rows)))


def basis_bytes(problem: LinearProblem, block: int) -> int:
    """Estimate the size in bytes of the float64 basis that block Lanczos will need.

    The vectors have the length of the smaller side of A. Their number is estimated as 250 √block, but at most this
    length. For comparison, one label on 5,000 images took 206 steps with one column per block, and 48 steps with 21
    columns.

    Args:
        problem: Problem to solve.
        block: Number of columns of a block.
    """
    side = min(problem.rows, problem.params)
    return 8 * side * min(side, int(EXPECTED_VECTORS * block**0.5))


def basis_room(problem: LinearProblem) -> int:
    """Return the largest size in bytes of a Lanczos basis: the spare memory of the problem, or 256 MiB if larger."""
    return max(problem.spare, LEAST_BASIS)
