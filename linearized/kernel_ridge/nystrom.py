"""Kernel ridge regression on centres: f(x) = k(x, C) a with m of the n train rows as centres C, for every ridge.

Let K_nC be the kernel between the train rows and the centres, K_CC the kernel between the centres, Y the labels of the
train rows, and ρ a ridge. The coefficients a minimise ‖K_nC a - Y‖² + ρ aᵀK_CC a. This is kernel ridge regression with
the Nyström approximation K_nC K_CC⁻¹ K_Cn in place of the kernel K of all train rows, and ρ has the same unit: with all
rows as centres, a is the solution of (K + ρI)α = Y (Williams & Seeger, NeurIPS 2000; Rudi, Carratino & Rosasco,
"FALKON", NeurIPS 2017).

With K_CC = L Lᵀ and w = Lᵀa, the problem is ridge regression on the m features Φ = K_nC L⁻ᵀ. One pass over blocks b of
the train rows computes K_bC, solves for Φ_b and adds Φ_bᵀΦ_b. A solver for kernel matrices then solves for all ridges
with ΦᵀΦ (m, m), and a second pass computes the predictions. Each pass takes 2 n m d operations for the kernel; Φ and
ΦᵀΦ take 2 n m². Memory holds some m x m matrices (`needed_bytes`); K_nC is never stored.

Both passes can run on workers (`linearized.cluster.tiles`). A worker receives the rows of a block, and returns Φ_bᵀΦ_b,
which has m² numbers. These are added in the order of the rows. The blocks do not depend on the number of workers.
Therefore the sums are equal bit for bit to those of one process, if the number of threads per block is the same. The
centres, K_CC, and the solution for the ridges are computed in this process. Its network limits the number of workers: a
block of b rows takes 2 b m (m + d) operations and returns m² numbers.

Rounding: ΦᵀΦ could also be computed as L⁻¹(K_nCᵀK_nC)L⁻ᵀ. But the rounding error of K_nCᵀK_nC is eps ‖K_nC‖², and the
two divisions by L magnify this error to eps ‖K_nC‖² / λ_min(K_CC). Here each block of K_nC is divided by L first. The
error of the products ΦᵀΦ is then only eps ‖ΦᵀΦ‖ <= eps ‖K‖, in as many operations.

K_CC is computed and factored in float64, with pivots. A centre is left out if its pivot is at most max(10 · eps of the
data type of K_nC, m · eps of float64) times the largest diagonal entry of K_CC. The function of such a centre is, up to
rounding, a linear combination of the functions of the other centres. A division by its pivot would turn rounding errors
of K_nC into features.

Measured on 1,500 images at ridges down to 1e-9 ‖K‖, relative to the root mean square of the predictions: predictions
with K_nC in float32 differ from predictions with K_nC in float64 by up to 5e-4. For kernel ridge regression with K
itself, float32 and float64 differ by 7e-5. With float64 and all rows as centres, predictions differ from those with K
by 2e-8.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.linalg

from kernel_gen.kernel import Kernel
from linearized.base.errors import UserError
from linearized.data.dataset import fingerprint
from linearized.kernel_ridge.centre_choice import CentreChoice, factored
from linearized.kernel_ridge.centre_tiles import Centres, WatchedCrossKernel, equations
from linearized.kernel_ridge.ridge_path import RidgePath, checked_labels, checked_path
from linearized.kernel_ridge.row_passes import RowPasses
from linearized.problems.embedding_problem import of_rows
from linearized.problems.gram_problem import GramProblem
from linearized.settings.run_settings import KERNEL_ITERATIONS
from linearized.solvers import GRAM_SOLVERS, WORKING_COPIES
from linearized.solvers.linear.driver import Progress

RTOL = 1e-7
BLOCK = 2**26  # largest size of K_bC in bytes; a tile of rows where that takes more
BLOCKS = 32  # smallest number of blocks, unless blocks would have fewer rows than a tile
COPIES = {"eigh": 3.0}  # matrices of the size of ΦᵀΦ that a solver needs; WORKING_COPIES where it is not listed


class CentreRegression:
    """Kernel ridge regression f(x) = k(x, C) a, with m of the train rows as centres C.

    The constructor chooses the centres and forms the normal equations in one pass over the train rows. `solve` solves
    them at every ridge.

    Args:
        kernel: Kernel whose parameters are set, for K_nC between the train rows and the centres.
        exact: The same kernel in float64, for K_CC between the centres.
        x: Train rows (n, d).
        y: Labels (n,) or (n, k), which are not centred here.
        choice: How the centres are chosen.
        solver: A solver of `linearized.solvers.GRAM_SOLVERS`, or "auto", which is band.
        memory: Available memory in bytes.
        passes: Checkpoints and progress of the run, and the place where blocks are computed.

    Attributes:
        rows: Indices of the centres in x, (r,); r < m if some centres depend on the others.
        pool: Number of train rows from which the centres were chosen; below n if memory was short for rpcholesky.
        trace: Trace of K, the kernel between all train rows.
        lost: Fraction of the trace that the Nyström approximation loses, (tr K - tr ΦΦᵀ) / tr K, between 0 and 1.

    Raises:
        UserError: For more centres than rows, too little memory, and kernel entries or labels that are not finite.
    """

    def __init__(
        self, kernel: Kernel, exact: Kernel, x: np.ndarray, y: np.ndarray, choice: CentreChoice, *,
        solver: str = "auto", memory: int, passes: RowPasses | None = None,
    ):  # fmt: skip
        self.kernel, self.targets, self._x = kernel, checked_labels(y), x
        self.solver = "band" if solver == "auto" else GRAM_SOLVERS.canonical(solver)
        refuse_large(choice.count, kernel.dtype.itemsize, self.solver, memory)
        self._passes = passes or RowPasses()
        self._passes.place.share(kernel)  # refuses a kernel that cannot be sent to workers before the work begins
        block = BLOCK // (choice.count * kernel.dtype.itemsize)
        self._step = max(kernel.tile, min(block, -(-len(x) // BLOCKS)))  # rows of a block
        self._automatic = solver == "auto"
        chosen, self.pool = choice.centres(kernel, x, memory, self._passes)
        self.rows, self._lower = factored(exact, x, chosen, kernel.dtype)
        self._centres = Centres(kernel, x[self.rows], np.asarray(self._lower, kernel.dtype, order="F"))
        self._shared = self._passes.place.share(self._centres)
        self._square, self._moment, self.trace = self._equations(memory)
        kept = float(np.trace(self._square))
        self.lost = float(np.clip(1 - kept / self.trace, 0, 1)) if self.trace > 0 else 0.0

    def cross(self, name: str, x: np.ndarray) -> WatchedCrossKernel:
        """Return the kernel k(x, C) between rows x (m, d) and the centres, whose products are predictions at x.

        Args:
            name: Name of the rows, such as "test", for the progress and the names of checkpoints.
            x: Rows (m, d).
        """
        return WatchedCrossKernel(self._centres, self._shared, x, passes=self._passes, name=name, step=self._step)

    def solve(
        self, ridges: Sequence[float] | np.ndarray, *, rtol: float | None = None,
        max_iterations: int = KERNEL_ITERATIONS, progress: Progress | None = None,
    ) -> RidgePath:  # fmt: skip
        """Solve the normal equations (ΦᵀΦ + ρI)w = Φᵀy at every ridge ρ, and return the coefficients of the centres.

        It can be called only once, because the solver works in the array of ΦᵀΦ.

        Args:
            ridges: ρ, at least 0, in the unit of kernel ridge regression; not divided by n.
            rtol: The residual ‖Φᵀy - (ΦᵀΦ + ρI)w‖/‖Φᵀy‖ to reach; None: 1e-7.
            max_iterations: Largest number of refinement steps for each ridge; for block_lanczos and cg, of products.
            progress: Function called with (step, steps, residual of each ridge, ridges left); None: none.

        Returns:
            A path whose `alpha` are the coefficients a (ridges, r, k) of the centres: `path.predict(self.cross("new",
            x))` returns predictions. The `predictions` and diagnostics of its solutions belong to the normal equations,
            and not to the train rows; `completed` replaces them.
        """
        ridges, rtol, watch = checked_path(ridges), rtol or RTOL, self._passes.watch
        found = GRAM_SOLVERS.load(self.solver).solve(
            GramProblem(self._square, self._moment, overwrite=True), ridges, rtol=rtol, atol=0.0,
            max_iterations=max_iterations, progress=progress, checkpoint=watch.checkpoint, interval=watch.interval,
            key=f"{watch.key}-{fingerprint(self.rows)}",
        )  # fmt: skip
        self._square = None
        weights = np.concatenate([one.value for one in found], axis=1)
        values = np.ascontiguousarray(scipy.linalg.blas.dtrsm(1.0, self._lower, weights, lower=1, trans_a=1))
        values = np.split(values, len(ridges), axis=1)
        solutions = [one._replace(value=value) for one, value in zip(found, values, strict=True)]
        r = len(self.rows)
        reason = (
            f"one reduction of the {r} x {r} normal equations serves every ridge" if self._automatic else "as asked"
        )
        return RidgePath(ridges, np.stack(values), solutions, self.solver, reason, rtol)

    def completed(self, path: RidgePath) -> RidgePath:
        """Compute the predictions for the train rows and generalised cross-validation at every ridge.

        This takes one pass over the train rows.

        Args:
            path: Result of `solve`.

        Returns:
            A copy of the path whose solutions contain these predictions and GCV errors. The solver's leave-one-out
            errors are removed, because they belong to the normal equations.
        """
        outputs, everyone = path.predict(self.cross("train", self._x)), np.ones(len(self.targets))
        return dataclasses.replace(path, solutions=[
            of_rows(one, output, self.targets, everyone) for one, output in zip(path.solutions, outputs, strict=True)
        ])  # fmt: skip

    def _equations(self, memory: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Return ΦᵀΦ (r, r), ΦᵀY (r, k) and the trace of K, computed in one pass over the train rows.

        Args:
            memory: Available memory in bytes.
        """
        r, itemsize = len(self.rows), self.kernel.dtype.itemsize
        square, moment, trace = np.zeros((r, r)), np.zeros((r, self.targets.shape[1])), np.zeros(1)

        def tile(rows: slice) -> tuple:
            return self._shared, self._x[rows], self.targets[rows], rows.start

        def add(rows: slice, summands: tuple[np.ndarray, np.ndarray, float]) -> None:
            for total, summand in zip((square, moment, trace), summands, strict=True):
                total += summand

        spare = memory - needed_bytes(r, itemsize, self.solver)
        self._passes.over(
            len(self._x), self._step, equations, tile, add, {"square": square, "moment": moment, "trace": trace},
            title="normal equations of the centres, train rows", name="equations", of=fingerprint(self.rows),
            room=spare // (r * r * itemsize),
        )  # fmt: skip
        return square, moment, float(trace[0])


