"""Refinement of solutions of (K + ρI)α = Y that come from a factorisation in the precision of K.

A solver computes a Cholesky factorisation, an eigendecomposition or a banded factorisation of K + ρI in the data type
of K. This module computes the true residuals of the solver's solutions in float64. If a residual misses the tolerance,
CG in float64 corrects the solution, with the factorisation as the preconditioner. If K + ρI is not positive definite in
the precision of K, the factorisation is that of a larger ridge. Each step of CG takes one product with K for all ridges
and columns together; ridges that are solved are left out.

The coefficients α of all ridges are stored in one array (n, ridges, columns), which can be reshaped for a product with
K without copying.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from linearized.base.shapes import Float64
from linearized.solvers.linear.dense_gram import DenseProblem
from linearized.solvers.linear.driver import LinearRun
from linearized.solvers.linear.lock_step import LockStep
from linearized.solvers.linear.solution import SLACK, Solution, Tolerance, finite

STALL = 50  # steps without halving the residual after which a ridge is stopped
# Smallest ridge, in units of ‖K‖ (Frobenius), for which float32 entries are accurate enough: rounding them changes K by
# at most 6e-8 ‖K‖. At a ridge of 1e-7 ‖K‖ this changes predictions by less than 5 % of the labels' root mean square,
# and in proportion to 1/ρ above. Errors of the kernel's own float32 arithmetic are not included.
STORAGE = 1e-7
FLOOR = 4.0  # smallest ridge, in units of eps ‖K‖, at which K + ρI is factorised in the dtype of K

Product = Callable[[np.ndarray], np.ndarray]
Precondition = Callable[[np.ndarray, np.ndarray], np.ndarray]


def floor(dtype: np.dtype, norm: float) -> float:
    """Return 4 eps ‖K‖, the smallest ridge ρ at which a solver factorises K + ρI.

    At this ridge K + ρI is usually positive definite in spite of rounding errors. eps is the machine precision of
    `dtype`.

    Args:
        dtype: Data type of K.
        norm: Frobenius norm ‖K‖.
    """
    return FLOOR * float(np.finfo(dtype).eps) * norm


class Refinement(NamedTuple):
    """Refinement, by CG in float64, of solutions from a factorisation of K + ρI, until their residuals are small.

    Attributes:
        problem: Problem that provides Y and the dtype of K.
        product: Function that returns K v in float64.
        norm: ‖K‖.
        precondition: Function of residuals (n, l, k) and the indices of their ridges (l,) that returns approximately
            (K + ρI)⁻¹ times the residuals, in float64.
        tolerance: Tolerance at which a ridge counts as solved.
        run: Settings of the solver's call; its `max_iterations` is the largest number of steps of CG for each ridge.
    """

    problem: DenseProblem
    product: Product
    norm: float
    precondition: Precondition
    tolerance: Tolerance
    run: LinearRun

    def solutions(self, ridges: Float64[np.ndarray, " r"], shifts: Float64[np.ndarray, " r"]) -> list[Solution]:
        """Solve (K + ρI)α = Y at every ridge, by the factorisation and, for residuals above the tolerance, by CG.

        The method takes one product with K for the true residuals. If some miss the tolerance, it takes one product per
        step of CG, and one after each run of CG. CG runs again for a ridge as long as the last run halved the residual
        and the residual still misses the tolerance.

        Args:
            ridges: ρ.
            shifts: For each ρ, the ridge at which K was factorised, which is at least ρ.
        """
        state = _State(self, ridges)
        state.measure(np.arange(len(ridges)))
        left = np.flatnonzero(state.residuals > self.tolerance.relative)
        while left.size:
            before, values, predictions = state.residuals[left], state.values[:, left], state.predictions[:, left]
            state.step_until_done(left)
            state.measure(left)
            helped = state.residuals[left] < before / 2
            state.take_back(left, before, values, predictions)
            spent = state.steps[left] >= self.run.max_iterations
            left = left[(state.residuals[left] > SLACK * self.tolerance.relative) & helped & ~spent]
        return [self._solution(state, i, float(shifts[i])) for i in range(len(ridges))]

    def _solution(self, state: "_State", i: int, shift: float) -> Solution:
        ridge, residual, steps = float(state.ridges[i]), float(state.residuals[i]), int(state.steps[i])
        done = residual <= SLACK * self.tolerance.relative
        return Solution(
            ridge, state.values[:, i].copy(), done, len(state.histories[i]), residual, np.array(state.histories[i]),
            state.predictions[:, i].copy(), self._message(ridge, residual, steps, done, shift),
            shift if shift != ridge else 0.0, steps,
        )  # fmt: skip

    def _message(self, ridge: float, residual: float, steps: int, done: bool, shift: float) -> str:
        dtype, said = self.problem.dtype, []
        if shift > max(ridge, floor(dtype, self.norm)):
            said.append(f"K + {ridge:.3g} I is not positive definite in {dtype}; K + {shift:.3g} I is")
        if not done:
            said.append(
                f"not solved to {self.tolerance.relative:.1g}: the residual is {residual:.1g} after {steps} steps of "
                f"CG with the {dtype} factor"
            )
        if dtype == np.float32 and ridge < STORAGE * self.norm:
            said.append(f"float32 does not hold K to this ridge, take one above {STORAGE * self.norm:.1g} or float64")
        elif not done:
            said.append("take a larger ridge or rtol")
        return "; ".join(said)


class _State:
    """Coefficients, predictions and residuals of all ridges during a refinement.

    Arrays of coefficients α and predictions Kα are (n, r, k) for n rows, r ridges and k columns.

    Args:
        refinement: The refinement that this object belongs to.
        ridges: ρ, (r,).
    """

    def __init__(self, refinement: Refinement, ridges: np.ndarray):
        self.of, self.ridges = refinement, ridges
        targets, everyone = refinement.problem.targets, np.arange(len(ridges))
        repeated = np.broadcast_to(targets[:, None], (len(targets), len(ridges), targets.shape[1]))
        self.values = refinement.precondition(repeated, everyone)
        self.predictions = np.empty_like(self.values)
        self.residuals = np.ones(len(ridges))
        self.steps = np.zeros(len(ridges), int)
        self.histories: list[list[float]] = [[] for _ in ridges]
        self.scale = refinement.tolerance.moment_norm or 1.0

    def measure(self, which: np.ndarray) -> None:
        """Recompute K α and the residuals ‖Y - (K + ρI)α‖/‖Y‖ of the ridges with the indices `which`."""
        self.predictions[:, which] = self._product(self.values[:, which])
        for one in np.split(which, len(which)):
            i = int(one[0])
            self.residuals[i] = np.linalg.norm(self.missing(one)) / self.scale
            if not self.histories[i]:
                self.histories[i].append(float(self.residuals[i]))

    def take_back(self, which: np.ndarray, before: np.ndarray, values: np.ndarray, predictions: np.ndarray) -> None:
        """Restore the previous solutions of those ridges whose residual has grown.

        Args:
            which: Indices of the l ridges that were refined.
            before: Previous residuals of these ridges, (l,).
            values: Previous coefficients of these ridges, (n, l, k).
            predictions: Previous predictions of these ridges, (n, l, k).
        """
        worse = ~(self.residuals[which] <= before)
        self.values[:, which[worse]], self.predictions[:, which[worse]] = values[:, worse], predictions[:, worse]
        self.residuals[which[worse]] = before[worse]

    def missing(self, which: np.ndarray) -> np.ndarray:
        """Return the residuals Y - (K + ρI)α of the l ridges with the indices `which`, (n, l, k)."""
        values, predictions = self.values[:, which], self.predictions[:, which]
        return self.of.problem.targets[:, None] - predictions - self.ridges[which, None] * values

    def step_until_done(self, which: np.ndarray) -> None:
        """Run preconditioned CG for the ridges with the indices `which`, until each is solved or stagnates.

        The right-hand sides are the residuals. A step takes one product with K for all of these ridges.
        """
        run = self.of.run
        state = LockStep(
            np.ascontiguousarray(self.missing(which).transpose(1, 0, 2)), self.ridges[which],
            self.of.tolerance.relative * self.scale, run.max_iterations - self.steps[which],
            precondition=lambda residuals, at: self._precondition(residuals, which[at]), stall=STALL,
        )  # fmt: skip
        while state.active.any():
            stepping = which[state.active]
            state.step(lambda v: finite(self.of.product(v)))
            self.steps[stepping] += 1
            self.residuals[which] = state.norms / self.scale
            run.report(int(self.steps.max()), run.max_iterations, self.residuals.copy(), int(state.active.sum()))
        self.values[:, which] += state.values.transpose(1, 0, 2)
        for i, trace in zip(which, state.trace.T, strict=True):
            self.histories[i] += (trace[~np.isnan(trace)] / self.scale).tolist()

    def _precondition(self, residuals: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return approximately (K + ρI)⁻¹ times residuals (l, n, k) at the l ridges with the indices `which`."""
        return self.of.precondition(np.ascontiguousarray(residuals.transpose(1, 0, 2)), which).transpose(1, 0, 2)

    def _product(self, v: np.ndarray) -> np.ndarray:
        return finite(self.of.product(v.reshape(len(v), -1)).reshape(v.shape))


def distinct(right: np.ndarray) -> np.ndarray:
    """Return right-hand sides (n, r, k) as (n, 1, k) if all r ridges share them, otherwise unchanged.

    They are shared if the array is broadcast over the ridges. A solver then transforms them only once.
    """
    return right[:, :1] if right.strides[1] == 0 else right


def with_traces(solution: Solution, degrees_of_freedom: float, inverse_trace: float) -> Solution:
    """Return a solution with its degrees of freedom and its generalised cross-validation error (GCV).

    Args:
        solution: The solution.
        degrees_of_freedom: tr K(K + ρI)⁻¹.
        inverse_trace: tr (K + ρI)⁻¹, from which GCV = mean‖α_i‖² / (tr(K + ρI)⁻¹/n)² is computed.
    """
    mean = float(np.mean(np.sum(solution.value**2, axis=1)))
    gcv = mean / (inverse_trace / len(solution.value)) ** 2
    return solution._replace(degrees_of_freedom=float(degrees_of_freedom), gcv=gcv)
