"""Kernel ridge regression with m of the n train rows as centres (Nyström), as one run of `linearized krr --centres=m`.

The fitted function is f(x) = Σ_c k(x, c) a_c over the centres c, see `linearized.kernel_ridge.nystrom`. `fitted`
returns the record of a run and the coefficients of the centres, for given settings and rows. The iterations of a
feature machine (`linearized.experiments.feature_machine_solve`) are such fits, too: `solved_on_centres`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from linearized.base.machine_memory import working_bytes
from linearized.cluster.tiles import Here, OnWorkers
from linearized.data.dataset import Dataset
from linearized.experiments import run as life
from linearized.experiments.kernel_record import outputs_of, scored
from linearized.experiments.path_solve import watched
from linearized.experiments.step_progress import progress_line
from linearized.kernel_ridge.centre_choice import CentreChoice
from linearized.kernel_ridge.nystrom import CentreRegression
from linearized.kernel_ridge.ridge_path import RidgePath
from linearized.kernel_ridge.row_passes import RowPasses
from linearized.solvers.linear.driver import Watch

Ridges = Callable[[Any, Dataset, str, Callable[[], float]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class UsedCentres:
    """The centres of a fit.

    Attributes:
        rows: Indices of the centres among the train rows.
        about: Entry "centres" of the record, see `fitted`.
    """

    rows: np.ndarray
    about: dict[str, Any]

    def added(self, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a record and arrays of a fit with the centres, and with the meaning of the solver's residuals.

        Args:
            record: Record of the fit.
            arrays: Arrays of the fit, by name.
        """
        solver = {**record["solver"], "history": "residual of the normal equations of the centres, relative"}
        return {**record, "solver": solver, "centres": self.about}, {**arrays, "centres": self.rows}


def fitted(
    config: Any, level: int, dataset: Dataset, work: Path, kernel_of: Callable[[Any, Dataset], Any], ridges_of: Ridges,
    place: Here | OnWorkers,
) -> life.Outcome:  # fmt: skip
    """Fit kernel ridge regression on centres at every ridge, and return the record and the arrays of the result.

    The record is the content of `result.json`. It has the entries that `kernel_record.scored` returns, and an entry
    "centres" with these values:

    - `asked`: number of centres that the settings request.
    - `count`: number of centres that are used. Centres that depend linearly on others are left out.
    - `choice` and `seed`: rule by which the centres were chosen, and random-number seed of the choice.
    - `pool`: number of train rows among which the centres were chosen.
    - `trace`: trace of K, the kernel matrix between all train rows.
    - `lost`: fraction of this trace that the trace of the Nyström approximation of K lacks.

    The arrays contain `centres`, the indices of the centres among the train rows, and `alpha`, their coefficients.

    Args:
        config: `KernelFitSettings` of one noise level.
        level: Index of the noise level.
        dataset: Rows and labels.
        work: Folder of checkpoints of the unfinished run.
        kernel_of: Function of (settings, data set) that returns the kernel, with parameters such as a bandwidth
            computed from the train rows.
        ridges_of: Function of (settings, data set, scale of the kernel's inputs, function that returns the trace of K)
            that returns the ridges ρ.
        place: Object that computes blocks of rows, from `linearized.cluster.tiles.places`.
    """
    start = time.monotonic()
    kernels = (kernel_of(config, dataset), kernel_of(dataclasses.replace(config, dtype="float64"), dataset))
    seconds = []

    def ridges(trace: float) -> np.ndarray:
        seconds.append(round(time.monotonic() - start, 3))
        return ridges_of(config, dataset, kernels[0].scale, lambda: trace)

    path, outputs, centres = solved_on_centres(
        config, dataset, kernels, ridges, work, place, memory=working_bytes(config.memory)
    )
    record, arrays = centres.added(*scored(config, level, dataset, path, outputs, kernels[0].scale))
    return life.Outcome({**record, "kernel": {"found": False, "seconds": seconds[0]}}, arrays)


def solved_on_centres(
    config: Any, dataset: Dataset, kernels: tuple[Any, Any], ridges_of: Callable[[float], np.ndarray], work: Path,
    place: Here | OnWorkers, *, memory: int, step: str = "",
) -> tuple[RidgePath, dict[str, np.ndarray], UsedCentres]:  # fmt: skip
    """Solve kernel ridge regression on centres at every ridge, and compute the predictions on every split.

    Args:
        config: `KernelFitSettings` of one noise level.
        dataset: Rows and labels.
        kernels: The kernel, and the same kernel in float64, whose parameters are set.
        ridges_of: Function of the trace of K that returns the ridges ρ.
        work: Folder of checkpoints of these passes and this solution.
        place: Object that computes blocks of rows, from `linearized.cluster.tiles.places`.
        memory: Available memory in bytes.
        step: Name of this fit in a run of several fits, for the progress line and the key of the checkpoints.

    Returns:
        The coefficients of the centres and diagnostics at every ridge; the outputs (ridges, rows, k) of the fitted
        functions by the name of the split; and the centres.
    """
    title = " ".join(filter(None, (config.label(), step)))

    @contextlib.contextmanager
    def phase(what: str, total: int) -> Iterator[Callable[[int], None]]:
        logging.info("%s: %s, %d", title, what, total)
        with progress_line(f"{title}, {what}", total) as report:
            yield report

    watch = Watch(None, work, f"{dataset.fingerprint}-{config.key()}{step}", config.checkpoint_seconds)
    fit = CentreRegression(
        *kernels, np.asarray(dataset.train.x), dataset.targets(dataset.train, centred=True),
        CentreChoice(config.centres, config.centre_choice, config.centre_seed), solver=config.solver, memory=memory,
        passes=RowPasses(watch, phase, place),
    )  # fmt: skip
    ridges = ridges_of(fit.trace)
    with watched(config, dataset, ridges, work, solver=fit.solver, title=title, step=step) as watch:
        path = fit.solve(ridges, rtol=config.rtol or None, max_iterations=config.max_iterations,
                         progress=watch.progress)  # fmt: skip
    path = fit.completed(path)
    blocks = {split: fit.cross(split, np.asarray(rows.x)) for split, rows in dataset.splits().items()
              if split != "train"}  # fmt: skip
    about = {
        "asked": config.centres, "count": len(fit.rows), "choice": config.centre_choice, "seed": config.centre_seed,
        "pool": fit.pool, "trace": fit.trace, "lost": fit.lost,
    }  # fmt: skip
    return path, outputs_of(dataset, path, blocks), UsedCentres(fit.rows, about)
