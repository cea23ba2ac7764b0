"""Kernel ridge regression as a library call: (K + ρI)α = Y for a whole path of ridges, prepared once."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from jaxtyping import Float, Float64

from data.errors import UserError
from data.gram import Gram, Rectangle
from linearized.problems.gram import GramProblem
from linearized.solvers import GRAM_SOLVERS, auto_gram
from linearized.solvers.solution import Progress, Solution

MAX_ITERATIONS = 2000
ROWS = 1024  # of a matrix that are widened to float64 together
REFINED = ("band", "cholesky", "eigh")  # solvers whose answers are refined in float64 where K is in float32


@dataclasses.dataclass(frozen=True)
class RidgePath:
    """Kernel ridge regression at every ridge, in the order asked for.

    Attributes:
        ridges: ρ of (K + ρI)α = Y.
        alpha: Dual coefficients.
        solutions: The evidence a ridge, see `linearized.solvers.solution.Solution`; a ridge that could not be solved
            says so in `message` and `converged`, and may hold NaN.
        solver, reason: Which solver, and why it was taken.
        rtol: The residual ‖Y - (K + ρI)α‖/‖Y‖ that was asked of it.
    """

    ridges: Float64[np.ndarray, " ridges"]
    alpha: Float64[np.ndarray, "ridges n k"]
    solutions: list[Solution]
    solver: str
    reason: str
    rtol: float

    def predict(self, gram_test: np.ndarray | Gram | Rectangle) -> Float64[np.ndarray, "ridges m k"]:
        """K(test, train)α for every ridge, from a matrix (m, n) or shards, in one pass over it.

        Products are made in float64, since α of a small ridge is large and cancels; over all ridges at once.
        """
        ridges, n, k = self.alpha.shape
        if len(gram_test.shape) != 2 or gram_test.shape[1] != n:
            raise UserError(f"K(test, train) must have a column for each of {n} rows. Received: {gram_test.shape}.")
        stacked = self.alpha.transpose(1, 0, 2).reshape(n, ridges * k)
        if isinstance(gram_test, Gram | Rectangle):
            values = gram_test @ stacked
        else:
            blocks = [gram_test[start : start + ROWS] for start in range(0, len(gram_test), ROWS)]
            values = np.concatenate([block @ stacked for block in blocks or [gram_test]])
        return np.ascontiguousarray(values.reshape(-1, ridges, k).transpose(1, 0, 2))


def fit(
    gram: np.ndarray | Gram, y: np.ndarray, ridges: Sequence[float] | np.ndarray, *, solver: str = "auto",
    rtol: float | None = None, max_iterations: int = MAX_ITERATIONS, memory: float | None = None, scheduler: str = "",
    overwrite: bool = False, progress: Progress | None = None, checkpoint: Path | None = None, key: str = "",
    interval: float = 30.0,
) -> RidgePath:  # fmt: skip
    """Solves (K + ρI)α = y at every ridge ρ.

    Args:
        gram: K (n, n), symmetric and positive semi-definite: an array, or shards that `data.open_gram` gave, which may
            be larger than memory. It is not changed, unless `overwrite`.
        y: Labels (n,) or (n, k), finite; centre them as you wish, nothing is added here.
        ridges: ρ, at least 0, in any order; not divided by n.
        solver: auto, band, block_lanczos, cg, cholesky or eigh (which gives leave-one-out errors); see README.
        rtol: The residual ‖y - (K + ρI)α‖/‖y‖ to reach. None: 1e-7 where K is in float64 or answers are refined in
            float64, else (block_lanczos and cg on float32) 1e-5, since every digit costs passes over K.
        max_iterations: Products with K that block_lanczos and cg may take.
        memory: Bytes to work with; None: half of what is free.
        scheduler: Address of a Dask scheduler on whose workers products run (block_lanczos and cg, shards alone).
        overwrite: band and cholesky may work in the array `gram` itself; its upper triangle is lost then, and the
            whole takes n² numbers less. Shards are never changed.
        progress: Called with (step, steps, residuals, ridges left).
        checkpoint, key, interval: A folder for the state of a long run, its identity, and the seconds between writings.

    Raises `UserError` for what no solver can work with. A ridge that one cannot solve is told in its `Solution`.
    """
    targets, ridges = checked_labels(y), checked_path(ridges)
    gram = gram if isinstance(gram, Gram) else checked_gram(gram)
    if gram.shape != (len(targets), len(targets)):
        raise UserError(f"K must be of the {len(targets)} labels' size. Received: shape {gram.shape}.")
    memory = psutil.virtual_memory().available // 2 if memory is None else int(memory)
    n, itemsize = len(targets), gram.dtype.itemsize
    name, reason = GRAM_SOLVERS.canonical(solver) if solver != "auto" else "", "as asked"
    if scheduler and name not in ("", "block_lanczos", "cg"):
        raise UserError(f"--solver={name} runs in one process. With --scheduler take block_lanczos or cg.")
    if not name:
        name, reason = auto_gram(n, itemsize, len(ridges), memory, distributed=bool(scheduler))
    if rtol is None:
        rtol = 1e-7 if itemsize == 8 or name in REFINED else 1e-5
    with _problem(gram, targets, memory, scheduler, overwrite) as problem:
        solutions = GRAM_SOLVERS.load(name).solve(
            problem, ridges, rtol=float(rtol), atol=0.0, max_iterations=max_iterations, progress=progress,
            checkpoint=checkpoint, key=key, interval=interval,
        )  # fmt: skip
    alpha = np.stack([solution.value for solution in solutions])
    return RidgePath(ridges, alpha, solutions, name, reason, float(rtol))


@contextlib.contextmanager
def _problem(
    gram: np.ndarray | Gram, targets: np.ndarray, memory: int, scheduler: str, overwrite: bool
) -> Iterator[GramProblem]:
    """The problem, with its products here or on a scheduler's workers."""
    if not scheduler:
        yield GramProblem(gram, targets, memory=memory, overwrite=overwrite)
        return
    from linearized.problems.dask_gram import DaskGramProblem

    with contextlib.closing(DaskGramProblem(gram, targets, scheduler=scheduler, memory=memory)) as problem:
        yield problem


