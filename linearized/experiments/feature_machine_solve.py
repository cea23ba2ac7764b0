"""Kernel ridge regression in one metric of a feature machine, on all train rows or on centres.

On all train rows, the solver is chosen as for fixed kernels, by the size of a factor of the Gram matrix K
(`linearized.solvers.auto_gram`). A solver that needs only products streams K if K and the solver's basis do not fit in
memory together: K is written to the folder of unfinished work, and removed when the iteration is finished. With
`--on_the_fly` nothing is written, and K is computed again in every product. The kernel between validation or test rows
and train rows is computed in blocks of rows and columns during its product with the coefficients.

With `--centres=m`, the fitted function has coefficients for m of the n train rows, and K is never formed. Such a fit
takes 2 n m (m + 2d) operations. A K that is computed in every product takes n² d in each of 30 to 70 products, and its
factorization n³ or more. Each metric has its own kernel, so that none of this work can be shared between iterations.
"""

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from kernel_gen.gram_in_memory import gram
from kernel_gen.gram_in_shards import gram_in_shards
from kernel_gen.kernels.stretched import StretchedKernel
from linearized.base.errors import UserError
from linearized.base.machine_memory import working_bytes
from linearized.cluster.tiles import Here, OnWorkers
from linearized.data.dataset import Dataset
from linearized.experiments.centres_fit import UsedCentres, solved_on_centres
from linearized.experiments.grids import own_grid
from linearized.experiments.kernel_record import outputs_of
from linearized.experiments.needs import COPIES
from linearized.experiments.path_solve import solved
from linearized.kernel_ridge.computed_gram import ComputedGram
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.kernel_ridge.ridge_path import RidgePath, trace_of
from linearized.problems.gram_problem import fits_with_basis
from linearized.solvers import auto_gram
from linearized.storage.gram import Gram


@dataclasses.dataclass(frozen=True)
class Solved:
    """Solution of kernel ridge regression with the kernel k(√M x, √M z) of one metric M.

    Attributes:
        metric: M (d, d), or its diagonal (d,).
        kernel: Kernel in the metric.
        path: Coefficients and diagnostics at every ridge.
        outputs: Outputs (ridges, rows, k) of the fitted functions by the name of the split: train, validation, test.
        centres: Train rows to which the coefficients belong; None: all train rows.
    """

    metric: np.ndarray
    kernel: StretchedKernel
    path: RidgePath
    outputs: dict[str, np.ndarray]
    centres: UsedCentres | None = None