def refuse_large(count: int, itemsize: int, solver: str, memory: int) -> None:
    """Check that a fit on centres fits in memory.

    Args:
        count: Number of centres.
        itemsize: Bytes per entry of the kernel.
        solver: Name of the solver.
        memory: Available memory in bytes.

    Raises:
        UserError: If `needed_bytes` is more than the memory.
    """
    needed = needed_bytes(count, itemsize, solver)
    if needed > memory:
        raise UserError(
            f"--centres={count} takes {needed / 2**30:.1f} GiB with --solver={solver}, and {memory / 2**30:.1f} GiB "
            "are to work with. Lower --centres, or raise --memory."
        )


def needed_bytes(count: int, itemsize: int, solver: str = "band") -> int:
    """Return the memory in bytes that a fit on centres needs, besides the train rows and their predictions.

    The matrices are m x m for m centres: the Cholesky factor L of the kernel between them, and ΦᵀΦ of the features Φ.
    The pass over the train rows needs L and ΦᵀΦ in float64, L and the product Φ_bᵀΦ_b of a block b of rows in the data
    type of the kernel, and the block. The solution needs both copies of L and the solver's copies of ΦᵀΦ. The larger of
    the two sums is returned.

    Args:
        count: Number of centres.
        itemsize: Bytes per entry of the kernel.
        solver: Name of the solver of the normal equations.
    """
    copies = COPIES.get(solver, WORKING_COPIES)
    return int(count**2 * max(16 + 2 * itemsize, 8 + itemsize + 8 * copies)) + BLOCK
