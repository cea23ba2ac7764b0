"""Common arguments of all linear solvers: tolerances, limits, progress and checkpoints.

A solver's module defines its algorithm as a function of (problem, ridges, run) and decorates it:

    @linear_solver()
    def solve(problem, ridges, run): ...

The decorated function is called as `solve(problem, ridges, rtol=..., progress=..., checkpoint=..., ...)`, and the
algorithm receives these arguments as `run`, a `LinearRun`. Further keyword arguments are options of the algorithm.
Solvers of least squares use the decorator `least_squares_solver`, which adds the arguments `accuracy` and `values`.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.linear.solution import (
    ATOL,
    MAX_ITERATIONS,
    RTOL,
    LinearProblem,
    Progress,
    Solution,
    Tolerance,
    checked_ridges,
    with_values,
)

INTERVAL = 60.0  # seconds between checkpoints

Algorithm = Callable[..., list[Solution]]  # of (problem, ridges, run) and options of its own


class TimedCheckpoint(Checkpoint):
    """A `Checkpoint` with a timer; it stores named sets of arrays ("states") in a folder.

    Args:
        folder: Folder of the states; None stores nothing.
        interval: Seconds after which `due` becomes true.
        identity: Values that identify the run. A state that was stored with other values is not read.
    """

    def __init__(self, folder: Path | None, interval: float, **identity: Any):
        super().__init__(folder, **identity)
        self.interval, self.written = interval, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether `interval` seconds have passed since the last call of `save`, or since the start."""
        return time.monotonic() - self.written >= self.interval

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write `arrays` to the file NAME.npz, replacing a previous state of that name, and restart the timer."""
        super().save(name, arrays)
        self.written = time.monotonic()


@dataclasses.dataclass(frozen=True)
class Watch:
    """Arguments for progress and checkpoints, which every linear solver has in addition to its tolerances.

    Pass them to a solver with `solve(problem, ridges, **vars(watch))`.

    Attributes:
        progress: Function called with (step, steps, residual of each ridge, ridges left); None reports nothing.
        checkpoint: Folder of the states from which a killed run continues; None stores nothing. The caller removes the
            folder.
        key: Identity of the run that the states belong to, such as the fingerprint of data and settings.
        interval: Seconds between states.
    """

    progress: Progress | None = None
    checkpoint: Path | None = None
    key: str = ""
    interval: float = INTERVAL


UNWATCHED = Watch()


@dataclasses.dataclass(frozen=True)
class LinearRun:
    """Settings of one call of a linear solver: tolerances, limits, progress and checkpoints.

    Attributes:
        rtol: Relative tolerance. A ridge counts as solved when ‖b - Hv‖ <= max(rtol ‖b‖, atol), where H v = b are the
            normal equations multiplied by 2/n (see `linearized.solvers.linear.solution`).
        atol: Absolute tolerance, see `rtol`.
        max_iterations: Largest number of iterations for each ridge; the solver defines what an iteration is.
        progress: Function called with (step, steps, residual of each ridge, ridges left); None reports nothing.
        folder: Folder of the checkpoints, from which a killed run continues; None stores nothing. The caller removes
            the folder.
        key: Identity of the run that the checkpoints belong to, such as the fingerprint of data and settings.
        interval: Seconds between checkpoints.
        accuracy: Largest error of the train predictions, relative to the norm of the predictions, at which a ridge
            counts as solved; None: `rtol` and `atol` decide.
    """

    rtol: float = RTOL
    atol: float = ATOL
    max_iterations: int = MAX_ITERATIONS
    progress: Progress | None = None
    folder: Path | None = None
    key: str = ""
    interval: float = INTERVAL
    accuracy: float | None = None

    def tolerance(self, moment_norm: float, n: int) -> Tolerance:
        """Return the tolerance at which a ridge counts as solved, as a relative residual of the given problem.

        Args:
            moment_norm: Norm of the right-hand side, ‖Aᵀy‖.
            n: Number of train rows.
        """
        return Tolerance.of(moment_norm, n, self.rtol, self.atol, self.accuracy)

    def checkpoint(self, **identity: Any) -> TimedCheckpoint:
        """Return a checkpoint in the folder of this run, which saves and restores the arrays of a solver.

        The checkpoint uses the interval of this run. It reads only arrays that were stored with the same `key` and
        `identity`.

        Args:
            identity: Values, such as sizes and ridges, that determine whether stored arrays are valid.
        """
        return TimedCheckpoint(self.folder, self.interval, key=self.key, **identity)

    def report(self, step: int, steps: int, residuals: np.ndarray, left: int) -> None:
        """Call the function `progress` of this run, if it is not None.

        Args:
            step: Number of steps done.
            steps: Largest number of steps.
            residuals: Relative residual of each ridge.
            left: Number of ridges that are not solved.
        """
        if self.progress is not None:
            self.progress(step, steps, residuals, left)


def linear_solver(interval: float = INTERVAL) -> Callable[[Algorithm], Callable[..., list[Solution]]]:
    """Return a decorator that makes a solver from an algorithm, a function of (problem, ridges, run).

    The solver's keyword arguments are the fields of `LinearRun` except `accuracy`; the field `folder` is the argument
    `checkpoint`. The solver checks the arguments and the ridges, and calls the algorithm with a `LinearRun`.

    Args:
        interval: Default number of seconds between checkpoints.
    """

    def decorate(algorithm: Algorithm) -> Callable[..., list[Solution]]:
        def solve(
            problem: LinearProblem, ridges: Sequence[float] | np.ndarray, *, rtol: float = RTOL, atol: float = ATOL,
            max_iterations: int = MAX_ITERATIONS, progress: Progress | None = None, checkpoint: Path | None = None,
            key: str = "", interval: float = interval, **options: Any,
        ) -> list[Solution]:  # fmt: skip
            ridges = checked_ridges(ridges, problem, rtol, atol, max_iterations)
            run = LinearRun(rtol, atol, max_iterations, progress, checkpoint, key, interval)
            return algorithm(problem, ridges, run, **options)

        solve.__doc__, solve.__module__, solve.__qualname__ = algorithm.__doc__, algorithm.__module__, "solve"
        return solve

    return decorate


def least_squares_solver(interval: float = INTERVAL) -> Callable[[Algorithm], Callable[..., list[Solution]]]:
    """Return a decorator that makes a solver of least squares from an algorithm, like `linear_solver`.

    The solver has two further keyword arguments:

        accuracy: Largest error of the train predictions, relative to the norm of the predictions, at which a ridge
            counts as solved; above 0 and below 1. None: `rtol` and `atol` decide.
        values: Whether the parameters v are returned. If False, a solver that works with A Aᵀ in float64 returns only α
            with v = Aᵀα, as `Solution.dual`.

    Args:
        interval: Default number of seconds between checkpoints.
    """

    def decorate(algorithm: Algorithm) -> Callable[..., list[Solution]]:
        def solve(
            problem: LinearProblem, ridges: Sequence[float] | np.ndarray, *, rtol: float = RTOL, atol: float = ATOL,
            max_iterations: int = MAX_ITERATIONS, progress: Progress | None = None, checkpoint: Path | None = None,
            key: str = "", interval: float = interval, accuracy: float | None = None, values: bool = True,
        ) -> list[Solution]:  # fmt: skip
            ridges = checked_ridges(ridges, problem, rtol, atol, max_iterations)
            if accuracy is not None and not 0 < accuracy < 1:
                raise UserError(f"The accuracy of predictions must be above 0 and below 1. Received: {accuracy}.")
            if accuracy is not None and not hasattr(problem, "exact_gram"):
                raise UserError(f"An accuracy is for least squares. Received: a {type(problem).__name__}. Give rtol.")
            run = LinearRun(rtol, atol, max_iterations, progress, checkpoint, key, interval, accuracy)
            solutions = algorithm(problem, ridges, run)
            return with_values(problem, solutions) if values else solutions

        solve.__doc__, solve.__module__, solve.__qualname__ = algorithm.__doc__, algorithm.__module__, "solve"
        return solve

    return decorate