def checked_labels(y: np.ndarray) -> Float64[np.ndarray, "n k"]:
    """Labels as (n, k) in float64. Raises `UserError` if they are not finite or have more outputs than rows."""
    targets = np.asarray(y, np.float64)
    targets = targets[:, None] if targets.ndim == 1 else targets
    if targets.ndim != 2 or not targets.size:
        raise UserError(f"Labels must be (n,) or (n, k), with a row at least. Received: shape {np.shape(y)}.")
    if not np.isfinite(targets).all():
        raise UserError(f"The labels are not finite: {np.sum(~np.isfinite(targets))} of {targets.size} entries.")
    if targets.shape[1] > len(targets):
        raise UserError(
            f"{targets.shape[1]} outputs need as many rows at least. Received: {len(targets)} rows. Take more train "
            "rows, or turn the labels: they are (n, k)."
        )
    return targets


def checked_path(ridges: Sequence[float] | np.ndarray) -> Float64[np.ndarray, " ridges"]:
    """Ridges as an array. Raises `UserError` for negative and other impossible ones."""
    path = np.atleast_1d(np.asarray(ridges, np.float64))
    if path.ndim != 1 or not path.size or not np.isfinite(path).all() or (path < 0).any():
        raise UserError(f"Ridges must be finite numbers of at least 0, one at least. Received: {path.tolist()}.")
    return path


def checked_gram(gram: np.ndarray) -> Float[np.ndarray, "n n"]:
    """K in float32 or float64. Raises `UserError` unless it is square; `GramProblem` looks at its entries."""
    gram = np.asarray(gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise UserError(f"K must be square. Received: shape {gram.shape}.")
    return gram if gram.dtype in (np.float32, np.float64) else gram.astype(np.float64)
