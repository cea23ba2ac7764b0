"""Choice of the solver of a least-squares problem, and of what is kept in memory, by the estimated time.

Two methods are compared for a problem with the feature matrix A. The solver "band" forms the smaller of A Aᵀ and AᵀA,
reduces it to a band matrix once, and factors the band matrix for every ridge (`linearized.solvers.linear.formed`). The
other method is a Krylov method, which only multiplies by A; `linearized.solvers.auto` selects one. The mode of a
problem states what stays in memory between products: the features, nothing or the Gram matrix. The time of each method
is estimated in every mode whose arrays fit in the memory budget, from numbers of operations and the rates of this
machine (`linearized.solvers.rates`).

The number of operations of "band" is known in advance, except for the number of small ridges at which the solution by a
float32 factor must be refined. The number of operations of a Krylov method depends on the data. For matrices of the
same size, the measured numbers of steps to a relative error of 1e-3 of the predictions differ by a factor of two
between images and independent Gaussian coordinates.
"""

import math
from typing import NamedTuple

import numpy as np
from absl import logging

from linearized.base.shapes import Float64
from linearized.problems.least_squares import LeastSquares, ProblemWork
from linearized.solvers import auto
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.linear.solution import RTOL, ridge_batch
from linearized.solvers.rates import Rates, machine_rates

# Steps of block Lanczos with b columns fall as b^-BLOCK_POWER: measured on Fashion-MNIST, n = 500 to 2,000, b <= 32.
BLOCK_POWER = 0.43
# Steps in the primal for each in the dual, where a bound on the error of the predictions replaces the error: measured
# 1.4 for n = 4p, 1.7 for n = 2p and 2.5 for n = 1.2p.
PRIMAL = 1.7
SINGLE_VECTOR = 3  # steps of CG for each of block Lanczos: measured 4.7 to 14, and 2.8 at n = 5,000; a low value
# Ridges below this fraction of eps tr(AᵀA)/tolerance need a step of refinement after a float32 factor: measured for RF,
# n = 1,000 and 2,000. NT needs fewer.
REFINED = 1e-2
CONVERTED = 12  # float32 numbers that are read in the time to write, change and read a float64 number of a large tile
ERROR = 1e-3  # of the predictions, to which the steps of Krylov methods are counted
EPS = float(np.finfo(np.float32).eps)
CHECKPOINT = "choice"


class Estimate(NamedTuple):
    """Estimated time of one solver in one mode of a least-squares problem.

    Attributes:
        solver: Name of the solver.
        mode: What stays in memory between products: "kept" (the features), "recomputed" (nothing) or "gram".
        seconds: Estimated seconds.
    """

    solver: str
    mode: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.solver} with features {self.mode}, {self.seconds:.2g} s"


class SolverChoice(NamedTuple):
    """The solver that was chosen for a least-squares problem, and the reason.

    Attributes:
        solver: Name of the solver.
        mode: What stays in memory between products: "kept" (the features), "recomputed" (nothing) or "gram".
        reason: Reason for the choice, in one line.
        estimates: Estimates that were compared, the fastest first.
    """

    solver: str
    mode: str
    reason: str
    estimates: tuple[Estimate, ...] = ()


def choose(
    problem: LeastSquares, ridges: Float64[np.ndarray, " r"], asked: str = "auto", *, rtol: float = RTOL,
    max_iterations: int = 750, saved: Checkpoint | None = None, rates: Rates | None = None,
) -> SolverChoice:  # fmt: skip
    """Choose the solver and the mode with the least estimated time, and set the problem to this mode.

    A mode states what stays in memory between products. There are no estimates for a problem without `work`, such as a
    Jacobian or features on an accelerator. The Krylov method that `linearized.solvers.auto` selects is then chosen, and
    the mode is not changed.

    Args:
        problem: Problem before its first product.
        ridges: ρ of the grid.
        asked: The solver's name if the user gave one, otherwise "auto". For "band" only the mode is chosen. For other
            names neither the solver nor the mode is chosen.
        rtol: Relative tolerance of the solver.
        max_iterations: Largest number of the solver's steps.
        saved: Checkpoint in which the choice is stored. A run that continues after it was killed therefore has the same
            solver, even if free memory or measured rates have changed. A stored choice that no longer fits in the
            memory is not used.
        rates: Rates of the machine; None measures them or reads the stored ones.
    """
    if asked not in ("auto", "band") or problem.work is None:
        name, reason = auto(problem, len(ridges)) if asked == "auto" else (asked, "as asked")
        return SolverChoice(name, problem.mode, reason)
    found = estimates(problem, ridges, rates or machine_rates(), rtol, max_iterations)
    allowed = [estimate for estimate in found if asked in ("auto", estimate.solver)]
    if not allowed:
        return SolverChoice(asked, problem.mode, "as asked")
    best = _saved(saved, allowed) or allowed[0]
    problem.set_mode(best.mode)
    if saved is not None:
        saved.save(CHECKPOINT, {"solver": np.array(best.solver), "mode": np.array(best.mode)})
    if asked != "auto":
        return SolverChoice(best.solver, best.mode, "as asked", tuple(allowed))
    next_best = next((estimate for estimate in allowed if estimate.solver != best.solver), None)
    instead = "no other method fits in the memory" if next_best is None else f"next {next_best}"
    return SolverChoice(best.solver, best.mode, f"estimated: {best}; {instead}", tuple(allowed))


