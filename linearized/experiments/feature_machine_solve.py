"""Kernel ridge regression in one metric of a feature machine, with K in memory or streamed from shards.

The rule is that of fixed kernels: the solver follows from the size of a factor of K (`linearized.solvers.auto_gram`),
and a solver that needs only products streams K where K and its basis do not fit in memory together. Then K is written
to the folder of unfinished work, and removed when the iteration is finished. The kernel between validation or test rows
and train rows is computed in tiles while it is multiplied.
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
from linearized.data.dataset import Dataset
from linearized.experiments.grids import own_grid
from linearized.experiments.kernel_record import outputs_of
from linearized.experiments.needs import COPIES
from linearized.experiments.path_solve import solved
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.kernel_ridge.ridge_path import RidgePath
from linearized.problems.gram_problem import fits_with_basis
from linearized.solvers import auto_gram
from linearized.storage.gram import Gram


@dataclasses.dataclass(frozen=True)
class Solved:
    """Kernel ridge regression in one metric, with the outputs of every split at every ridge."""

    metric: np.ndarray
    kernel: StretchedKernel
    path: RidgePath
    outputs: dict[str, np.ndarray]


class MetricSolver:
    """The solutions of one run, each with a folder of its own for shards of K and for the solver's checkpoints.

    Args:
        config: `KernelFitSettings` of one noise level.
        dataset: Rows and labels.
        work: Folder of unfinished work.

    Raises `UserError` if only leave-one-out errors could compare the iterations, and their solver does not fit in
    memory.
    """

    def __init__(self, config: Any, dataset: Dataset, work: Path):
        self._config, self._dataset, self._work = config, dataset, work
        self._train = np.asarray(dataset.train.x)
        self._memory = working_bytes(config.memory)
        self._itemsize = np.dtype(config.dtype).itemsize
        self._solver = config.solver
        if self._solver == "auto" and dataset.validation is None:
            self._solver = "eigh"  # for leave-one-out errors, by which iterations are compared without validation rows
            if self._automatic(len(own_grid())) not in COPIES:
                raise UserError(
                    f"Without validation rows, iterations are compared by leave-one-out errors, whose solver takes "
                    f"{COPIES['eigh'] * len(self._train) ** 2 * self._itemsize / 2**30:,.1f} GiB, and "
                    f"{self._memory / 2**30:,.1f} GiB are to work with. Give --validation=0.2, or raise --memory."
                )

    @contextlib.contextmanager
    def solved(
        self, kernel: StretchedKernel, metric: np.ndarray, ridges: np.ndarray | None, *, name: str, title: str
    ) -> Iterator[Solved]:
        """Yield the solution at every ridge; afterwards remove its folder, unless the block raises an error.

        A killed process's finished tiles of K and checkpoints are used if they are of the same metric.

        Args:
            kernel: Kernel in the metric.
            metric: M (d, d), or its diagonal (d,).
            ridges: Values of ρ; None: the grid in units of the trace of K.
            name: Name of the iteration, for its folder.
            title: The same in words, for the progress line.
        """
        digest = hashlib.blake2b(np.ascontiguousarray(metric).tobytes(), digest_size=8).hexdigest()
        folder = self._work / f"iteration_{name}_{digest}"
        for other in self._work.glob("iteration_*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        matrix = self._matrix(kernel, folder, len(own_grid() if ridges is None else ridges), title)
        if ridges is None:
            trace = matrix.trace() if isinstance(matrix, Gram) else np.diagonal(matrix).sum(dtype=np.float64)
            ridges = float(trace) * own_grid()
        path = solved(
            self._config, self._dataset, matrix, ridges, folder / "solver", solver=self._solver, step=title,
            memory=self._memory,
        )  # fmt: skip
        del matrix
        train = kernel.prepare(self._train)
        blocks = {name: CrossKernel(kernel, np.asarray(split.x), train)
                  for name, split in self._dataset.splits().items() if name != "train"}  # fmt: skip
        outputs = outputs_of(self._dataset, path, blocks)
        del train, blocks
        yield Solved(metric, kernel, path, outputs)
        shutil.rmtree(folder, ignore_errors=True)

    def _automatic(self, num_ridges: int) -> str:
        return auto_gram(len(self._train), self._itemsize, num_ridges, self._memory)[0]

    def _matrix(self, kernel: StretchedKernel, folder: Path, num_ridges: int, title: str) -> np.ndarray | Gram:
        """Return K of the train rows: in memory, or in shards if the solver streams it."""
        n, columns = len(self._train), self._dataset.targets(self._dataset.train).shape[1]
        solver = self._automatic(num_ridges) if self._solver == "auto" else self._solver
        if solver in COPIES or fits_with_basis(n, columns, self._itemsize, self._memory):
            return gram(kernel, self._train)
        size = n * (n + 1) // 2 * self._itemsize
        logging.info("%s: K does not fit in memory and is streamed from %.1f GiB in %s", title, size / 2**30, folder)
        return gram_in_shards(
            folder / "gram", kernel, self._dataset, title=f"{self._config.label()} {title}",
            identity={"kernel": self._config.label(), "iteration": folder.name},
            command=self._config.command_line("linearized krr"),
        )  # fmt: skip
