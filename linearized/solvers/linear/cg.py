"""Solver of least squares by conjugate gradients (CG) on (AᵀA + ρI)v = AᵀY, for all ridges ρ together.

The first pass is multi-shift CG (`linearized.solvers.linear.multi_shift`), which needs one matrix product per step for
all ridges. It runs in the primal, on the equation above, if A has at least as many rows as columns. Otherwise it runs
in the dual, on (A Aᵀ + ρI)α = Y with v = Aᵀα.

With float32 products the residual that CG updates drifts below the true residual. A pass therefore reduces residuals
only as far as these products are accurate. Then residuals are recomputed in float64, and CG restarts from the current
solutions of the ridges that miss the tolerance (iterative refinement). Restarts continue as long as they halve a
residual. The iterate with the smallest recomputed residual is kept, so that a tighter tolerance never gives a worse
solution. If a ridge cannot meet the tolerance at the precision of the products, its `message` states this.
"""

from collections.abc import Callable

import numpy as np

from linearized.base.shapes import Float64
from linearized.solvers.linear.driver import LinearRun, least_squares_solver
from linearized.solvers.linear.lock_step import LockStep
from linearized.solvers.linear.multi_shift import MultiShift
from linearized.solvers.linear.solution import (
    LinearProblem,
    Solution,
    Tolerance,
    explained,
    finite,
    measured,
    ridge_batch,
)

MARGIN = 2.0  # factor by which restarts aim below the allowed error of predictions: recomputed errors are larger
FOLLOWED = 10  # smallest reduction factor of the residual in one pass, in units of the rounding error of products


@least_squares_solver()
def solve(problem: LinearProblem, ridges: Float64[np.ndarray, " r"], run: LinearRun) -> list[Solution]:
    """Solve min ‖A v - Y‖² + ρ‖v‖², or kernel ridge regression (K + ρI)α = Y, at every ridge ρ by CG.

    Args:
        problem: A and Y, or K and Y, accessed by products alone. In a dual problem (`problem.dual`) CG runs on A Aᵀ.
        ridges: ρ, in any order.
        run: Tolerances, progress and checkpoints, see `linearized.solvers.linear.driver.LinearRun`. Iterations are
            products, including those of restarts, and progress is reported after each of them.

    Returns:
        A solution for each ridge; if it has not converged, its `message` states the reason.

    A step costs one product with AᵀA or A Aᵀ. For A of shape (rows, p) and Y of shape (rows, columns), memory is
    16 · min(rows, p) · columns bytes for each ridge.

    Raises:
        UserError: If the settings are invalid, or the features or labels are not finite.
    """
    moment = finite(problem.moment())
    tolerance = run.tolerance(float(np.linalg.norm(moment)), problem.n)
    passes = _Passes(problem, tolerance, run)
    values, histories = passes.shifted(moment, ridges, "cg")
    values, duals = (None, values) if problem.dual else (values, None)
    return passes.polished(measured(problem, ridges, values, histories, tolerance, duals), duals)