def estimates(
    problem: LeastSquares, ridges: Float64[np.ndarray, " r"], rates: Rates, rtol: float, max_iterations: int
) -> list[Estimate]:
    """Return the estimates of all methods in all modes that fit in the problem's memory, the fastest first.

    A mode states what stays in memory between products. Krylov methods that are expected to need more than
    `max_iterations` steps come last, because they would not reach the accuracy. The mode of the problem is not changed.

    Args:
        problem: Problem before its first product.
        ridges: ρ of the grid.
        rates: Rates of the machine.
        rtol: Relative tolerance of the solver.
        max_iterations: Largest number of the solver's steps.
    """
    work, before = problem.work, problem.mode
    fitting = [mode for mode, needed in work.modes.items() if needed <= problem.memory] or [before]
    needed, trace = problem.formed_bytes, problem.n * problem.mean_trace()
    found: list[Estimate] = []
    short: list[Estimate] = []
    for mode in fitting:
        problem.set_mode(mode)
        if math.isfinite(work.squared) and needed <= (problem.memory if mode == "gram" else problem.spare):
            found.append(Estimate("band", mode, formed_seconds(problem, work, ridges, rates, rtol, trace)))
        name, _ = auto(problem, len(ridges))
        steps = _steps(problem, work, ridges, name, trace)
        seconds = krylov_seconds(problem, work, len(ridges), rates, min(steps, max_iterations), name)
        (found if steps <= max_iterations else short).append(Estimate(name, mode, seconds))
    problem.set_mode(before)
    return [one for group in (found, short) for one in sorted(group, key=lambda estimate: estimate.seconds)]


def formed_seconds(
    problem: LeastSquares, work: ProblemWork, ridges: Float64[np.ndarray, " r"], rates: Rates, rtol: float, trace: float
) -> float:  # fmt: skip
    """Return the estimated seconds of the solver "band", which forms the Gram matrix, in the problem's present mode.

    The mode states what stays in memory between products.

    Args:
        problem: Problem to solve.
        work: Numbers of operations of the problem.
        ridges: ρ of the grid.
        rates: Rates of the machine.
        rtol: Relative tolerance of the solver. Solutions at ridges whose float32 factor does not reach it are refined.
        trace: tr AᵀA.
    """
    side, columns = _side(problem), problem.columns * len(ridges)
    passes = 1 + (0 if problem.dual else 1)  # to form the matrix, and for AᵀY in the primal
    numbers, part = side**2 / work.parts, side / work.parts
    matrix = _forming(work, rates) + numbers * (rates.reduced + part * rates.reduction)
    refined = int(np.sum(ridges < REFINED * EPS * trace / max(rtol, EPS)))
    matrix += side * (len(ridges) + refined) * rates.factor
    # Reflections forwards (once for all ridges at first) and backwards, and products for the residuals.
    reflections = 4 * (columns + (1 + 2 * refined) * problem.columns)
    matrix += numbers * (reflections * rates.single + (columns + 2 * refined * problem.columns) * rates.double)
    making = _making(problem, work, rates, passes, 0 if work.precise else len(ridges))
    return making + matrix + _ending(problem, work, rates, columns, formed=work.precise)


