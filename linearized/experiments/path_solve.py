"""Kernel ridge regression at every ridge of a run, with its progress line, memory limit and checkpoints."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from linearized.base.machine_memory import working_bytes
from linearized.data.dataset import Dataset
from linearized.experiments.step_progress import progress_line
from linearized.kernel_ridge.ridge_path import RidgePath
from linearized.solvers.linear.driver import Watch

if TYPE_CHECKING:
    from linearized.storage.embeddings import Embedding
    from linearized.storage.gram import Gram


def solved(
    config: Any, dataset: Dataset, gram: "Gram | Embedding | np.ndarray", ridges: np.ndarray, work: Path, *,
    solver: str = "", step: str = "", memory: int = 0,
) -> RidgePath:  # fmt: skip
    """Solve (K + ρI)α = y, or the ridge regression on features, at every ridge ρ, and return the solutions.

    Args:
        config: `KernelFitSettings` of the run.
        dataset: Rows and labels.
        gram: K between the train rows, in shards or as an array, which may be overwritten; or, with --features, the
            stored features of all rows (`Embedding`).
        ridges: Values of ρ.
        work: Folder of the solver's checkpoints.
        solver: Name of the solver; "": the solver of the settings.
        step: Name of this linear system in a run that solves several, for the progress line and the key of the
            checkpoints.
        memory: Memory in bytes that a fit of K may use; 0: the value of --memory or, without it, half of the free
            memory.
    """
    solver, title = solver or config.solver, " ".join(filter(None, (config.label(), step)))
    with watched(config, dataset, ridges, work, solver=solver, title=title, step=step) as watch:
        targets = dataset.targets(dataset.train, centred=True)
        common = {"solver": solver, "rtol": config.rtol or None, "max_iterations": config.max_iterations,
                  "watch": watch}  # fmt: skip
        if config.features:
            from linearized.kernel_ridge.embedded_fit import fit_embedding

            path = fit_embedding(gram.splits["train"], targets, ridges, **common)
        else:
            from linearized.kernel_ridge.ridge_path import fit

            path = fit(
                gram, targets, ridges, memory=memory or working_bytes(config.memory),
                scheduler="" if config.on_the_fly else config.scheduler, overwrite=isinstance(gram, np.ndarray),
                rank=config.preconditioner_rank, block_rows=config.block_rows, **common,
            )  # fmt: skip
    logging.info("solved by %s (%s)", path.solver, path.reason)
    return path


@contextlib.contextmanager
def watched(
    config: Any, dataset: Dataset, ridges: np.ndarray, work: Path, *, solver: str, title: str, step: str = ""
) -> Iterator[Watch]:
    """Yield an object that shows the progress of a solver and stores its checkpoints; use it in a `with` block.

    Args:
        config: The `KernelFitSettings`.
        dataset: Rows and labels.
        ridges: Values of ρ.
        work: Folder of the solver's checkpoints.
        solver: Name of the solver.
        title: Name of the linear system in the log and in the progress line.
        step: Name of the system among several of a run, for the key of the checkpoints.
    """
    logging.info("%s: %d train rows, %d ridges %.2g to %.2g", title, len(dataset.train), len(ridges), ridges.min(),
                 ridges.max())  # fmt: skip
    with progress_line(f"{title} by {solver}", config.max_iterations) as report:

        def show(step: int, steps: int, residuals: np.ndarray, left: int) -> None:
            known = np.asarray(residuals)[np.isfinite(residuals)]
            worst = f", worst residual {known.max():.1e}" if known.size else ""
            report(step, f"{left} ridges left{worst}", steps)

        yield Watch(show, work, f"{dataset.fingerprint}-{config.key()}{step}", config.checkpoint_seconds)
