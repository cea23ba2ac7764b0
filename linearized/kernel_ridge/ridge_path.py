"""Kernel ridge regression as a function: (K + ρI)α = Y at every ridge ρ, from one factorisation or Krylov space."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from linearized.base.array_checks import real_array, refuse_not_finite
from linearized.base.errors import UserError
from linearized.base.machine_memory import working_bytes
from linearized.base.shapes import Float, Float64
from linearized.data.dataset import fingerprint
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.problems.gram_problem import GramProblem
from linearized.problems.weighted_problem import Weighted, checked_weights, with_left_out_rows
from linearized.settings.run_settings import KERNEL_ITERATIONS
from linearized.solvers import GRAM_SOLVERS, auto_gram
from linearized.solvers.linear.driver import UNWATCHED, Watch
from linearized.solvers.linear.solution import Solution
from linearized.storage.gram import Gram, Rectangle

ROWS = 1024  # rows of a matrix that are converted to float64 together
COMPUTED = ("askotch", "block_lanczos", "cg", "rpcholesky")  # solvers that need only products with K, or rows of it
OPTIONS = {"rank": ("askotch", "rpcholesky"), "block_rows": ("askotch",)}  # arguments of `fit`, and who reads them
REFINED = ("band", "cholesky", "eigh")  # solvers that refine their solutions in float64 if K is in float32


@dataclasses.dataclass(frozen=True)
class RidgePath:
    """Solutions of kernel ridge regression at several ridges, in the order requested.

    Attributes:
        ridges: ρ of (K + ρI)α = Y, for the kernel K (n, n) between the train rows and their labels Y (n, k).
        alpha: Coefficients α (ridges, n, k).
        solutions: Diagnostics per ridge, see `linearized.solvers.linear.solution.Solution`; a ridge that could not be
            solved is marked by `message` and `converged`, and may contain NaN.
        solver: Name of the solver.
        reason: Reason for the choice of the solver.
        rtol: Requested relative residual ‖Y - (K + ρI)α‖/‖Y‖.
    """

    ridges: Float64[np.ndarray, " ridges"]
    alpha: Float64[np.ndarray, "ridges n k"]
    solutions: list[Solution]
    solver: str
    reason: str
    rtol: float

    def predict(self, gram_test: np.ndarray | Gram | Rectangle | CrossKernel) -> Float64[np.ndarray, "ridges m k"]:
        """Return the predictions for other rows at every ridge, in one pass over their kernel.

        Products are in float64, because α is large at small ridges, and the terms of its products nearly cancel.

        Args:
            gram_test: K between the m other rows and the train rows, (m, n): an array, shards, or a `CrossKernel`,
                which computes its entries in tiles.

        Returns:
            Predictions (ridges, m, k).

        Raises:
            UserError: For another number of columns, and for entries that are not finite.
        """
        ridges, n, k = self.alpha.shape
        multiplies = isinstance(gram_test, Gram | Rectangle | CrossKernel)
        if not multiplies and not hasattr(gram_test, "blocks"):  # rows of features in shards have blocks
            gram_test = real_array(gram_test, "K(test, train)")
        if len(gram_test.shape) != 2 or gram_test.shape[1] != n:
            raise UserError(f"K(test, train) must have a column for each of {n} rows. Received: {gram_test.shape}.")
        stacked = self.alpha.transpose(1, 0, 2).reshape(n, ridges * k)
        if multiplies:
            values = gram_test @ stacked
        else:
            blocks = [gram_test[start : start + ROWS] for start in range(0, len(gram_test), ROWS)]
            for index, block in enumerate(blocks):
                refuse_not_finite(block, f"K(test, train), from row {index * ROWS} on,")
            values = np.concatenate([block @ stacked for block in blocks or [gram_test]])
        return np.ascontiguousarray(values.reshape(-1, ridges, k).transpose(1, 0, 2))


def fit(
    gram: np.ndarray | Gram | ComputedGram, y: np.ndarray, ridges: Sequence[float] | np.ndarray, *,
    sample_weight: np.ndarray | float | None = None, solver: str = "auto",
    rtol: float | None = None, max_iterations: int = KERNEL_ITERATIONS, memory: float | None = None,
    scheduler: str = "", overwrite: bool = False, watch: Watch = UNWATCHED, rank: int = 0,
    block_rows: int = 0,
) -> RidgePath:  # fmt: skip
    """Solve kernel ridge regression, (K + ρI)α = y, at every ridge ρ.

    With weights w the system is (K + ρW⁻¹)α = y with W = diag(w). The fitted function f then minimises Σ_i w_i
    (y_i - f(x_i))² + ρ‖f‖², as in scikit-learn's KernelRidge, and the residual is measured on the system
    (SKS + ρI)β = Sy with S = diag(√w) and α = Sβ. Leave-one-out errors are errors of the labels y, and generalised
    cross-validation is a weighted mean over the rows with weights above 0.

    Args:
        gram: K (n, n), symmetric and positive semi-definite: an array, or shards that `linearized.open_gram` returned,
            which may be larger than memory, or a `ComputedGram`. It is not changed, unless `overwrite`.
        y: Labels (n,) or (n, k), finite. They are not centred here.
        ridges: ρ, at least 0, in any order; not divided by n.
        sample_weight: w, a number for each row (or one for all), at least 0. A row of weight 0 has no influence and
            an α of 0; shards with such rows must fit in memory. None: 1.
        solver: auto, askotch, band, block_lanczos, cg, cholesky, eigh (which computes leave-one-out errors) or
            rpcholesky; see `docs/guides/kernel_ridge.md`.
        rtol: Relative residual ‖y - (K + ρI)α‖/‖y‖ to reach. None: 1e-7 if K is in float64 or solutions are refined in
            float64; otherwise (solvers that multiply by K, in float32) 1e-5, because every digit costs passes over K.
        max_iterations: Largest number of products with K for block_lanczos, cg and rpcholesky, of epochs for askotch,
            and of refinement steps for the other solvers.
        memory: Available memory in bytes; None: half of the free memory.
        scheduler: Address of a Dask scheduler on whose workers products with K are computed; only for block_lanczos and
            cg with a K in shards.
        overwrite: Whether band and cholesky may work in the array `gram` itself, whose entries are then lost; this
            saves n² numbers of memory. Shards are never changed.
        watch: Progress and checkpoints of a long run.
        rank: Rank of the preconditioner of rpcholesky; 0: n/10, or less if its factor would take more than a quarter of
            the memory. For askotch, rank of the approximation of each block; 0: the block itself.
        block_rows: Number of rows of a block of askotch; 0: √(50 n), or fewer in little memory.

    Returns:
        Coefficients and diagnostics at every ridge. A ridge that could not be solved is marked in its `Solution`.

    Raises:
        UserError: If the input is invalid, or no solver can be used.

    Example:
        >>> import numpy as np
        >>> from linearized.kernel_ridge.ridge_path import fit
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 2))
        >>> path = fit(x @ x.T, y, [0.1, 1.0])
        >>> np.allclose(path.alpha[1], np.linalg.solve(x @ x.T + np.eye(30), y))
        True
        >>> path.predict(rng.normal(size=(4, 5)) @ x.T).shape
        (2, 4, 2)
    """
    targets, ridges = checked_labels(y), checked_path(ridges)
    gram = gram if isinstance(gram, Gram | ComputedGram) else checked_gram(gram)
    if gram.shape != (len(targets), len(targets)):
        raise UserError(f"K must have a row and a column for each of {len(targets)} labels. Received: {gram.shape}.")
    memory = checked_memory(memory)
    if sample_weight is None:
        weights = kept = None
        system = gram, targets
    else:
        weights = checked_weights(sample_weight, len(targets))
        kept = weights > 0
        gram = gram if kept.all() else _in_memory(gram, memory)
        system = (gram, targets) if kept.all() else (gram[np.ix_(kept, kept)], targets[kept])
        weights, watch = weights[kept], dataclasses.replace(watch, key=f"{watch.key}-{fingerprint(weights)}")
    n, itemsize = len(system[1]), gram.dtype.itemsize
    name, reason = GRAM_SOLVERS.canonical(solver) if solver != "auto" else "", "as asked"
    if scheduler and name not in ("", "block_lanczos", "cg"):
        raise UserError(f"--solver={name} runs in one process. With --scheduler take block_lanczos or cg.")
    if isinstance(gram, ComputedGram):
        if name not in ("", *COMPUTED):
            raise UserError(f"{name} needs the entries of K: for K that is computed in every product take "
                            f"{', '.join(COMPUTED)}.")  # fmt: skip
        if not name:
            name, reason = "block_lanczos", "K is computed in every product, and it needs the fewest"
    if not name:
        name, reason = auto_gram(n, itemsize, len(ridges), memory, distributed=bool(scheduler))
    options = {option: value for option, value in (("rank", rank), ("block_rows", block_rows)) if value}
    for option, value in options.items():
        if name not in OPTIONS[option]:
            readers = " and ".join(OPTIONS[option])
            raise UserError(f"`{option}` is read by {readers}. Received: {option}={value} with {name}.")
    if rtol is None:
        rtol = 1e-7 if itemsize == 8 or name in REFINED else 1e-5
    with _problem(*system, memory, scheduler, overwrite) as problem:
        problem = problem if weights is None else Weighted(problem, weights)
        solutions = GRAM_SOLVERS.load(name).solve(
            problem,
            ridges,
            rtol=float(rtol),
            atol=0.0,
            max_iterations=max_iterations,
            **vars(watch),
            **options,
        )
    if weights is not None:
        solutions = [problem.unscaled(solution) for solution in solutions]
        if not kept.all():
            columns = gram[:, kept]
            solutions = [with_left_out_rows(solution, kept, columns, targets) for solution in solutions]
    alpha = np.stack([solution.value for solution in solutions])
    return RidgePath(ridges, alpha, solutions, name, reason, float(rtol))


def _in_memory(gram: np.ndarray | Gram | ComputedGram, memory: int) -> np.ndarray:
    """Return K as an array, read from shards or computed. Raises `UserError` if it does not fit in the memory."""
    if isinstance(gram, np.ndarray):
        return gram
    size = gram.shape[0] ** 2 * gram.dtype.itemsize
    if size > memory:
        raise UserError(
            f"Rows of weight 0 are left out of K in memory, which takes {size / 2**30:.1f} GiB. There are "
            f"{memory / 2**30:.1f} GiB. Make shards of the other rows, or give `memory`."
        )
    return gram.to_memory()


@contextlib.contextmanager
def _problem(
    gram: np.ndarray | Gram | ComputedGram, targets: np.ndarray, memory: int, scheduler: str, overwrite: bool
) -> Iterator[GramProblem]:
    """Yield the object with which solvers of (K + ρI)α = Y compute products with K, and close it afterwards.

    Args:
        gram: K (n, n).
        targets: Y (n, k).
        memory: Available memory in bytes.
        scheduler: Address of a Dask scheduler on whose workers the products run; "": they run in this process.
        overwrite: Whether a solver may work in the array `gram` itself.
    """
    if not scheduler:
        yield GramProblem(gram, targets, memory=memory, overwrite=overwrite)
        return
    from linearized.problems.dask_gram import DaskGramProblem

    with contextlib.closing(DaskGramProblem(gram, targets, scheduler=scheduler, memory=memory)) as problem:
        yield problem


def trace_of(gram: np.ndarray | Gram | ComputedGram) -> float:
    """Return the trace of K, summed in float64."""
    return float(np.diagonal(gram).sum(dtype=np.float64)) if isinstance(gram, np.ndarray) else gram.trace()


def checked_labels(y: np.ndarray) -> Float64[np.ndarray, "n k"]:
    """Return labels (n,) or (n, k) as (n, k) in float64.

    Raises:
        UserError: If `y` has another shape, no rows, or entries that are not finite real numbers.
    """
    targets = real_array(y, "Labels", dtype=np.float64)
    targets = targets[:, None] if targets.ndim == 1 else targets
    if targets.ndim != 2 or not targets.size:
        raise UserError(f"Labels must be (n,) or (n, k), with at least one row. Received: shape {np.shape(y)}.")
    if not np.isfinite(targets).all():
        raise UserError(f"The labels are not finite: {np.sum(~np.isfinite(targets))} of {targets.size} entries.")
    return targets


def checked_path(ridges: Sequence[float] | np.ndarray) -> Float64[np.ndarray, " ridges"]:
    """Return ridges as an array in float64. Raises `UserError` if there is none, or one is negative or not finite."""
    path = np.atleast_1d(real_array(ridges, "Ridges", dtype=np.float64))
    if path.ndim != 1 or not path.size or not np.isfinite(path).all() or (path < 0).any():
        raise UserError(f"Ridges must be finite numbers of at least 0, one at least. Received: {path.tolist()}.")
    return path


def checked_gram(gram: np.ndarray) -> Float[np.ndarray, "n n"]:
    """Return K in float32 or float64. Raises `UserError` unless it is square; `GramProblem` checks its entries."""
    gram = real_array(gram, "K")
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise UserError(f"K must be square. Received: shape {gram.shape}.")
    return gram if gram.dtype in (np.float32, np.float64) else gram.astype(np.float64)


def checked_memory(memory: float | None) -> int:
    """Return the available memory in bytes; None stands for half of the free memory.

    Raises:
        UserError: For a negative or infinite number, and for NaN.
    """
    if memory is None:
        return working_bytes()
    if not 0 <= memory < np.inf:
        raise UserError(f"`memory` is a number of bytes of at least 0. Received: {memory}.")
    return int(memory)