def krylov_seconds(
    problem: LeastSquares, work: ProblemWork, ridges: int, rates: Rates, steps: int, name: str
) -> float:  # fmt: skip
    """Return the estimated seconds of `steps` steps of block Lanczos or CG in the problem's present mode.

    The mode states what stays in memory between products.

    Args:
        problem: Problem to solve.
        work: Numbers of operations of the problem.
        ridges: Number of ridges.
        rates: Rates of the machine.
        steps: Number of steps.
        name: "lanczos" or "cg".
    """
    side, columns = _side(problem), problem.columns * ridges
    block = problem.block if name == "lanczos" else problem.columns
    formed = problem.mode == "gram"
    if formed:  # one product, of numbers of twice the size
        passes, product, begun = 1, side**2 / work.parts * (rates.read + rates.column * block), _forming(work, rates)
    else:
        passes, begun = steps, 0.0
        product = work.entries * work.use * rates.single
        if work.narrow:
            product += work.entries * (rates.read + rates.column * block)
    if name == "lanczos":  # two products with the basis, twice in a step, in float64, and two QR factors of the block
        vectors = 2 * side * block * steps**2 * (rates.read + rates.column * block)
        vectors += steps * (rates.step + side * block * rates.turned)
    else:
        vectors = 4 * side * columns * steps * rates.double
    formed = formed and work.precise
    making = _making(problem, work, rates, passes + (0 if problem.dual else 1), 0 if formed else ridges)
    return making + begun + steps * product + vectors + _ending(problem, work, rates, columns, formed=formed)


def _forming(work: ProblemWork, rates: Rates) -> float:
    return work.entries * work.squared / 2 * (rates.double if work.precise else rates.square)


def _making(problem: LeastSquares, work: ProblemWork, rates: Rates, passes: int, ridges: int) -> float:
    """Return the estimated seconds of computing the features A: once if they are kept in memory, else in every pass.

    Args:
        problem: Problem to solve.
        work: Numbers of operations of the problem.
        rates: Rates of the machine.
        passes: Number of passes over A, without those at the end for predictions and residuals.
        ridges: Number of ridges whose predictions and residuals are computed by passes over A at the end.
    """
    batches = -(-ridges // ridge_batch(problem))
    times = 1 if problem.kept else passes + batches * (2 if problem.dual else 1)
    return times * work.entries * work.make * rates.single


def _ending(problem: LeastSquares, work: ProblemWork, rates: Rates, columns: int, *, formed: bool) -> float:
    """Return the estimated seconds of the final passes over the features A, which are in float64.

    They compute predictions, residuals and, in the dual, v = Aᵀα.

    Args:
        problem: Problem to solve.
        work: Numbers of operations of the problem.
        rates: Rates of the machine.
        columns: Number of columns of the solutions at all ridges together.
        formed: Whether A Aᵀ is in memory in float64. The final passes are then two products with A Aᵀ, and v is not
            computed.
    """
    if formed:
        return 2 * _side(problem) ** 2 / work.parts * columns * rates.double
    products = 3 if problem.dual else 2
    each = rates.double if work.narrow else work.use / 2 * rates.double + CONVERTED * rates.read
    return products * work.entries * (columns * each + rates.read)


def _steps(problem: LeastSquares, work: ProblemWork, ridges: np.ndarray, name: str, trace: float) -> int:
    """Return the expected number of solver steps until the predictions have a relative error of about 1e-3.

    It is the smallest of three numbers:

    - the number of steps that such problems usually take (`ProblemWork.steps`),
    - the number of steps after which the Krylov space is the whole space,
    - the bound ½ √κ ln(2/ε) for CG, with the condition number κ at the smallest ridge and ε = `ERROR`.

    For CG the result is multiplied by `SINGLE_VECTOR`, because CG takes more steps than block Lanczos.

    Args:
        problem: Problem to solve.
        work: Numbers of operations of the problem.
        ridges: ρ of the grid.
        name: "lanczos" or "cg".
        trace: tr AᵀA.
    """
    side, block, least = _side(problem), problem.block, float(np.min(ridges))
    condition = 1 + trace / least if least > 0 else math.inf
    bound = math.sqrt(condition) / 2 * math.log(2 / ERROR)
    usual = work.steps * (1 if problem.dual else PRIMAL) * side**0.5 / block**BLOCK_POWER
    steps = min(usual, side / block, bound)
    return max(1, math.ceil((SINGLE_VECTOR if name == "cg" else 1) * steps))


def _side(problem: LeastSquares) -> int:
    return min(problem.rows, problem.params)


def _saved(saved: Checkpoint | None, allowed: list[Estimate]) -> Estimate | None:
    """Return the estimate of the choice that an earlier process saved; None if there is none or it no longer fits.

    Args:
        saved: Checkpoint in which the choice is stored; None: no choice was saved.
        allowed: Estimates of the methods that fit in the memory now.
    """
    stored = None if saved is None else saved.load(CHECKPOINT)
    if stored is None or not {"solver", "mode"} <= set(stored):
        return None
    names = str(stored["solver"]), str(stored["mode"])
    found = next((estimate for estimate in allowed if (estimate.solver, estimate.mode) == names), None)
    if found is None:
        logging.info("The run began by %s with features %s, which does not fit in the memory now.", *names)
    return found