def polish(
    problem: LinearProblem, solutions: list[Solution], tolerance: Tolerance, run: LinearRun,
    duals: list[np.ndarray] | None = None, precondition: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> list[Solution]:  # fmt: skip
    """Improve the solutions of another solver that miss the tolerance, by CG on their recomputed residuals.

    Each product is computed for all of these solutions together.

    Args:
        problem: Problem that was solved.
        solutions: Solutions of any solver, one per ridge.
        tolerance: Tolerance at which a ridge counts as solved.
        run: Settings of the solver's call.
        duals: α with v = Aᵀα for each solution, to continue in the dual; None continues in the primal.
        precondition: In the primal, a function of residuals (l, p, c) and their ridges (l,) that returns approximately
            (AᵀA + ρI)⁻¹ times the residuals; None: no preconditioner.

    For A of shape (rows, p), the vectors of CG take 24 · p · columns bytes per solution in the primal, and
    32 · rows · columns bytes in the dual. `ridge_batch` returns the number of solutions that are processed together.
    """
    return _Passes(problem, tolerance, run, precondition).polished(solutions, duals)


class _Passes:
    """Successive runs of CG on one problem, each from the previous solutions, in one call of `solve` or `polish`.

    Args:
        problem: Problem to solve.
        tolerance: Tolerance at which a ridge counts as solved.
        run: Settings of the solver's call.
        precondition: Preconditioner as for `polish`; None: no preconditioner.
    """

    def __init__(
        self, problem: LinearProblem, tolerance: Tolerance, run: LinearRun,
        precondition: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ):  # fmt: skip
        self.problem, self.tolerance, self.settings, self.precondition = problem, tolerance, run, precondition
        self.max_iterations = run.max_iterations

    def polished(self, solutions: list[Solution], duals: list[np.ndarray] | None) -> list[Solution]:
        """Restart CG for unconverged ridges, while iterations are left and the last restart halved the residual.

        Args:
            solutions: Solutions, one per ridge.
            duals: α of each solution, to continue in the dual; None continues in the primal.

        Returns:
            For each ridge the solution with the smallest recomputed residual.
        """
        solutions, duals = list(solutions), list(duals or [])
        size, attempt = ridge_batch(self.problem), 0
        missing = [i for i, solution in enumerate(solutions) if self._may_go_on(solution)]
        while missing:
            left = []
            for start in range(0, len(missing), size):
                batch = missing[start : start + size]
                alphas = [duals[i] for i in batch] if duals else None
                better, alphas = self.restarted([solutions[i] for i in batch], alphas, f"cg-{attempt}-{batch[0]}")
                for place, (i, new) in enumerate(zip(batch, better, strict=True)):
                    halved = new.residual <= solutions[i].residual / 2
                    if new.residual < solutions[i].residual:
                        solutions[i] = new
                        if alphas:
                            duals[i] = alphas[place]
                    else:  # keep the better iterate, but count the products that were spent
                        solutions[i] = solutions[i]._replace(iterations=new.iterations, history=new.history)
                    if halved and self._may_go_on(new):
                        left.append(i)
            missing, attempt = left, attempt + 1
        return [explained(self.problem, one, self.tolerance, self.max_iterations) for one in solutions]

    def _may_go_on(self, solution: Solution) -> bool:
        return not solution.converged and solution.iterations < self.max_iterations

    def restarted(
        self, solutions: list[Solution], duals: list[np.ndarray] | None, name: str
    ) -> tuple[list[Solution], list[np.ndarray] | None]:
        """Run CG once for all solutions together, from their recomputed residuals.

        Args:
            solutions: Solutions to continue from, one per ridge.
            duals: α of each solution, to continue in the dual; None continues in the primal.
            name: Name of the checkpoint.

        Returns:
            The new solutions, and the new α of each of them (None in the primal).
        """
        ridges = np.array([solution.ridge for solution in solutions])
        spent = np.array([solution.iterations for solution in solutions])
        norms = np.array([solution.residual for solution in solutions]) * self._scale
        if duals is None:
            _, gradient = self.problem.evaluate(np.concatenate([solution.value for solution in solutions], axis=1))
            parts = np.split(gradient, len(solutions), axis=1)
            residuals = np.stack([part - one.ridge * one.value for part, one in zip(parts, solutions, strict=True)])
        else:
            residuals = np.stack(
                [
                    self.problem.targets - one.predictions - one.ridge * alpha
                    for one, alpha in zip(solutions, duals, strict=True)
                ]
            )
        limits = self._limits(solutions, norms)
        own = self.precondition
        state = LockStep(
            residuals, ridges, limits, self.max_iterations - spent, None if duals is None else norms,
            precondition=None if own is None else lambda here, at: own(here, ridges[at]),
        )  # fmt: skip
        self.run(state, name, ridges, int(spent.max()))
        histories = [
            np.concatenate([solution.history, trace[~np.isnan(trace)] / self._scale])
            for solution, trace in zip(solutions, state.trace.T, strict=True)
        ]
        if duals is None:
            values = [solution.value + step for solution, step in zip(solutions, state.values, strict=True)]
        else:
            duals = [alpha + step for alpha, step in zip(duals, state.values, strict=True)]
            values = None
        return measured(self.problem, ridges, values, histories, self.tolerance, duals), duals

    def shifted(self, moment: np.ndarray, ridges: np.ndarray, name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Run multi-shift CG, in which all ridges share one Krylov space, from v = 0.

        Args:
            moment: AᵀY, the right-hand side in the primal.
            ridges: ρ.
            name: Name of the checkpoint.

        Returns:
            v of each ridge (α in the dual), and the relative residuals of each ridge after each product.
        """
        norm = self.tolerance.moment_norm
        b, primal_norm = (self.problem.targets, norm) if self.problem.dual else (moment, None)
        state = MultiShift(b, ridges, float(self._limit(norm)), self.max_iterations, primal_norm)
        self.run(state, name, ridges)
        return list(state.values), [trace[~np.isnan(trace)] / self._scale for trace in state.trace.T]

    def run(self, state: MultiShift | LockStep, name: str, ridges: np.ndarray, spent: int = 0) -> None:
        """Perform steps of CG until every ridge is solved, report the progress, and write checkpoints.

        Args:
            state: Multi-shift or lock-step CG, updated in place.
            name: Name of the checkpoint. If it exists, it is restored first.
            ridges: ρ, part of the identity of the checkpoint.
            spent: Number of products of earlier passes, for the progress.
        """
        product = self.problem.dual_product if state.dual else self.problem.primal_product
        saved = self.settings.checkpoint(shape=state.values.shape, ridges=ridges.tolist(), relative=self._relative)
        state.restore(saved.load(name))
        while state.active.any():
            state.step(lambda v: finite(product(v)))
            self.settings.report(
                state.iteration + spent, self.max_iterations, state.norms / self._scale, int(state.active.sum())
            )
            if saved.due:
                saved.save(name, state.arrays())
        saved.save(name, state.arrays())

    def _limit(self, norms: float | np.ndarray) -> float | np.ndarray:
        """Return the norm of the primal residual at which a run of CG ends.

        This is the larger of two numbers: the tolerance of the relative residual times ‖AᵀY‖, and 10 times the relative
        rounding error of products times the initial norm. Below the second number the residual that CG updates is not
        accurate.

        Args:
            norms: Initial norm ‖AᵀY - (AᵀA + ρI)v‖ of the run, for one or for several ridges.
        """
        return np.maximum(self._relative * self._scale, FOLLOWED * self.problem.rounding * np.asarray(norms))

    def _limits(self, solutions: list[Solution], norms: np.ndarray) -> np.ndarray:
        """Return the norm of the primal residual at which a restart of CG ends, for each solution.

        If no largest error of the predictions was requested (`Tolerance.accuracy` is None), these are the norms from
        `_limit`. Otherwise let q be the bound on the relative error of the predictions, divided by half of the
        requested relative error. The limit is then norm / max(q, 1), but at least 10 times the relative rounding error
        of products times the norm.

        Args:
            solutions: Solutions to continue from.
            norms: Norms ‖AᵀY - (AᵀA + ρI)v‖ of the residuals of these solutions.
        """
        if self.tolerance.accuracy is None:
            return self._limit(norms)
        errors = [np.sqrt(self.problem.n) * (one.prediction_error or 0.0) for one in solutions]
        excess = [self.tolerance.excess(error, one.predictions)
                  for error, one in zip(errors, solutions, strict=True)]  # fmt: skip
        return np.maximum(1 / np.maximum(MARGIN * np.array(excess), 1), FOLLOWED * self.problem.rounding) * norms

    @property
    def _scale(self) -> float:
        return self.tolerance.moment_norm or 1.0

    @property
    def _relative(self) -> float:
        return self.tolerance.relative if self.tolerance.moment_norm > 0 else 0.0