class MetricSolver:
    """Solver of kernel ridge regression with the kernels k(√M x, √M z) of one feature machine.

    The metric M differs between iterations. Each iteration has a folder of its own for the shards of its Gram matrix K
    and for checkpoints.

    Args:
        config: `KernelFitSettings` of one noise level.
        dataset: Rows and labels.
        work: Folder of unfinished work.
        place: Object that computes blocks of rows, from `linearized.cluster.tiles.places`.

    Attributes:
        memory: Available memory in bytes.

    Raises:
        UserError: If the solver that computes leave-one-out errors does not fit in memory, or is excluded by
            `--on_the_fly`. Iterations are compared by these errors if there are no validation rows. (Fits on centres
            are then compared by generalised cross-validation.)
    """

    def __init__(self, config: Any, dataset: Dataset, work: Path, place: Here | OnWorkers):
        self._config, self._dataset, self._work, self._place = config, dataset, work, place
        self._train = np.asarray(dataset.train.x)
        self.memory = working_bytes(config.memory)
        self._itemsize = np.dtype(config.dtype).itemsize
        self._solver = config.solver
        if self._solver == "auto" and dataset.validation is None and not config.centres:
            self._solver = "eigh"  # for leave-one-out errors, by which iterations are compared without validation rows
            if config.on_the_fly:
                raise UserError(
                    "Without validation rows, iterations are compared by leave-one-out errors, whose solver needs K in "
                    "memory. Give --validation=0.2, or leave out --on_the_fly."
                )
            if self._automatic(len(own_grid())) not in COPIES:
                raise UserError(
                    f"Without validation rows, iterations are compared by leave-one-out errors, whose solver takes "
                    f"{COPIES['eigh'] * len(self._train) ** 2 * self._itemsize / 2**30:,.1f} GiB, and "
                    f"{self.memory / 2**30:,.1f} GiB are to work with. Give --validation=0.2 or --centres, or raise "
                    "--memory."
                )

    @contextlib.contextmanager
    def solved(
        self, kernel: StretchedKernel, exact: StretchedKernel | None, metric: np.ndarray, ridges: np.ndarray | None, *,
        name: str, title: str,
    ) -> Iterator[Solved]:  # fmt: skip
        """Yield the solution of one iteration, and remove the iteration's folder after the `with` block.

        The folder stays if the block raises an exception.

        If an earlier process was killed in the iteration of the same name and metric, its checkpoints and the parts of
        K that it finished are used.

        Args:
            kernel: Kernel in the metric.
            exact: The same kernel in float64, for the kernel between centres; None without --centres.
            metric: M (d, d), or its diagonal (d,).
            ridges: Values of ρ of (K + ρI)α = y; None: a grid in units of the trace of K.
            name: Name of the iteration, part of the name of its folder.
            title: Name of the iteration in words, for the progress line.
        """
        digest = hashlib.blake2b(np.ascontiguousarray(metric).tobytes(), digest_size=8).hexdigest()
        folder = self._work / f"iteration_{name}_{digest}"
        for other in self._work.glob("iteration_*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        if exact is None:
            yield Solved(metric, kernel, *self._on_rows(kernel, ridges, folder, title))
        else:
            path, outputs, centres = solved_on_centres(
                self._config, self._dataset, (kernel, exact),
                lambda trace: trace * own_grid() if ridges is None else ridges, folder, self._place,
                memory=self.memory, step=title,
            )  # fmt: skip
            yield Solved(metric, kernel, path, outputs, centres)
        shutil.rmtree(folder, ignore_errors=True)

    def _on_rows(
        self, kernel: StretchedKernel, ridges: np.ndarray | None, folder: Path, title: str
    ) -> tuple[RidgePath, dict[str, np.ndarray]]:
        """Return the solution with coefficients for all train rows, and its outputs by the name of the split.

        Args:
            kernel: Kernel in the metric of the iteration.
            ridges: Values of ρ of (K + ρI)α = y; None: a grid in units of the trace of K.
            folder: Folder of the iteration.
            title: Name of the iteration in words, for the progress line.
        """
        matrix = self._matrix(kernel, folder, len(own_grid() if ridges is None else ridges), title)
        ridges = trace_of(matrix) * own_grid() if ridges is None else ridges
        path = solved(
            self._config, self._dataset, matrix, ridges, folder / "solver", solver=self._solver, step=title,
            memory=self.memory,
        )  # fmt: skip
        del matrix
        train = kernel.prepare(self._train)
        blocks = {name: CrossKernel(kernel, np.asarray(split.x), train)
                  for name, split in self._dataset.splits().items() if name != "train"}  # fmt: skip
        return path, outputs_of(self._dataset, path, blocks)

    def _automatic(self, num_ridges: int) -> str:
        return auto_gram(len(self._train), self._itemsize, num_ridges, self.memory)[0]

    def _matrix(
        self, kernel: StretchedKernel, folder: Path, num_ridges: int, title: str
    ) -> np.ndarray | Gram | ComputedGram:
        """Return K between the train rows: an array or, if K does not fit in memory, a `Gram` in shards on disk.

        With --on_the_fly it is a `ComputedGram`, which the solver holds in memory if it fits there.

        Args:
            kernel: Kernel in the metric of the iteration.
            folder: Folder of the iteration, below which shards are written.
            num_ridges: Number of ridges, which affects the choice of the solver.
            title: Name of the iteration in words, for the progress line.
        """
        if self._config.on_the_fly:
            return ComputedGram(kernel, self._train, self._place)
        n, columns = len(self._train), self._dataset.targets(self._dataset.train).shape[1]
        solver = self._automatic(num_ridges) if self._solver == "auto" else self._solver
        if solver in COPIES or fits_with_basis(n, columns, self._itemsize, self.memory):
            return gram(kernel, self._train)
        size = n * (n + 1) // 2 * self._itemsize
        logging.info("%s: K does not fit in memory and is streamed from %.1f GiB in %s", title, size / 2**30, folder)
        return gram_in_shards(
            folder / "gram", kernel, self._dataset, title=f"{self._config.label()} {title}",
            identity={"kernel": self._config.label(), "iteration": folder.name},
            command=self._config.command_line("linearized krr"),
        )  # fmt: skip
